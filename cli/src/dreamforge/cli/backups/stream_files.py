"""Streams to files and back."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from dreamforge.cli.backups.manifest import SavedStream, flush
from dreamforge.cli.failure import CommandError, Exit
from dreamforge.contracts.log.streams import JOBS, PROBES, STEPS, STREAMS
from dreamforge.runtime.log.bus import ApiError, Bus, refusal
from dreamforge.runtime.log.identity import log_id_of
from dreamforge.runtime.log.stream_snapshots import CHUNK_BYTES, restore_stream, save_stream
from dreamforge.runtime.log.streams import NOT_FOUND

FOLDER = "streams"
# Progress of attempts that is dropped after a day anyway, and what only readiness reads.
NOT_KEPT = (STEPS, PROBES)
# JOBS first: what a job names (a model, a tenant, a key) is then in the streams that are read after it.
KEPT = (JOBS, *(spec for spec in STREAMS if spec not in (JOBS, *NOT_KEPT)))


async def save_streams(bus: Bus, folder: Path) -> tuple[SavedStream, ...]:
    """Save every stream of facts into a file of its own. Errors: DependencyAway, BrokerUnfit."""
    (folder / FOLDER).mkdir(mode=0o700, exist_ok=True)
    return tuple([await _save(bus, spec.name, folder) for spec in KEPT])


async def _save(bus: Bus, name: str, folder: Path) -> SavedStream:
    draft, digest = folder / FOLDER / f"{name}.draft", hashlib.sha256()
    with draft.open("wb") as file:

        def write(piece: bytes) -> None:
            file.write(piece)
            digest.update(piece)

        try:
            saved = await save_stream(bus, name, write)
        except ApiError as error:
            raise refusal(error, f"a snapshot of stream {name}") from error
        flush(file.fileno(), file)
        size_bytes = file.tell()
    sha256 = digest.hexdigest()
    final = f"{FOLDER}/{name}-{saved['state']['last_seq']}-{sha256[:12]}.tar.s2"
    draft.replace(folder / final)
    return SavedStream(name=name, file=final, sha256=sha256, bytes=size_bytes, **saved)


def remove_others(folder: Path, kept: tuple[SavedStream, ...]) -> None:
    """Remove the files of earlier backups in this folder."""
    names = {folder / each.file for each in kept}
    for path in (folder / FOLDER).iterdir():
        if path not in names:
            path.unlink()


async def restore_streams(bus: Bus, folder: Path, saved: tuple[SavedStream, ...]) -> tuple[str, ...]:
    """Make the streams, all or, where one has other events already, none; the names of those that were made now.

    A stream that is there as it was saved was made by a run before that was cut off.
    Errors: CommandError, DependencyAway, BrokerUnfit.
    """
    missing = [each for each in saved if not await _is_there(bus, each)]
    for each in missing:
        try:
            await restore_stream(
                bus, each.name, {"config": each.config, "state": each.state}, pieces(folder / each.file)
            )
        except ApiError as error:
            raise refusal(error, f"stream {each.name} of the backup") from error
    return tuple(each.name for each in missing)


async def _is_there(bus: Bus, saved: SavedStream) -> bool:
    """Whether it was restored before; removes an empty one that `up` has made. Errors: CommandError."""
    try:
        info = await bus.request(f"$JS.API.STREAM.INFO.{saved.name}", None)
    except ApiError as error:
        if error.code != NOT_FOUND:
            raise refusal(error, f"to show stream {saved.name}") from error
        return False
    state = info["state"]
    if log_id_of(info) == saved.log_id and int(state["last_seq"]) >= saved.last_sequence:
        return True
    if int(state["last_seq"]):
        facts = {"stream": saved.name, "messages": str(state["messages"]), "last sequence": str(state["last_seq"])}
        hint = "restore into an installation without events: another FORGE_STATE_DIR, FORGE_NATS_PREFIX or server"
        raise CommandError("there are events already", Exit.REFUSED, facts, hint)
    await bus.request(f"$JS.API.STREAM.DELETE.{saved.name}", None)
    return False


def pieces(path: Path) -> Iterator[bytes]:
    """A file in pieces as the server takes them."""
    with path.open("rb") as file:
        while piece := file.read(CHUNK_BYTES):
            yield piece
