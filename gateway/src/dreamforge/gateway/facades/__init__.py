"""Interfaces that other programs speak, on top of the same jobs: each translates, and holds no rule of its own."""
