"""`dreamforge projection`: the read tables, as the fold of the log that they are."""

import dataclasses
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import typer
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from dreamforge.cli import settings as cli_settings
from dreamforge.cli.commands.up import require_local_parts
from dreamforge.cli.console import Json, emit, err, out, run
from dreamforge.cli.failure import CommandError, Exit
from dreamforge.cli.settings import CliSettings
from dreamforge.contracts.errors import DependencyAway

if TYPE_CHECKING:
    from dreamforge.projector.maintenance.progress import MaintenanceProgress
    from dreamforge.projector.maintenance.verify import Verified

app = typer.Typer(
    help="The read tables: where they stand, made anew, proved.", no_args_is_help=True, rich_markup_mode="rich"
)
T = TypeVar("T")


@app.command()
def status(json: Json = False) -> None:
    """Show how far the read tables are behind the log."""
    require_local_parts()
    from dreamforge.projector.maintenance.status import status as ask

    found = run(_guarded(ask, cli_settings.load()))
    if json:
        lags = {each.stream: each.lag_messages for each in found.streams}
        emit(dataclasses.asdict(found) | {"lag_messages": lags})
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("stream", "log", "tables", "behind", "moved"):
        table.add_column(column, justify="left" if column in ("stream", "moved") else "right")
    for each in found.streams:
        moved = f"{each.moved_at:%Y-%m-%d %H:%M:%S}" if each.moved_at else "never"
        table.add_row(each.stream, str(each.last_sequence), str(each.checkpoint), str(each.lag_messages), moved)
    out.print(table)
    work = ", a rebuild or verification is running" if found.maintenance else ""
    out.print(f"{found.writing} projector writes, {found.standing_by} stand by{work}", style="dim")


@app.command()
def rebuild(json: Json = False) -> None:
    """Throw the read tables away and fold them anew from sequence 0, while the old ones serve.

    The new tables take the place of the old ones in one transaction.
    """
    require_local_parts()
    from dreamforge.projector.maintenance.rebuild import rebuild as fold_anew

    with _progress(quiet=json) as on_progress:
        done = run(_guarded(lambda settings: fold_anew(settings, on_progress), cli_settings.load()))
    if json:
        emit(dataclasses.asdict(done))
    else:
        held = f"the old tables stood still for {done.held_seconds:.2f} s"
        out.print(f"rebuilt from {done.events} events in {done.seconds:.1f} s; {held}")


@app.command()
def verify(json: Json = False) -> None:
    """Prove that the read tables are the fold of the log: fold it afresh, compare every row.

    Exit code 1 when they differ; the first row that does is shown.
    """
    require_local_parts()
    from dreamforge.projector.maintenance.verify import verify as prove

    with _progress(quiet=json) as on_progress:
        found = run(_guarded(lambda settings: prove(settings, on_progress), cli_settings.load()))
    if json:
        emit(dataclasses.asdict(found) | {"equal": found.equal})
    else:
        _show_proof(found)
    if not found.equal:
        hint = "keep the tables for whoever looks into it, then `dreamforge projection rebuild`"
        raise CommandError("the read tables are not the fold of the log", Exit.FAILED, _difference(found), hint)


def _show_proof(found: "Verified") -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("table", "rows", "fresh fold", "equal"):
        table.add_column(column, justify="right" if column in ("rows", "fresh fold") else "left")
    for proof in found.tables:
        verdict = "[green]yes[/]" if proof.equal else "[red]no[/]"
        table.add_row(proof.table, str(proof.live_rows), str(proof.fresh_rows), verdict)
    out.print(table)
    out.print("at " + ", ".join(f"{stream} {place}" for stream, place in found.places.items()), style="dim")


def _difference(found: "Verified") -> dict[str, str]:
    first = found.first_difference
    if first is None:
        return {}
    place = ", ".join(f"{name} {value}" for name, value in first.key.items())
    row = "missing in the tables" if first.live is None else "not in the log" if first.fresh is None else ""
    return {"table": first.table, "first row": f"{place} {row}".strip(), "columns": ", ".join(first.columns())}


@app.command()
def migrate(json: Json = False) -> None:
    """Bring the read database to this release's schema; does nothing where it is there."""
    require_local_parts()
    from sqlalchemy.exc import OperationalError

    from dreamforge.migrations import current, upgrade

    url = cli_settings.load().database_url.get_secret_value()
    try:
        upgrade(url)
        version = current(url)
    except OperationalError as error:
        raise _postgres_away(error) from error
    emit({"version": version}) if json else out.print(f"the read database is at version {version}")


async def _guarded(work: Callable[[CliSettings], Awaitable[T]], settings: CliSettings) -> T:
    """Postgres being away is an error of ours, as NATS is."""
    import psycopg

    try:
        return await work(settings)
    except psycopg.OperationalError as error:
        raise _postgres_away(error) from error


def _postgres_away(error: Exception) -> DependencyAway:
    return DependencyAway(dependency="postgres", reason=str(error).partition("\n")[0])


@contextmanager
def _progress(*, quiet: bool) -> "Iterator[Callable[[MaintenanceProgress], None]]":
    """A bar for work that takes a while; nothing where scripts read or no terminal is."""
    columns = (TextColumn("{task.description:<10}"), BarColumn(), TextColumn("{task.completed}/{task.total} events"))
    with Progress(*columns, console=err, disable=quiet or not err.is_terminal) as bar:
        task = bar.add_task("starting", total=None)

        def show(progress: "MaintenanceProgress") -> None:
            bar.update(task, description=progress.stage, completed=progress.sequence, total=progress.target or None)

        yield show
