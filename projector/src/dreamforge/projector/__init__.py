"""Folds the log into the Postgres read tables: batches in, rows and checkpoint out in one transaction."""
