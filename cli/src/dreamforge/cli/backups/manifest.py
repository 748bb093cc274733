"""`manifest.json` of a backup: what it has, and the hash of each of its files. Written last, so it is complete."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from dreamforge.cli.failure import CommandError, Exit
from dreamforge.runtime.log.identity import log_id_of

MANIFEST, OBJECTS_LIST = "manifest.json", "objects.jsonl"


class SavedStream(BaseModel):
    """One stream: its file and, for the server, its configuration and state."""

    model_config = ConfigDict(frozen=True)

    name: str
    file: str
    sha256: str
    bytes: int
    config: dict[str, Any]  # Any: JSON of the server
    state: dict[str, Any]  # Any: as above

    @property
    def messages(self) -> int:
        """How many messages it has."""
        return int(self.state["messages"])

    @property
    def log_id(self) -> str:
        """Which log it is of."""
        return log_id_of({"config": self.config})

    @property
    def last_sequence(self) -> int:
        """The sequence of its last message."""
        return int(self.state["last_seq"])


class SavedObject(BaseModel):
    """One object of the store: a line of objects.jsonl; its bytes are below objects/ under its key."""

    model_config = ConfigDict(frozen=True)

    key: str
    size_bytes: int
    sha256: str
    content_type: str
    modified_at: AwareDatetime


class BackupManifest(BaseModel):
    """What a backup has. `format` changes when an older release could not read it."""

    model_config = ConfigDict(frozen=True)

    format: Literal[1] = 1
    created_at: AwareDatetime
    release: str
    prefix: str = ""
    streams: tuple[SavedStream, ...]
    objects: int
    object_bytes: int
    objects_sha256: str
    secrets: tuple[str, ...] = ()

    @property
    def events(self) -> int:
        """Messages of all streams."""
        return sum(each.messages for each in self.streams)


def read_manifest(folder: Path) -> BackupManifest:
    """Errors: CommandError where there is none, or it is of a newer release."""
    path = folder / MANIFEST
    try:
        return BackupManifest.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        hint = "name the folder that `dreamforge backup FOLDER` was given; a backup that was cut off has none"
        raise CommandError(
            f"there is no complete backup in {folder}", Exit.REFUSED, {"missing": str(path)}, hint
        ) from None
    except ValidationError as error:
        first = error.errors()[0]
        facts = {".".join(map(str, first["loc"])) or "content": first["msg"]}
        hint = "use the release that made it, or a newer one"
        raise CommandError(f"{path} is no manifest that this release can read", Exit.REFUSED, facts, hint) from error


def previous_objects(folder: Path) -> dict[str, SavedObject]:
    """The objects of the backup that is in the folder now, by key; none without a complete one."""
    if not (folder / MANIFEST).is_file():
        return {}
    return {saved.key: saved for saved in read_objects(folder)}


def read_objects(folder: Path) -> Iterator[SavedObject]:
    """Line by line: there may be a million. Errors: CommandError for a line that is none."""
    with (folder / OBJECTS_LIST).open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                yield SavedObject.model_validate_json(line)
            except ValidationError as error:
                where = f"{folder / OBJECTS_LIST}, line {number}"
                raise CommandError("the list of objects is damaged", Exit.REFUSED, {"where": where}) from error


def write_objects(folder: Path, saved: Iterable[SavedObject]) -> Path:
    """Write the list beside the one in use; the file that is to replace it."""
    draft = folder / f"{OBJECTS_LIST}.draft"
    with draft.open("w", encoding="utf-8") as lines:
        for each in saved:
            lines.write(each.model_dump_json() + "\n")
        flush(lines.fileno(), lines)
    return draft


def write_manifest(folder: Path, manifest: BackupManifest, objects_list: Path) -> None:
    """From here on the folder has this backup, and no longer the one before."""
    draft = folder / f"{MANIFEST}.draft"
    with draft.open("w", encoding="utf-8") as file:
        file.write(json.dumps(manifest.model_dump(mode="json"), indent=2) + "\n")
        flush(file.fileno(), file)
    (folder / MANIFEST).unlink(missing_ok=True)  # two files cannot be replaced at once: without it none is complete
    objects_list.replace(folder / OBJECTS_LIST)
    draft.replace(folder / MANIFEST)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush(descriptor: int, file: Any) -> None:  # Any: a text or a binary file
    """What was written is on the disk."""
    file.flush()
    os.fsync(descriptor)


def hash_of(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
