"""`dreamforge archive`: the events of jobs that ended long ago, which are in the object store."""

import dataclasses

import typer
from rich.table import Table

from dreamforge.cli import settings as cli_settings
from dreamforge.cli.commands.projection import guarded
from dreamforge.cli.console import Json, emit, out, run
from dreamforge.cli.local_parts import require_local_parts

app = typer.Typer(
    help="Events of old jobs, in the object store: status.", no_args_is_help=True, rich_markup_mode="rich"
)


@app.callback()
def group() -> None:
    """Events of old jobs, in the object store: status."""


@app.command()
def status(json: Json = False) -> None:
    """Show how many jobs are in the archive and in the log, and what they take there.

    Example: dreamforge archive status
    """
    require_local_parts()
    from dreamforge.projector.maintenance.archive_status import archive_status

    found = run(guarded(archive_status, cli_settings.load()))
    if json:
        emit(dataclasses.asdict(found))
        return
    oldest = f", the oldest of {found.oldest_ended_at:%Y-%m-%d %H:%M}" if found.oldest_ended_at else ""
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, value in (
        ("archived jobs", str(found.archived_jobs)),
        ("ended jobs in the log", f"{found.ended_jobs_in_log}{oldest}"),
        ("objects", f"{found.objects}, {found.object_bytes / 2**20:.1f} MiB, {found.unfinished_objects} unfinished"),
        ("log", f"{found.log_messages} messages under {found.log_subjects} subjects"),
    ):
        table.add_row(name, value)
    out.print(table)
