"""JetStream's batched direct get: the last message of every subject under a filter, in one request."""

import asyncio
import json
from dataclasses import dataclass

from nats.aio.msg import Msg

from dreamforge.contracts.errors import DependencyAway
from dreamforge.runtime.bus import NATS_ERRORS, REQUEST_TIMEOUT_SECONDS, Bus

# The server sends no more than this many in answer to one request; a job has a few dozen events.
MAX_MESSAGES = 1024


@dataclass(frozen=True, slots=True)
class Stored:
    """A message as its stream holds it."""

    subject: str
    headers: dict[str, str]
    data: bytes
    sequence: int


async def last_of_each(bus: Bus, stream: str, subject_filter: str) -> list[Stored]:
    """The latest message of each subject, in stream order; [] if there is none.

    Since each event of a job has a subject of its own, this is the whole job, however long the log.
    Errors: DependencyAway when NATS does not answer in REQUEST_TIMEOUT_SECONDS.
    """
    return await _get(bus, stream, {"multi_last": [subject_filter], "batch": MAX_MESSAGES})


async def after(bus: Bus, stream: str, subject: str, sequence: int, *, count: int = MAX_MESSAGES) -> list[Stored]:
    """Up to `count` messages of a subject past a sequence, in stream order.

    Errors: DependencyAway when NATS does not answer.
    """
    return await _get(bus, stream, {"seq": sequence + 1, "next_by_subj": subject, "batch": count})


async def one(bus: Bus, stream: str, sequence: int) -> Stored | None:
    """The message at a sequence; None if it is not (any more) in the stream. Errors: DependencyAway."""
    answer = await bus.ask(f"$JS.API.DIRECT.GET.{stream}", json.dumps({"seq": sequence}).encode())
    headers = answer.headers or {}
    return _stored(answer, headers) if headers.get("Nats-Sequence") == str(sequence) else None


async def last(bus: Bus, stream: str, subject: str) -> Stored | None:
    """The newest message of one subject; None if there is none. Errors: DependencyAway."""
    answer = await bus.ask(f"$JS.API.DIRECT.GET.{stream}.{subject}", b"")
    headers = answer.headers or {}
    return _stored(answer, headers) if "Nats-Sequence" in headers else None


async def _get(bus: Bus, stream: str, request: dict[str, object]) -> list[Stored]:
    inbox = bus.nc.new_inbox()
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    found: list[Stored] = []

    async def receive(message: Msg) -> None:
        headers = message.headers or {}
        if "Nats-Sequence" in headers:
            found.append(_stored(message, headers))
        elif not done.done():  # 204 ends the batch, 404 says there was nothing
            _finish(done, headers)

    try:
        subscription = await bus.nc.subscribe(inbox, cb=receive)
        try:
            await bus.nc.publish(f"$JS.API.DIRECT.GET.{stream}", json.dumps(request).encode(), reply=inbox)
            async with asyncio.timeout(REQUEST_TIMEOUT_SECONDS):
                await done
        finally:
            await subscription.unsubscribe()
    except NATS_ERRORS as error:
        raise DependencyAway(dependency="nats", reason=str(error) or type(error).__name__) from error
    return found


def _finish(done: "asyncio.Future[None]", headers: dict[str, str]) -> None:
    status = headers.get("Status", "")
    if status in ("204", "404"):
        done.set_result(None)
    else:
        reason = f"direct get answered {status or 'nothing known'} {headers.get('Description', '')}".strip()
        done.set_exception(DependencyAway(dependency="nats", reason=reason))


def _stored(message: Msg, headers: dict[str, str]) -> Stored:
    own = {key: value for key, value in headers.items() if not key.startswith("Nats-")}
    return Stored(headers["Nats-Subject"], own, message.data, int(headers["Nats-Sequence"]))
