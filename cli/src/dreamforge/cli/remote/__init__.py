"""A runner on this machine for a stack on another one: `dreamforge runner join`."""
