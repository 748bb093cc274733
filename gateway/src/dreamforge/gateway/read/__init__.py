"""Reads of the projected tables, and the replies made of them."""
