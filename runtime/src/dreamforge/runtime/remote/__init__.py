"""Runners on other machines: how they are let in, prove who they are, and store what they render."""
