"""Batches on the command line: options, references, progress."""
