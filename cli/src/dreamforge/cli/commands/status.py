"""`dreamforge status` and `dreamforge env`: the processes and the settings of the stack of this folder."""

from dreamforge.cli.console import Json, emit, out
from dreamforge.cli.failure import CommandError, Exit
from dreamforge.cli.settings import from_environment
from dreamforge.cli.stack.show import stack_table
from dreamforge.cli.stack_record import StackRecord, read_record


def status(json: Json = False) -> None:
    """Show the stack of this folder: every process with its address and pid.

    With --json, the content of .forge/stack.json without its credentials.
    """
    record = running_stack()
    if json:
        emit(record.model_dump(mode="json", exclude={"settings", "identity"}))
    else:
        out.print(stack_table(record))
        if not record.ready:
            out.print("still starting", style="yellow")


def env() -> None:
    """Print the FORGE_* variables of the running stack for a shell, including credentials.

    Example: eval "$(dreamforge env)" && nats --server "$FORGE_NATS_URL" stream ls
    """
    record = running_stack()
    for name, value in {**record.settings, "FORGE_GATEWAY_URL": record.gateway_url}.items():
        out.file.write(f"export {name}='{value}'\n")


def running_stack() -> StackRecord:
    """The stack of this folder. Errors: CommandError when none runs."""
    state_dir = from_environment().state_dir
    record = read_record(state_dir)
    if record is None:
        raise CommandError(
            "no stack runs in this folder",
            Exit.UNAVAILABLE,
            {"folder": str(state_dir.absolute())},
            "start it: dreamforge up",
        )
    return record
