"""The runner: takes assignments, runs diffusers in a child process, stores images."""
