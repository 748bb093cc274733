"""`dreamforge status` and `dreamforge env`: the processes and the settings of the stack of this folder."""

from dataclasses import asdict
from shlex import quote
from typing import Annotated, Any

import typer

from dreamforge.cli.console import Json, emit, err, one_line, out, printable, run
from dreamforge.cli.failure import CommandError, Exit
from dreamforge.cli.service_settings import RUNNING_STACK, effective_settings, require_valid, unknown_settings
from dreamforge.cli.settings import from_environment
from dreamforge.cli.stack.ready import readiness_of
from dreamforge.cli.stack.show import stack_table
from dreamforge.cli.stack_record import SERVERS, StackRecord, read_record
from dreamforge.cli.tables import table_of


def status(json: Json = False) -> None:
    """Show the stack of this folder: every process with its address and pid, and what is not ready.

    With --json, the content of .forge/stack.json without its credentials, and what /readyz of each service says.
    """
    record = running_stack()
    services = {each.name: each.address for each in record.processes if each.name not in SERVERS}
    readiness = run(readiness_of(services))
    if json:
        emit(record.model_dump(mode="json", exclude={"settings", "identity"}) | {"readiness": readiness})
        return
    out.print(stack_table(record))
    if not record.ready:
        out.print("still starting", style="yellow")
    for name, answer in readiness.items():
        for line in troubles(name, answer):
            out.print(line, style="yellow", markup=False)


def troubles(service: str, readiness: dict[str, Any]) -> list[str]:  # Any: JSON
    """What a person should know of an answer of /readyz, one line each.

    >>> troubles("gateway", {"ready": False, "checks": {"nats": "away", "s3": "ok"}, "clock_skew_seconds": -300.0})
    ['gateway is not ready: nats: away', "gateway: this machine's clock is 300.0 s behind the log's"]
    """
    reasons = [f"{name}: {reason}" for name, reason in readiness.get("checks", {}).items() if reason != "ok"]
    lines = [f"{service} is not ready: {'; '.join(reasons)}"] if reasons else []
    if skew := float(readiness.get("clock_skew_seconds", 0.0)):
        lines.append(
            f"{service}: this machine's clock is {abs(skew)} s {'ahead of' if skew > 0 else 'behind'} the log's"
        )
    return lines


def env(
    settings: Annotated[
        bool, typer.Option("--settings", help="Show every setting, its value and where it is from; no stack needed.")
    ] = False,
    json: Json = False,
) -> None:
    """Print the FORGE_* variables of the running stack for a shell, including credentials.

    Behind them, as comments: every setting that is not at its default, and where it is from. With --settings or
    --json, every setting instead, without credentials; exit code 2 if one of them is wrong.

    Examples:

      eval "$(dreamforge env)" && nats --server "$FORGE_NATS_URL" stream ls
      dreamforge env --settings
    """
    if settings or json:
        _print_settings(as_json=json)
        return
    record = running_stack()
    for name, value in {**record.settings, "FORGE_GATEWAY_URL": record.gateway_url}.items():
        out.file.write(f"export {name}={quote(value)}\n")
    for each in effective_settings():
        if each.origin not in ("default", RUNNING_STACK):
            out.file.write(f"# {each.name}={one_line(printable(each.value))}  ({each.origin})\n")


def _print_settings(*, as_json: bool) -> None:
    """Errors: InvalidSettings when one is wrong, after all were printed."""
    found = effective_settings()
    if as_json:
        emit([asdict(each) for each in found])
    else:
        table = table_of("setting", "value", "from", "read by")
        for each in found:
            style = "" if each.origin == "default" else "bold"
            table.add_row(each.name, each.value, each.origin, ", ".join(each.services), style=style)
        out.print(table)
    for name in unknown_settings():
        err.print(f"{name} is not a setting", style="yellow")
    require_valid()


def running_stack() -> StackRecord:
    """The stack of this folder. Errors: CommandError when none runs."""
    state_dir = from_environment().state_dir
    record = read_record(state_dir)
    if record is None:
        raise CommandError(
            "no stack runs in this folder",
            Exit.UNAVAILABLE,
            {"folder": str(state_dir.absolute())},
            "start it with `dreamforge up`; `dreamforge env --settings` shows the settings",
        )
    return record
