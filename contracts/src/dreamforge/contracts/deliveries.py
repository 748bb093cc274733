"""Which event is sent to a webhook next, and when: a fold of what became of earlier deliveries. Pure.

The events of one job are sent to one webhook in their order: `DeliveryQueue` is where that stands. Queues do not wait
for each other. `Backlog` is what was read from JOBS and is not settled; its `floor` says from where a restart reads on,
so that nothing is lost: an event is settled, or a recorded queue is open for it (`until`), or it comes after the floor.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from dreamforge.contracts.webhook_events import (
    DeliveriesReached,
    DeliveryDropped,
    DeliveryEvent,
    DeliveryFailed,
    DeliveryParked,
    DeliveryReplayed,
    DeliverySucceeded,
    JobDelivery,
)

# Of one webhook, in memory: what is older is in the log. Without a bound a dead receiver would fill the memory.
RECENT_MAX, PARKED_MAX = 200, 10_000
GROWTH = 3.0


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Waits of `first_seconds`, three times as long each, up to `longest_seconds`; parked after `give_up_seconds`."""

    first_seconds: float
    longest_seconds: float
    give_up_seconds: float

    def retry_at(self, attempts: int, failing_since: datetime, now: datetime, asked: float = 0.0) -> datetime | None:
        """When the attempt after these is due; None: it is not made. `asked`: seconds that the receiver asked for.

        >>> noon = datetime(2026, 1, 1, 12)
        >>> RetryPolicy(10, 60, 3600).retry_at(2, noon, noon)
        datetime.datetime(2026, 1, 1, 12, 0, 30)
        """
        grown = self.first_seconds * GROWTH ** min(attempts - 1, 40)
        due = now + timedelta(seconds=min(max(grown, asked), self.longest_seconds))
        return due if due <= failing_since + timedelta(seconds=self.give_up_seconds) else None


@dataclass(frozen=True, slots=True)
class DeliveryQueue:
    """The deliveries of one job to one webhook. Events up to `after` are settled; those of `again` come first."""

    after: int = 0
    until: int = 0
    again: tuple[int, ...] = ()
    attempts: int = 0
    failing_since: datetime | None = None
    retry_at: datetime | None = None

    @property
    def is_open(self) -> bool:
        """Whether the log says that something is to be sent yet."""
        return bool(self.again) or self.until > self.after

    def next_of(self, wanted: Iterable[int]) -> int | None:
        """The sequence of what is sent next, of the events of the job that the webhook wants; None: nothing."""
        if self.again:
            return self.again[0]
        return min((sequence for sequence in wanted if sequence > self.after), default=None)

    def _settled(self, sequence: int) -> "DeliveryQueue":
        if sequence in self.again:
            return replace(self, again=tuple(each for each in self.again if each != sequence), retry_at=None)
        return replace(self, after=max(self.after, sequence), retry_at=None)


def evolve_deliveries(queue: DeliveryQueue, event: JobDelivery) -> DeliveryQueue:
    """The queue after one more fact. Errors: TypeError for one that is not known."""
    queue = replace(queue, until=max(queue.until, event.until))
    match event:
        case DeliverySucceeded():
            return replace(queue._settled(event.sequence), attempts=0, failing_since=None)
        case DeliveryFailed():
            until = queue.until if event.sequence in queue.again else max(queue.until, event.sequence)
            return replace(
                queue,
                until=until,
                attempts=event.attempts,
                failing_since=event.failing_since,
                retry_at=event.retry_at,
            )
        case DeliveryParked():
            settled = queue._settled(event.sequence)
            return replace(settled, attempts=event.attempts, failing_since=event.failing_since)
        case DeliveryDropped():
            return DeliveryQueue(after=max(queue.after, queue.until, event.sequence), until=queue.until)
        case DeliveryReplayed():
            again = queue.again if event.sequence in queue.again else (*queue.again, event.sequence)
            return replace(queue, again=again, attempts=0, failing_since=None, retry_at=None)
    raise TypeError(type(event).__name__)


@dataclass(slots=True)
class Deliveries:
    """All that the log says of the deliveries to one webhook, as far as it is needed or shown."""

    reached: int = 0
    reached_at: datetime | None = None
    queues: dict[str, DeliveryQueue] = field(default_factory=dict)
    recent: deque[JobDelivery] = field(default_factory=lambda: deque(maxlen=RECENT_MAX))
    parked: dict[tuple[str, int], DeliveryParked] = field(default_factory=dict)

    def queue(self, job_id: str) -> DeliveryQueue:
        """Where the deliveries of a job stand. Of one that is not kept, all is settled up to `reached`."""
        return self.queues.get(job_id) or DeliveryQueue(after=self.reached, until=self.reached)

    def apply(self, event: DeliveryEvent) -> None:
        """One more fact."""
        if isinstance(event, DeliveriesReached):
            self.reached, self.reached_at = max(self.reached, event.sequence), event.at
            done = [job for job, queue in self.queues.items() if not queue.is_open and queue.after <= self.reached]
            for job_id in done:
                del self.queues[job_id]
        elif isinstance(event, JobDelivery):
            self.queues[event.job_id] = evolve_deliveries(self.queue(event.job_id), event)
            self.recent.append(event)
            self._park(event)

    def _park(self, event: JobDelivery) -> None:
        self.parked.pop((event.job_id, event.sequence), None)
        if isinstance(event, DeliveryParked):
            self.parked[event.job_id, event.sequence] = event
        elif isinstance(event, DeliveryDropped):
            for key in [key for key in self.parked if key[0] == event.job_id]:
                del self.parked[key]
        if len(self.parked) > PARKED_MAX:
            del self.parked[next(iter(self.parked))]


@dataclass(slots=True)
class Backlog:
    """What was read from JOBS for one webhook and is not settled: the first and the newest sequence, by job."""

    through: int
    jobs: dict[str, tuple[int, int]] = field(default_factory=dict)

    def take(self, job_id: str, sequence: int, queue: DeliveryQueue) -> bool:
        """An event that the webhook wants was read; False if it was settled before."""
        if sequence <= queue.after:
            return False
        first, newest = self.jobs.get(job_id, (sequence, sequence))
        self.jobs[job_id] = (first, max(newest, sequence))
        return True

    def until(self, job_id: str, queue: DeliveryQueue) -> int:
        """The newest event of a job that is known to be sent yet, for the next fact about its queue."""
        return max(self.jobs.get(job_id, (0, 0))[1], queue.until)

    def floor(self, deliveries: Deliveries) -> int:
        """The sequence up to which every event is settled, or within what a recorded queue is open for."""
        held = (
            max(first, deliveries.queue(job_id).until + 1) - 1
            for job_id, (first, newest) in self.jobs.items()
            if newest > deliveries.queue(job_id).until
        )
        return max(deliveries.reached, min((self.through, *held)))
