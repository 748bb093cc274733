"""Puts a backup into an installation without events; services fold the tables from the log when they start."""

from dataclasses import dataclass
from pathlib import Path

from dreamforge.cli.backups.check import check_log
from dreamforge.cli.backups.manifest import BackupManifest, read_objects
from dreamforge.cli.backups.object_files import restore_objects
from dreamforge.cli.backups.progress import Counter, OnProgress
from dreamforge.cli.backups.secrets import restore_secrets
from dreamforge.cli.backups.stream_files import restore_streams
from dreamforge.cli.client.event_log import connect_bus
from dreamforge.cli.failure import CommandError, Exit
from dreamforge.cli.settings import CliSettings
from dreamforge.runtime import clock
from dreamforge.runtime.log.streams import ensure_streams
from dreamforge.runtime.storage.objects import ObjectStore


@dataclass(frozen=True, slots=True)
class RestoreDone:
    """What was put where; `streams` and `stored` are less than the backup has where an earlier run was cut off."""

    folder: str
    created_at: str
    streams: tuple[str, ...]
    events: int
    objects: int
    stored: int
    seconds: float


async def restore_backup(settings: CliSettings, state_dir: Path, folder: Path, on_progress: OnProgress) -> RestoreDone:
    """Check the log's files, then put secrets, streams and objects where they belong; may be repeated after a cut.

    Errors: CommandError where there are other events or secrets, or a file is damaged; DependencyAway, BrokerUnfit.
    """
    began = clock.monotonic_seconds()
    on_progress("checking the log")
    manifest = check_log(folder)
    _require_prefix(manifest, settings.nats_prefix)
    restore_secrets(folder, manifest.secrets, state_dir)
    on_progress("restoring the log")
    async with connect_bus(settings) as bus:
        made = await restore_streams(bus, folder, manifest.streams)
        await ensure_streams(bus, replicas=settings.stream_replicas)
    store, counter = ObjectStore(settings), Counter("restoring objects", on_progress)
    await store.ensure_bucket()
    stored = await restore_objects(store, folder, read_objects(folder), counter.one_more)
    return RestoreDone(
        folder=str(folder),
        created_at=manifest.created_at.isoformat(),
        streams=made,
        events=manifest.events,
        objects=manifest.objects,
        stored=stored,
        seconds=clock.monotonic_seconds() - began,
    )


def _require_prefix(manifest: BackupManifest, prefix: str) -> None:
    """Errors: CommandError; the subjects in a snapshot have the prefix of their installation."""
    if manifest.prefix != prefix:
        facts = {"FORGE_NATS_PREFIX of the backup": manifest.prefix or "none", "here": prefix or "none"}
        raise CommandError("the backup has another prefix", Exit.REFUSED, facts, "set the same one")
