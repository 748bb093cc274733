"""Model files: where they come from, their download, and the models folder of this machine."""
