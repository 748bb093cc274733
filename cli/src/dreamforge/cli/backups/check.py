"""Reads a backup from end to end: whether each file has the bytes that were saved."""

from collections.abc import Iterator
from pathlib import Path

from dreamforge.cli.backups.manifest import OBJECTS_LIST, BackupManifest, hash_of, read_manifest, read_objects
from dreamforge.cli.backups.object_files import damaged, missing, path_of
from dreamforge.cli.backups.progress import Counter, OnProgress


def check_backup(folder: Path, on_progress: OnProgress) -> BackupManifest:
    """The manifest, once all it names is there and whole. Errors: CommandError with the first file that is not."""
    manifest, counter = check_log(folder), Counter("checking objects", on_progress)
    for path, sha256 in _objects(folder):
        counter.one_more()
        _require(path, sha256)
    return manifest


def check_log(folder: Path) -> BackupManifest:
    """The same without the objects, which a restore checks one by one. Errors: CommandError."""
    manifest = read_manifest(folder)
    for each in manifest.streams:
        _require(folder / each.file, each.sha256)
    _require(folder / OBJECTS_LIST, manifest.objects_sha256)
    return manifest


def _objects(folder: Path) -> Iterator[tuple[Path, str]]:
    return ((path_of(folder, each.key), each.sha256) for each in read_objects(folder))


def _require(path: Path, sha256: str) -> None:
    if not path.is_file():
        raise missing(path)
    if hash_of(path) != sha256:
        raise damaged(path)
