"""This machine, asked without torch: its devices, its memory, and the environment of the libraries."""
