"""The model aggregate: descriptors, descriptor files, and the decisions about them. Pure."""
