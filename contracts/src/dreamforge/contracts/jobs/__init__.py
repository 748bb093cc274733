"""The job aggregate: its state, its commands and the decisions that answer them. Pure."""
