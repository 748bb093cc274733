"""The dreamforge command."""
