"""Requests from pictures: what was read in one becomes a request that can be submitted here."""
