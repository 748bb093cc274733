"""What the services of Dream Forge agree on: events, decisions, subjects, limits. Pydantic only, no I/O."""
