"""Group commit: appends that wait together are written together, each with its own expected version.

JetStream fsyncs each single publish; an atomic batch is fsynced once. One batch is in flight at a time, so batches
grow with the load and no append waits for a timer.
"""

import asyncio
from collections import deque
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass, field
from itertools import islice

from dreamforge.contracts.errors import DependencyAway, EventTooLarge, VersionConflict
from dreamforge.contracts.log.envelope import Envelope
from dreamforge.contracts.log.streams import stream_of
from dreamforge.runtime import ids
from dreamforge.runtime.log.bus import ApiError, Bus, ack

# err_codes of nats-server: a stale expectation, alone and inside a batch.
WRONG_LAST_SEQUENCE = (10071, 10164)
MESSAGE_TOO_LARGE = 10054
# Half of the server's limit of 1,000 messages a batch: larger ones only add latency.
BATCH_MESSAGES = 500
# With fsync an atomic batch costs 3.5 ms plus 0.1 ms a message, pipelined single appends 0.33 ms each: below this
# many messages, single appends are faster (2 cores, ext4, nats-server 2.15; bench/eventstore.py measures it).
BATCH_FROM_MESSAGES = 12
# More at once are not faster on the server (same measurement).
SINGLES_IN_FLIGHT = 8

EXPECTED = "Nats-Expected-Last-Subject-Sequence"
EXPECTED_FILTER = "Nats-Expected-Last-Subject-Sequence-Subject"


@dataclass(frozen=True, slots=True)
class Append:
    """Events of one aggregate to be written if its last sequence under `filter` is `expected`."""

    envelopes: tuple[Envelope, ...]
    filter: str
    expected: int

    @property
    def stream(self) -> str:
        """The stream that holds these subjects."""
        return stream_of(self.filter).name


@dataclass(slots=True)
class _Waiting:
    appends: tuple[Append, ...]
    """Written together or not at all."""
    done: "asyncio.Future[int]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def messages(self) -> int:
        return sum(len(append.envelopes) for append in self.appends)


class GroupCommit:
    """Writes the appends of one process: a few pipelined, more of them as one batch, one batch at a time."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._queue: deque[_Waiting] = deque()
        self._singles: set[asyncio.Task[None]] = set()
        self._batches: set[asyncio.Task[None]] = set()
        self._pumping: asyncio.Handle | None = None

    async def append(self, *appends: Append) -> int:
        """Write all or none, and return the sequence of the last event.

        Appends that are written together are those of different aggregates in one stream, of at most BATCH_MESSAGES
        events. Errors: VersionConflict, DependencyAway, EventTooLarge.
        """
        waiting = _Waiting(appends)
        self._queue.append(waiting)
        self._pump_soon()
        return await waiting.done

    async def close(self) -> None:
        """Wait until everything that was queued has been answered."""
        while self._queue or self._singles or self._batches:
            self._pump()
            await asyncio.wait(self._singles | self._batches)

    def _pump_soon(self) -> None:
        """Once for all that is queued in this turn of the event loop.

        What is decided in one turn, like the requests of clients that were answered together, is one group.
        """
        if self._pumping is None:
            self._pumping = asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        """Start what can be started now."""
        self._pumping = None
        while self._queue and not self._batches:
            if _worth_a_batch(self._queue):
                self._start(self._batches, self._write_batch(self._take()))
            elif len(self._singles) < SINGLES_IN_FLIGHT:
                self._start(self._singles, self._write_single(self._queue.popleft()))
            else:
                return

    def _start(self, group: "set[asyncio.Task[None]]", work: Coroutine[None, None, None]) -> None:
        def ended(task: asyncio.Task[None]) -> None:
            group.discard(task)
            self._pump_soon()

        task = asyncio.create_task(work, name="group-commit")
        group.add(task)
        task.add_done_callback(ended)

    def _take(self) -> list[_Waiting]:
        """The next group: one stream, one append an aggregate (a batch checks versions as they were before it)."""
        stream = self._queue[0].appends[0].stream
        group: list[_Waiting] = []
        later: list[_Waiting] = []
        seen: set[str] = set()
        messages = 0
        while self._queue and messages < BATCH_MESSAGES:
            waiting = self._queue.popleft()
            filters = {append.filter for append in waiting.appends}
            if seen & filters or waiting.appends[0].stream != stream:
                later.append(waiting)
            else:
                group.append(waiting)
                messages += waiting.messages
            seen |= filters
        self._queue.extendleft(reversed(later))
        return group

    async def _write_batch(self, group: list[_Waiting]) -> None:
        try:
            last = await self._batch([append for waiting in group for append in waiting.appends])
        except (VersionConflict, EventTooLarge):  # one stale or too large append refuses the batch: write each alone
            await asyncio.gather(*(self._write_single(waiting) for waiting in group))
        except Exception as error:
            for waiting in group:
                _fail(waiting, error)
        else:
            for waiting in reversed(group):
                if not waiting.done.done():
                    waiting.done.set_result(last)
                last -= waiting.messages

    async def _write_single(self, waiting: _Waiting) -> None:
        try:
            sequence = await self._single(waiting.appends)
        except Exception as error:
            _fail(waiting, error)
        else:
            if not waiting.done.done():
                waiting.done.set_result(sequence)

    async def _single(self, appends: tuple[Append, ...]) -> int:
        append = appends[0]
        if len(appends) > 1 or len(append.envelopes) > 1:
            return await self._batch(list(appends))
        envelope = append.envelopes[0]
        return await self._publish(envelope, _headers(envelope, append), append)

    async def _batch(self, appends: list[Append]) -> int:
        """One atomic batch; the server gives its messages consecutive sequences. Returns the last one."""
        batch_id = ids.new_id()
        messages = [
            (envelope, _headers(envelope, append if first else None))
            for append in appends
            for first, envelope in _marked(append.envelopes)
        ]
        for number, (envelope, headers) in enumerate(messages[:-1], 1):
            headers |= {"Nats-Batch-Id": batch_id, "Nats-Batch-Sequence": str(number)}
            await self._bus.publish(envelope.subject, envelope.data, headers)
        envelope, headers = messages[-1]
        headers |= {"Nats-Batch-Id": batch_id, "Nats-Batch-Sequence": str(len(messages)), "Nats-Batch-Commit": "1"}
        return await self._publish(envelope, headers, appends[-1])

    async def _publish(self, envelope: Envelope, headers: dict[str, str], append: Append) -> int:
        try:
            answer = ack(await self._bus.ask(envelope.subject, envelope.data, headers))
        except ApiError as error:
            if error.code in WRONG_LAST_SEQUENCE:
                raise VersionConflict(subject=append.filter, expected_version=append.expected) from None
            if error.code == MESSAGE_TOO_LARGE:
                raise EventTooLarge(subject=envelope.subject, size_bytes=len(envelope.data)) from error
            raise DependencyAway(dependency="nats", reason=str(error)) from error
        return int(answer["seq"])


def _worth_a_batch(queue: Iterable[_Waiting]) -> bool:
    """Whether to write a batch: an append of several events needs one anyway, and the others then join at no cost."""
    sizes = [waiting.messages for waiting in islice(queue, BATCH_FROM_MESSAGES)]
    return sum(sizes) >= BATCH_FROM_MESSAGES or max(sizes) > 1


def _marked(envelopes: tuple[Envelope, ...]) -> list[tuple[bool, Envelope]]:
    return [(index == 0, envelope) for index, envelope in enumerate(envelopes)]


def _headers(envelope: Envelope, append: Append | None) -> dict[str, str]:
    if append is None:
        return dict(envelope.headers)
    return envelope.headers | {EXPECTED: str(append.expected), EXPECTED_FILTER: append.filter}


def _fail(waiting: _Waiting, error: Exception) -> None:
    if not waiting.done.done():
        waiting.done.set_exception(error)
