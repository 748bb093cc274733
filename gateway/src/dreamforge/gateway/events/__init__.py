"""Server-sent events: one position of the log, one subscription for each client."""
