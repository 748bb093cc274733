"""Who runs what, where, and why: a pure plan over the folded log."""
