"""Rebuild, verification and status of the read tables, and collection of objects that no table refers to."""
