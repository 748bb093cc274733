"""`dreamforge doctor`: what is wrong with this installation, and what to do."""

from dataclasses import asdict
from typing import Annotated

import typer
from rich.text import Text

from dreamforge.cli import settings as cli_settings
from dreamforge.cli.console import Json, emit, out, printable, run
from dreamforge.cli.doctor.findings import Finding, Severity, has_fault
from dreamforge.cli.failure import Exit
from dreamforge.cli.stack_record import read_record

STYLES = {Severity.OK: "green", Severity.NOTE: "dim", Severity.WARNING: "yellow", Severity.FAULT: "bold red"}
CHECK_COLUMNS = 13
SEVERITY_COLUMNS = 8


def doctor(
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print warnings and faults only.")] = False,
    json: Json = False,
) -> None:
    """Say what is wrong with this installation, and what to do about it.

    Changes nothing. Looks at settings, the state folder, the disk and what fsync costs there, memory, the kernel's
    sandbox, the clock, cards and drivers, and at NATS, Postgres, the object store, the gateway and the services, where
    they run. Exit code 1 when there is a fault.

    Examples:

      dreamforge doctor
      FORGE_GATEWAY_URL=https://forge.example.com dreamforge doctor --quiet
    """
    found = run(_examine(quiet=quiet, shown=not json))
    if json:
        emit([asdict(finding) for finding in found])
    if has_fault(found):
        raise typer.Exit(Exit.FAILED)


async def _examine(*, quiet: bool, shown: bool) -> list[Finding]:
    from dreamforge.cli.doctor.run import examine

    given = cli_settings.from_environment()
    record = read_record(given.state_dir)
    found: list[Finding] = []
    async for finding in examine(cli_settings.load(), given, record):
        if quiet and finding.severity in (Severity.OK, Severity.NOTE):
            continue
        found.append(finding)
        if shown:
            out.print(line_of(finding), soft_wrap=True)
    if shown:
        out.print(summary_of(found), style="dim")
    return found


def line_of(finding: Finding) -> Text:
    """One finding as a person reads it: its kind, what it is about, the fact, and below it what to do."""
    text = Text.assemble(
        (f"{finding.severity:<{SEVERITY_COLUMNS}}", STYLES[finding.severity]),
        (f"{finding.check:<{CHECK_COLUMNS}}", "dim"),
        printable(finding.fact),
    )
    if finding.remedy:
        text.append(f"\n{'':{SEVERITY_COLUMNS + CHECK_COLUMNS}}try  ", style="green")
        text.append(printable(finding.remedy))
    return text


def summary_of(findings: list[Finding]) -> str:
    """How many there are of each kind that asks for something.

    >>> summary_of([]), summary_of([Finding("disk", Severity.FAULT, "full")])
    ('no fault, no warning', '1 fault, no warning')
    """
    counts = {kind: sum(each.severity is kind for each in findings) for kind in (Severity.FAULT, Severity.WARNING)}
    return ", ".join(f"{count or 'no'} {kind}{'s' * (count > 1)}" for kind, count in counts.items())
