"""The whole of Dream Forge on one machine: servers and services as children that cannot outlive us."""
