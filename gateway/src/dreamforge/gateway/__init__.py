"""The door: REST, SSE and the web studio."""
