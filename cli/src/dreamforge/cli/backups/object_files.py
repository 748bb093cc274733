"""Objects to files and back. Only new ones are read: most are named by their content and never change."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import TypeVar

from dreamforge.cli.backups.manifest import SavedObject, flush
from dreamforge.cli.failure import CommandError, Exit
from dreamforge.contracts.errors import ArtifactNotFound
from dreamforge.runtime.service.tasks import run_all
from dreamforge.runtime.storage.objects import ASIDE, PROBE, ObjectStore, StoredObject

FOLDER = "objects"
# Requests at the same time; the store's client keeps 16 connections.
AT_ONCE = 8
REMEDY = "make the backup again from the running installation, or use an older copy of it"
OnObject = Callable[[], object]
T = TypeVar("T")
R = TypeVar("R")


async def save_objects(
    store: ObjectStore, folder: Path, previous: dict[str, SavedObject], on_object: OnObject
) -> tuple[list[SavedObject], int]:
    """Copy what is new or changed into the folder; all objects by key, and how many were copied.

    An object that goes while this runs was erased or collected, and is left out. Errors: CommandError, DependencyAway.
    """
    copied = 0

    async def one(found: StoredObject) -> SavedObject | None:
        nonlocal copied
        on_object()
        before = previous.get(found.key)
        same = before and (before.size_bytes, before.modified_at) == (found.size_bytes, found.modified_at)
        if same and path_of(folder, found.key).is_file():
            return before
        copied += 1
        return await _copy(store, folder, found)

    listed = [found for found in await store.listed("") if not found.key.startswith((ASIDE, PROBE))]
    saved = [each for each in await _several(one, listed) if each is not None]
    return sorted(saved, key=lambda each: each.key), copied


async def _copy(store: ObjectStore, folder: Path, found: StoredObject) -> SavedObject | None:
    try:
        head, data = await store.head(found.key), await store.get(found.key)
    except ArtifactNotFound:
        return None
    await asyncio.to_thread(_write, path_of(folder, found.key), data)
    sha256 = hashlib.sha256(data).hexdigest()
    return SavedObject(
        key=found.key,
        size_bytes=len(data),
        sha256=sha256,
        content_type=head.content_type,
        modified_at=found.modified_at,
    )


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.draft")
    with draft.open("wb") as file:
        file.write(data)
        flush(file.fileno(), file)
    draft.replace(path)


async def restore_objects(store: ObjectStore, folder: Path, saved: Iterable[SavedObject], on_object: OnObject) -> int:
    """Store what is not there yet; how many. Errors: CommandError for a damaged file, DependencyAway."""
    stored = {found.key: found.size_bytes for found in await store.listed("")}

    async def one(each: SavedObject) -> bool:
        on_object()
        if stored.get(each.key) == each.size_bytes:
            return False
        path = path_of(folder, each.key)
        try:
            data = await asyncio.to_thread(path.read_bytes)
        except FileNotFoundError:
            raise missing(path) from None
        if hashlib.sha256(data).hexdigest() != each.sha256:
            raise damaged(path)
        await store.put(each.key, data, each.content_type or "application/octet-stream")
        return True

    return sum(await _several(one, saved))


def remove_others(folder: Path, kept: Iterable[SavedObject]) -> int:
    """Remove files of objects that the store no longer has: who asked for erasure is erased here too; how many."""
    keys, root, removed = {each.key for each in kept}, folder / FOLDER, 0
    for path in [path for path in root.rglob("*") if path.is_file()] if root.is_dir() else []:
        if path.relative_to(root).as_posix() not in keys:
            path.unlink()
            removed += 1
    return removed


def path_of(folder: Path, key: str) -> Path:
    """The file of an object. Errors: CommandError for a key that would lead out of the folder."""
    parts = key.split("/")
    if {"..", ".", ""} & set(parts):
        raise CommandError(
            f"the key {key!r} cannot be a file name", Exit.REFUSED, {"bucket": "has an object of others"}
        )
    return folder.joinpath(FOLDER, *parts)


def damaged(path: Path) -> CommandError:
    """The refusal of a file with other bytes than were saved."""
    return CommandError("a file of the backup has other bytes than it had", Exit.FAILED, {"file": str(path)}, REMEDY)


def missing(path: Path) -> CommandError:
    """The refusal of a backup without one of its files."""
    return CommandError("a file of the backup is missing", Exit.FAILED, {"file": str(path)}, REMEDY)


async def _several(call: Callable[[T], Awaitable[R]], values: Iterable[T]) -> list[R]:
    """The results of a call for each value, a few at a time, in any order."""
    waiting, results = iter(values), list[R]()

    async def work() -> None:
        for value in waiting:
            results.append(await call(value))

    await run_all(*(work() for _ in range(AT_ONCE)))
    return results
