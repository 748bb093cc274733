"""Requests that are read from pictures: one file a program, each from the metadata of a picture to the same value."""
