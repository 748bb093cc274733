"""systemd units for a stack and for a runner: their text, and the manager that runs them."""
