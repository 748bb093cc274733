"""Commands that the command tells its user to type next."""

import os

from dreamforge.cli.settings import arguments


def next_command(words: str) -> str:
    """A command as it works here: started as this one was, and for the same gateway."""
    # uv sets UV for its children; a user who started this through uv has no `dreamforge` on PATH in another shell.
    prefix = "uv run " if "UV" in os.environ else ""
    gateway = arguments().get("gateway_url", "")
    return f"{prefix}dreamforge {words}" + (f" --gateway {gateway}" if gateway else "")
