"""Server-sent events: one reader of the log, one subscription for each client."""
