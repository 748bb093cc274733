"""Rebuild, verify, status and garbage collection of what the projection stands for."""
