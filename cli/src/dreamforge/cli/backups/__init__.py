"""A copy of an installation on a disk: made while it runs, checked, and put back."""
