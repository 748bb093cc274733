"""One reader of the log for all streams of this process: what arrives is handed to whoever watches that job."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from prometheus_client import Counter, Gauge

from dreamforge.contracts.errors import DependencyAway
from dreamforge.contracts.log.streams import JOBS, STEPS
from dreamforge.gateway.events.sse import Moment, moment_of
from dreamforge.gateway.http.errors import StreamsFull
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.log.follow import Follower, last_sequence
from dreamforge.runtime.log.message import LogMessage

READY_SECONDS = 2.0
# So many messages are handed out before the writers get their turn: a burst must not look like a slow client.
SLICE_MESSAGES = 100

CLIENTS = Gauge("forge_sse_clients", "Open event streams")
EVENTS = Counter("forge_sse_events_total", "Events handed to open event streams")
DROPPED = Counter("forge_sse_dropped_total", "Event streams closed because their client was too slow")


def _nothing() -> None:
    return None


@dataclass(slots=True, eq=False)
class Tap:
    """What one client has not taken yet. Bounded: a client that falls behind is dropped, and resumes by its last id.

    While its history is still being read, falling behind is not the client's fault: what does not fit is let go, and
    `missed` says that history must be read once more.
    """

    job_id: str
    limit_bytes: int
    on_overflow: Callable[[], None] = _nothing
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    reading_history: bool = True
    missed: bool = False
    beat: bool = False
    gone: bool = False
    draining: bool = False
    overflowed: bool = False
    _moments: list[Moment] = field(default_factory=list)
    _bytes: int = 0
    _steps_end: int | None = None

    def push(self, moment: Moment) -> None:
        """Keep a moment until it is taken; past the limit, let go of everything and end."""
        if self.overflowed:
            return
        self._bytes += len(moment.tail)
        if self._moments and self._bytes > self.limit_bytes:  # one large event alone is not slowness
            self._overflow()
        else:
            self._moments.append(moment)
        self.wake.set()

    def _overflow(self) -> None:
        self.take()
        if self.reading_history:
            self.missed = True
        else:
            self.overflowed = True
            DROPPED.inc()
            self.on_overflow()

    def take(self) -> list[Moment]:
        """All that has arrived since the last time."""
        taken, self._moments, self._bytes = self._moments, [], 0
        return taken

    def lose(self, steps_after: int) -> None:
        """STEPS has forgotten its steps past a sequence, and gives those numbers again."""
        self._moments = [each for each in self._moments if not each.is_step or each.sequence <= steps_after]
        self._bytes = sum(len(each.tail) for each in self._moments)
        self._steps_end = steps_after if self._steps_end is None else min(self._steps_end, steps_after)

    def lost(self) -> int | None:
        """Where STEPS has lost its end since the last time; to be asked before `take`, which gives what came since."""
        end, self._steps_end = self._steps_end, None
        return end

    def end(self, *, draining: bool = False) -> None:
        """Wake the client's writer for the last time."""
        self.gone, self.draining = True, draining
        self.wake.set()


class Hub:
    """Follows JOBS and STEPS from now on. A tap that is opened gets everything that is stored after that moment."""

    def __init__(self, bus: Bus, *, limit_streams: int, limit_bytes: int, heartbeat_seconds: float) -> None:
        self.bus = bus
        self._limit_streams = limit_streams
        self._limit_bytes = limit_bytes
        self._heartbeat_seconds = heartbeat_seconds
        self.places = {JOBS.name: 0, STEPS.name: 0}
        """Each log up to where it was handed out: a tap that is opened now gets whatever comes after."""
        self._taps: dict[str, list[Tap]] = {}
        self._placed = asyncio.Event()
        self._draining = False

    async def run(self) -> None:
        """Follow until cancelled."""
        self.places = {stream: await last_sequence(self.bus, stream) for stream in self.places}
        self._placed.set()  # what is stored from here on will come, whenever the consumers are made
        async with asyncio.TaskGroup() as tasks:
            for stream, place in self.places.items():
                tasks.create_task(self._follow(Follower(self.bus, stream, after_sequence=place)), name=f"sse-{stream}")
            tasks.create_task(self._beats(), name="sse-heartbeat")

    async def open(self, job_id: str) -> Tap:
        """A tap for a job. Errors: StreamsFull, DependencyAway while the hub has no place in the log yet."""
        try:
            await asyncio.wait_for(self._placed.wait(), READY_SECONDS)
        except TimeoutError:
            raise DependencyAway(dependency="nats", reason="the event streams are not followed yet") from None
        if sum(map(len, self._taps.values())) >= self._limit_streams:
            raise StreamsFull(maximum=self._limit_streams)
        tap = Tap(job_id, self._limit_bytes)
        self._taps.setdefault(job_id, []).append(tap)
        CLIENTS.inc()
        if self._draining:
            tap.end(draining=True)
        return tap

    def close(self, tap: Tap) -> None:
        """Forget a tap."""
        taps = self._taps[tap.job_id]
        taps.remove(tap)
        if not taps:
            del self._taps[tap.job_id]
        CLIENTS.dec()

    def drain(self) -> None:
        """The process is about to end: tell every client to come back (another gateway will have it all)."""
        self._draining = True
        for taps in self._taps.values():
            for tap in taps:
                tap.end(draining=True)

    @property
    def ready(self) -> bool:
        """True once streams can be served."""
        return self._placed.is_set()

    async def _follow(self, follower: Follower) -> None:
        stream = follower.stream
        async for batch in follower.batches():
            self._begin(stream, batch.messages[0].sequence - 1 if batch.messages else follower.after_sequence)
            for first in range(0, len(batch.messages), SLICE_MESSAGES):
                messages = batch.messages[first : first + SLICE_MESSAGES]
                self._hand_out(messages)
                self.places[stream] = messages[-1].sequence
                await asyncio.sleep(0)

    def _begin(self, stream: str, place: int) -> None:
        """What comes next comes after `place`. Only a log that has lost its end goes back: steps may, facts do not."""
        if stream == STEPS.name and place < self.places[stream]:
            for taps in self._taps.values():
                for tap in taps:
                    tap.lose(place)
        self.places[stream] = place

    def _hand_out(self, messages: list[LogMessage]) -> None:
        for message in messages:
            taps = self._taps.get(message.subject.split(".", 3)[2])
            if taps and (moment := moment_of(message)) is not None:
                EVENTS.inc(len(taps))
                for tap in taps:
                    tap.push(moment)

    async def _beats(self) -> None:
        while True:
            await asyncio.sleep(self._heartbeat_seconds)
            for taps in self._taps.values():
                for tap in taps:
                    tap.beat = True
                    tap.wake.set()
