"""Picture files as values: formats, and the metadata in them. Pure functions over bytes, without decoding a pixel."""
