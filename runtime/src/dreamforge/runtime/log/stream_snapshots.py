"""A stream as one file: the server's own snapshot, with sequences, times, identity and the places of its consumers.

A copy made by reading and publishing would have other sequences and times, and versions and checkpoints are sequences.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from nats.aio.msg import Msg

from dreamforge.contracts.errors import DependencyAway
from dreamforge.runtime.log.bus import Bus, ack

# The server sends so much, and waits for an answer to each piece.
CHUNK_BYTES = 128 * 1024
# A server that reads a large stream from a slow disk pauses between pieces.
SILENT_SECONDS = 30.0


async def save_stream(bus: Bus, stream: str, write: Callable[[bytes], object]) -> dict[str, Any]:  # Any: JSON
    """Hand a stream's snapshot to `write`, piece by piece, as it is at this moment; appends go on meanwhile.

    Returns `config` and `state`, which `restore_stream` needs. Errors: ApiError, DependencyAway when it breaks off.
    """
    inbox, arrived = bus.nc.new_inbox(), asyncio.Queue[Msg]()
    subscription = await bus.nc.subscribe(inbox, cb=arrived.put)
    try:
        wanted = {"deliver_subject": inbox, "chunk_size": CHUNK_BYTES, "jsck": True}
        begun = await bus.request(f"$JS.API.STREAM.SNAPSHOT.{stream}", wanted)
        while piece := await _next(arrived, stream):
            write(piece.data)
            if piece.reply:
                await bus.nc.publish(piece.reply, b"")
        return {"config": begun["config"], "state": begun["state"]}
    finally:
        await subscription.unsubscribe()


async def _next(arrived: "asyncio.Queue[Msg]", stream: str) -> Msg | None:
    """The next piece; None at the end, which is an empty one without a status."""
    try:
        async with asyncio.timeout(SILENT_SECONDS):
            piece = await arrived.get()
    except TimeoutError:
        raise DependencyAway(dependency="nats", reason=f"the snapshot of {stream} broke off") from None
    if piece.data:
        return piece
    if problem := (piece.headers or {}).get("Description"):
        raise DependencyAway(dependency="nats", reason=f"the snapshot of {stream} broke off: {problem}")
    return None


async def restore_stream(bus: Bus, stream: str, saved: dict[str, Any], pieces: Iterable[bytes]) -> None:  # Any: JSON
    """Make a stream from its snapshot; there must be none of its name. `saved` is what `save_stream` returned.

    Errors: ApiError where the server refuses it, DependencyAway.
    """
    begun = await bus.request(f"$JS.API.STREAM.RESTORE.{stream}", saved)
    for piece in pieces:
        if refused := (await bus.ask(begun["deliver_subject"], piece)).data:
            raise DependencyAway(dependency="nats", reason=f"it refuses a piece of {stream}: {refused.decode()}")
    ack(await bus.ask(begun["deliver_subject"], b""))
