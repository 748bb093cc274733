"""The gateway's routes, by topic."""
