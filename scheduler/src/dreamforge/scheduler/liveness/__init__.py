"""Which runners and schedulers are alive, and what happens to attempts whose runner is not."""
