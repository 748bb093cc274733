"""From events to row changes. Pure."""
