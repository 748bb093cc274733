"""Folds the log into the Postgres read tables: a batch of events becomes rows and a checkpoint in one transaction."""
