"""All of Dream Forge on one machine: servers and services as child processes that end with their parent."""
