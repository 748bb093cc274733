"""Model files: where they come from, and how they get to this machine whole."""
