"""`dreamforge projection`: status, rebuild, verification and migration of the read tables."""

import dataclasses
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import typer
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from dreamforge.cli import settings as cli_settings
from dreamforge.cli.console import Json, emit, err, out, run
from dreamforge.cli.failure import CommandError, Exit
from dreamforge.cli.local_parts import require_local_parts
from dreamforge.cli.settings import CliSettings
from dreamforge.contracts.errors import DependencyAway

if TYPE_CHECKING:
    from dreamforge.projector.maintenance.progress import MaintenanceProgress
    from dreamforge.projector.maintenance.verify import Verified

app = typer.Typer(
    help="The read tables: status, rebuild, verify, migrate.", no_args_is_help=True, rich_markup_mode="rich"
)
T = TypeVar("T")


@app.command()
def status(json: Json = False) -> None:
    """Show how far the read tables are behind the log."""
    require_local_parts()
    from dreamforge.projector.maintenance.status import status as ask

    found = run(guarded(ask, cli_settings.load()))
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
    if found.other_log:
        raise CommandError(found.other_log, Exit.FAILED)


@app.command()
def rebuild(json: Json = False) -> None:
    """Build the read tables again from sequence 0, while the old ones serve.

    The new tables replace the old ones in one transaction.
    """
    require_local_parts()
    from dreamforge.projector.maintenance.rebuild import rebuild as build_again

    with _progress(quiet=json) as on_progress:
        done = run(guarded(lambda settings: build_again(settings, on_progress), cli_settings.load()))
    if json:
        emit(dataclasses.asdict(done))
    else:
        held = f"the old tables were not updated for {done.held_seconds:.2f} s"
        out.print(f"rebuilt from {done.events} events in {done.seconds:.1f} s; {held}")


@app.command()
def verify(json: Json = False) -> None:
    """Check that the read tables are the fold of the log: fold it again, compare every row.

    Exit code 1 when they differ; the first differing row is shown.
    """
    require_local_parts()
    from dreamforge.projector.maintenance.verify import verify as compare

    with _progress(quiet=json) as on_progress:
        found = run(guarded(lambda settings: compare(settings, on_progress), cli_settings.load()))
    if json:
        emit(dataclasses.asdict(found) | {"equal": found.equal})
    else:
        _print_comparison(found)
    if not found.equal:
        hint = "keep a copy of the tables for analysis, then `dreamforge projection rebuild`"
        raise CommandError("the read tables are not the fold of the log", Exit.FAILED, _difference(found), hint)


def _print_comparison(found: "Verified") -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("table", "rows", "fresh fold", "equal"):
        table.add_column(column, justify="right" if column in ("rows", "fresh fold") else "left")
    for proof in found.tables:
        verdict = Text("yes", style="green") if proof.equal else Text("no", style="red")
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
    """Migrate the read database to the schema of this release; does nothing if it has it."""
    require_local_parts()
    from sqlalchemy.exc import OperationalError

    from dreamforge.migrations import current, upgrade

    url = cli_settings.load().database_url.get_secret_value()
    try:
        upgrade(url)
        version = current(url)
    except OperationalError as error:
        raise _postgres_unavailable(error) from error
    emit({"version": version}) if json else out.print(f"the read database is at version {version}")


async def guarded(work: Callable[[CliSettings], Awaitable[T]], settings: CliSettings) -> T:
    """Raise an unavailable Postgres as DependencyAway."""
    import psycopg

    try:
        return await work(settings)
    except psycopg.OperationalError as error:
        raise _postgres_unavailable(error) from error


def _postgres_unavailable(error: Exception) -> DependencyAway:
    return DependencyAway(dependency="postgres", reason=str(error).partition("\n")[0])


@contextmanager
def _progress(*, quiet: bool) -> "Iterator[Callable[[MaintenanceProgress], None]]":
    """A progress bar; nothing with --json or without a terminal."""
    columns = (
        TextColumn("{task.description:<10}", markup=False),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} events"),
    )
    with Progress(*columns, console=err, disable=quiet or not err.is_terminal) as bar:
        task = bar.add_task("starting", total=None)

        def show(progress: "MaintenanceProgress") -> None:
            bar.update(task, description=progress.stage, completed=progress.sequence, total=progress.target or None)

        yield show
