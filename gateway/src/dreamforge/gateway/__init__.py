"""The HTTP side of Dream Forge: REST, server-sent events and the web studio."""
