"""Reads and writes the read tables: row changes and checkpoint in one transaction."""
