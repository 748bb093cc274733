"""`dreamforge audit`: who did what, and from where. It reads the log itself, as operators can."""

import asyncio
from typing import Annotated

import typer

from dreamforge.cli import settings as cli_settings
from dreamforge.cli.client.event_log import connect_bus
from dreamforge.cli.commands.events import parse_start
from dreamforge.cli.console import Json, emit, emit_line, one_line, out, run
from dreamforge.cli.failure import CommandError, Exit
from dreamforge.contracts.audit import AuditEntry
from dreamforge.runtime import clock
from dreamforge.runtime.log.audit_reader import AuditCursor, AuditReader

PAGE_ENTRIES = 500
LOOK_SECONDS = 1.0
NAME_PREFIX = "dreamforge."


def audit(
    since: Annotated[
        str, typer.Option(metavar="TIME", help="A time (2026-01-31T12:00Z) or how long ago (10m, 2h, 7d).")
    ] = "1d",
    tenant: Annotated[str | None, typer.Option(help="Only what was done to this tenant, or by it.")] = None,
    actor: Annotated[
        str | None, typer.Option(help="Only what this one did: the id of a key, or the subject of a sign-in.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")] = False,
    json: Json = False,
) -> None:
    """Show who did what, and from where: jobs, keys, models, queues, tenants, sign-ins, refused credentials.

    Examples:

      dreamforge audit --since 2h --tenant studio-a
      dreamforge audit --follow --json
    """
    run(_print(since, tenant, actor, follow=follow, json=json))


async def _print(since: str, tenant: str | None, actor: str | None, *, follow: bool, json: bool) -> None:
    from dreamforge.runtime.storage.job_archive import archive_reader

    start = parse_start(since, clock.now(), option="--since")
    if isinstance(start, int):
        hint = "write a time (2026-01-31T12:00Z) or how long ago (10m, 2h, 1d)"
        raise CommandError(f"--since is {since!r}", Exit.REFUSED, hint=hint)
    found: list[AuditEntry] = []
    settings = cli_settings.load()
    async with connect_bus(settings) as bus:
        reader, cursor = AuditReader(bus, archive_reader(settings)), AuditCursor(start)
        while True:
            page = await reader.page(cursor, limit=PAGE_ENTRIES, tenant=tenant, actor=actor)
            cursor = page.cursor
            if json and not follow:
                found += page.entries
            for entry in page.entries:
                if json and follow:
                    emit_line(entry)
                elif not json:
                    out.print(line_of(entry), soft_wrap=True)
            if page.more:
                continue
            if not follow:
                break
            await asyncio.sleep(LOOK_SECONDS)
    if json:
        emit(found)


def line_of(entry: AuditEntry) -> str:
    """One entry as one line."""
    who = entry.actor
    name = "unknown" if who is None else who.id or who.kind
    where = f" from {who.address}" if who is not None and who.address else ""
    of = f" of {who.tenant}" if who is not None and who.tenant else ""
    action = entry.action.removeprefix(NAME_PREFIX).rpartition(".")[0]
    details = " ".join(f"{key}={value}" for key, value in entry.details.items())
    tenant = entry.tenant or "-"
    return one_line(
        f"{entry.at:%Y-%m-%d %H:%M:%S}  {action:28}  {tenant:16}  {entry.entity_id}  by {name}{of}{where}  {details}"
    )
