"""Render features, one file each."""
