"""Paints: takes its assignments, runs diffusers in a child process, stores pictures."""
