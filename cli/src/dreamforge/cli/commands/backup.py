"""`dreamforge backup` and `dreamforge restore`: a copy of an installation on a disk, and back."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dreamforge.cli.backups.progress import OnProgress
from dreamforge.cli.console import Json, emit, err, out, run
from dreamforge.cli.failure import CommandError, Exit
from dreamforge.cli.next_command import next_command
from dreamforge.cli.settings import from_environment
from dreamforge.cli.stack_record import read_record
from dreamforge.contracts.readable_sizes import readable_size

if TYPE_CHECKING:
    from dreamforge.cli.backups.create import BackupDone
    from dreamforge.cli.backups.restore import RestoreDone

Folder = Annotated[Path, typer.Argument(help="Folder of the backup.")]


def backup(
    folder: Folder,
    check: Annotated[bool, typer.Option("--check", help="Read the backup that is there, and change nothing.")] = False,
    json: Json = False,
) -> None:
    """Save the log, the objects and the secrets of an installation into a folder, while it runs.

    The log first, as the server's own snapshots, then the objects that it names; the tables are a fold of the log and
    need no copy. The same folder again copies only objects that are new, and removes those that were erased. Keep the
    folder as you keep the installation: it has keys, prompts and images.

    Examples:

      dreamforge backup /mnt/backup/forge
      dreamforge backup /mnt/backup/forge --check
    """
    if check:
        from dreamforge.cli.backups.check import check_backup

        with _progress(quiet=json) as say:
            manifest = check_backup(folder, say)
        found = {"created_at": manifest.created_at, "events": manifest.events, "objects": manifest.objects}
        made = f"{manifest.created_at:%Y-%m-%d %H:%M:%S} UTC"
        text = f"whole: {manifest.events} events and {manifest.objects} objects of {made}, every file with its hash"
        emit(found) if json else out.print(text)
        return
    with _progress(quiet=json) as say:
        done = run(_backup(folder, say))
    if json:
        emit(asdict(done))
        return
    size = readable_size(done.stream_bytes + done.object_bytes)
    out.print(f"saved {done.events} events and {done.objects} objects, {size}, in {done.seconds:.1f} s")
    out.print(f"new objects: {done.copied}, removed: {done.removed}", style="dim")


def restore(folder: Folder, json: Json = False) -> None:
    """Put a backup into an installation without events: the embedded servers of this folder, or those of settings.

    Stop the stack first. The next `dreamforge up` folds the tables from the log. Repeat it if it was cut off.

    Examples:

      dreamforge restore /mnt/backup/forge
      FORGE_STATE_DIR=/srv/forge/.forge dreamforge restore /mnt/backup/forge
    """
    with _progress(quiet=json) as say:
        done = run(_restore(folder, say))
    if json:
        emit(asdict(done))
        return
    out.print(f"restored {done.events} events and {done.objects} objects of {done.created_at} in {done.seconds:.1f} s")
    out.print(f"  {next_command('up')}", style="green")


async def _backup(folder: Path, say: OnProgress) -> "BackupDone":
    from dreamforge.cli.backups.create import create_backup
    from dreamforge.cli.backups.servers import servers_of

    given = from_environment()
    async with servers_of(given, "the backup", may_be_new=False) as settings:
        return await create_backup(settings, given.state_dir, folder, say)


async def _restore(folder: Path, say: OnProgress) -> "RestoreDone":
    from dreamforge.cli.backups.restore import restore_backup
    from dreamforge.cli.backups.servers import servers_of

    given = from_environment()
    if (record := read_record(given.state_dir)) is not None:
        facts = {"process": str(record.pid), "folder": str(record.folder)}
        raise CommandError("a stack runs in this folder", Exit.IN_USE, facts, "stop it with `dreamforge down`")
    async with servers_of(given, "the restore", may_be_new=True) as settings:
        return await restore_backup(settings, given.state_dir, folder, say)


@contextmanager
def _progress(*, quiet: bool) -> Iterator[OnProgress]:
    """One line that changes; nothing with --json or without a terminal."""
    if quiet or not err.is_terminal:
        yield lambda _text: None
        return
    with err.status("starting") as status:
        yield status.update
