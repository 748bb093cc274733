"""How the command reaches the gateway and the log."""
