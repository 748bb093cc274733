"""JetStream's batched direct get: the last message of every subject under a filter, in one request.

Any replica answers, from what it has applied so far. That a message exists is therefore accepted from any of them;
that none exists, or none up to a sequence known from elsewhere, is accepted from the stream's leader only.
"""

import asyncio
import json
from datetime import datetime

from nats.aio.msg import Msg

from dreamforge.contracts.errors import DependencyAway
from dreamforge.runtime.log import leader_get
from dreamforge.runtime.log.bus import NATS_ERRORS, REQUEST_TIMEOUT_SECONDS, Bus
from dreamforge.runtime.log.message import LogMessage, of_answer

# The server sends no more than this many in answer to one request, and refuses to look at more subjects; a job has some
# dozen events.
MAX_MESSAGES = 1024
TOO_MANY_SUBJECTS = "413"
# Of one read in pages: what a taken-over service can write under a job must not fill the memory of its readers.
MESSAGES_MAX = 65_536


class TooManySubjects(Exception):
    """More subjects have a last message than the server looks at for one request."""


async def last_of_each(bus: Bus, stream: str, subject_filter: str, *, covering: int = 0) -> list[LogMessage]:
    """The latest message of each subject, in stream order, including all up to the sequence `covering`.

    Since each event of a job has a subject of its own, this is the whole job, however long the log.
    Errors: DependencyAway when NATS does not answer in REQUEST_TIMEOUT_SECONDS, or not as far as `covering`, or has
    more than MESSAGES_MAX of them.
    """
    try:
        found, closing = await _get(bus, stream, {"multi_last": [subject_filter], "batch": MAX_MESSAGES})
        up_to = int(closing.get("Nats-UpTo-Sequence", 0))  # absent where nothing was found
    except TooManySubjects:
        found = _latest(await every(bus, stream, subject_filter))
        up_to = found[-1].sequence
    if found and up_to >= covering:
        return found
    return _latest(found + await leader_get.after(bus, stream, subject_filter, up_to, covering=covering))


async def every(bus: Bus, stream: str, subject_filter: str) -> list[LogMessage]:
    """Every message under a filter, in stream order. Errors: DependencyAway, also for more than MESSAGES_MAX."""
    found: list[LogMessage] = []
    while page := await after(bus, stream, subject_filter, found[-1].sequence if found else 0):
        found += page
        if len(found) > MESSAGES_MAX:
            reason = f"{stream} has more than {MESSAGES_MAX} messages under {subject_filter}"
            raise DependencyAway(dependency="nats", reason=reason)
    return found


async def after(bus: Bus, stream: str, subject: str, sequence: int, *, count: int = MAX_MESSAGES) -> list[LogMessage]:
    """Up to `count` messages of a subject past a sequence, in stream order.

    Errors: DependencyAway when NATS does not answer.
    """
    found, _ = await _get(bus, stream, {"seq": sequence + 1, "next_by_subj": subject, "batch": count})
    return found


async def since(
    bus: Bus, stream: str, subject: str, sequence: int, time: datetime, *, count: int = MAX_MESSAGES
) -> list[LogMessage]:
    """As `after`; from a time on, where the sequence is 0."""
    if sequence:
        return await after(bus, stream, subject, sequence, count=count)
    found, _ = await _get(bus, stream, {"start_time": time.isoformat(), "next_by_subj": subject, "batch": count})
    return found


async def one(bus: Bus, stream: str, sequence: int) -> LogMessage | None:
    """The message at a sequence; None if it is not (any more) in the stream. Errors: DependencyAway."""
    answer = await bus.ask(f"$JS.API.DIRECT.GET.{stream}", json.dumps({"seq": sequence}).encode())
    headers = answer.headers or {}
    if headers.get("Nats-Sequence") == str(sequence):
        return _stored(answer, headers)
    return await leader_get.one(bus, stream, sequence)


async def last(bus: Bus, stream: str, subject: str) -> LogMessage | None:
    """The newest message of one subject; None if the replica that answers has none (yet). Errors: DependencyAway."""
    answer = await bus.ask(f"$JS.API.DIRECT.GET.{stream}.{subject}", b"")
    headers = answer.headers or {}
    return _stored(answer, headers) if "Nats-Sequence" in headers else None


async def _get(bus: Bus, stream: str, request: dict[str, object]) -> tuple[list[LogMessage], dict[str, str]]:
    """The messages found, and the headers of the message that ends the answer."""
    inbox = bus.nc.new_inbox()
    done: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()
    found: list[LogMessage] = []

    def receive(message: Msg) -> None:
        headers = message.headers or {}
        if "Nats-Sequence" in headers:
            found.append(_stored(message, headers))
        elif not done.done():  # 204 ends the batch, 404 says there was nothing
            _finish(done, headers)

    try:
        subscription = await bus.nc.subscribe_directly(inbox, receive)
        try:
            await bus.nc.publish(f"$JS.API.DIRECT.GET.{stream}", json.dumps(request).encode(), reply=inbox)
            async with asyncio.timeout(REQUEST_TIMEOUT_SECONDS):
                closing = await done
        finally:
            await subscription.unsubscribe()
    except NATS_ERRORS as error:
        raise DependencyAway(dependency="nats", reason=str(error) or type(error).__name__) from error
    return found, closing


def _latest(messages: list[LogMessage]) -> list[LogMessage]:
    latest = {message.subject: message for message in messages}
    return sorted(latest.values(), key=lambda message: message.sequence)


def _finish(done: "asyncio.Future[dict[str, str]]", headers: dict[str, str]) -> None:
    status = headers.get("Status", "")
    if status in ("204", "404"):
        done.set_result(headers)
    elif status == TOO_MANY_SUBJECTS:
        done.set_exception(TooManySubjects())
    else:
        reason = f"direct get answered {status or 'an unknown status'} {headers.get('Description', '')}".strip()
        done.set_exception(DependencyAway(dependency="nats", reason=reason))


def _stored(message: Msg, headers: dict[str, str]) -> LogMessage:
    return LogMessage(headers["Nats-Subject"], of_answer(headers), message.data, int(headers["Nats-Sequence"]))
