"""Whether this installation has the servers and services of a stack; a remote client has the command alone."""

from importlib.util import find_spec

from dreamforge.cli.failure import CommandError

# A remote client has none of these packages; a local stack needs all of them.
LOCAL_PARTS = ("dreamforge.gateway", "dreamforge.scheduler", "dreamforge.gpu_runner", "dreamforge.projector", "psycopg")


def require_local_parts() -> None:
    """Errors: CommandError when the command is installed without servers and services."""
    if missing := [name for name in LOCAL_PARTS if find_spec(name) is None]:
        hint = "pip install 'dreamforge-cli[local]', or run `task setup` in a checkout"
        raise CommandError("this installation cannot run a stack", facts={"missing": ", ".join(missing)}, hint=hint)
