"""Makes a backup of an installation while it runs: first the log, then the objects that it names."""

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from dreamforge.cli.backups import object_files, stream_files
from dreamforge.cli.backups.manifest import (
    MANIFEST,
    BackupManifest,
    hash_of,
    previous_objects,
    read_manifest,
    write_manifest,
    write_objects,
)
from dreamforge.cli.backups.progress import Counter, OnProgress
from dreamforge.cli.backups.secrets import save_secrets
from dreamforge.cli.client.event_log import connect_bus
from dreamforge.cli.failure import CommandError, Exit
from dreamforge.cli.settings import CliSettings
from dreamforge.contracts.log.streams import JOBS
from dreamforge.runtime import clock
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.log.identity import log_id_of, stream_info
from dreamforge.runtime.private_folder import make_private
from dreamforge.runtime.storage.objects import ObjectStore


@dataclass(frozen=True, slots=True)
class BackupDone:
    """What a backup has now, and how much of it is new."""

    folder: str
    events: int
    stream_bytes: int
    objects: int
    object_bytes: int
    copied: int
    removed: int
    seconds: float


async def create_backup(settings: CliSettings, state_dir: Path, folder: Path, on_progress: OnProgress) -> BackupDone:
    """Save into a folder that is new, or has an earlier backup of the same log, which this one replaces at its end.

    Errors: CommandError, NotPrivate, DependencyAway, BrokerUnfit.
    """
    began = clock.monotonic_seconds()
    make_private(folder)
    previous = previous_objects(folder)
    on_progress("saving the log")
    async with connect_bus(settings) as bus:
        await _require_same_log(bus, folder)
        streams = await stream_files.save_streams(bus, folder)
    counter = Counter("saving objects", on_progress)
    objects, copied = await object_files.save_objects(ObjectStore(settings), folder, previous, counter.one_more)
    listed = write_objects(folder, objects)
    manifest = BackupManifest(
        created_at=clock.now(),
        release=version("dreamforge-cli"),
        prefix=settings.nats_prefix,
        streams=streams,
        objects=len(objects),
        object_bytes=sum(each.size_bytes for each in objects),
        objects_sha256=hash_of(listed),
        secrets=save_secrets(state_dir, folder),
    )
    write_manifest(folder, manifest, listed)
    stream_files.remove_others(folder, streams)
    removed = object_files.remove_others(folder, objects)
    return BackupDone(
        folder=str(folder),
        events=manifest.events,
        stream_bytes=sum(each.bytes for each in streams),
        objects=manifest.objects,
        object_bytes=manifest.object_bytes,
        copied=copied,
        removed=removed,
        seconds=clock.monotonic_seconds() - began,
    )


async def _require_same_log(bus: Bus, folder: Path) -> None:
    """Errors: CommandError where the folder has a backup of another log, which this one would replace."""
    if not (folder / MANIFEST).is_file():
        return
    (jobs,) = (each for each in read_manifest(folder).streams if each.name == JOBS.name)
    before, now = jobs.log_id, log_id_of(await stream_info(bus, JOBS.name))
    if before != now:
        facts = {"log in the backup": before, "log now": now}
        raise CommandError(f"{folder} has a backup of another log", Exit.REFUSED, facts, "name another folder")
