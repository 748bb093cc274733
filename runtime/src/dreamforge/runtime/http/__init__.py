"""HTTP requests to servers that others name."""
