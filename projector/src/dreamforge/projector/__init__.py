"""Folds the log into the Postgres read tables."""
