"""What the plan of deliveries to a webhook promises, whatever fails and whenever the deliverer dies."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from dreamforge.contracts.deliveries import Backlog, Deliveries, RetryPolicy
from dreamforge.contracts.webhook_events import (
    DeliveriesReached,
    DeliveryDropped,
    DeliveryEvent,
    DeliveryFailed,
    DeliveryParked,
    DeliveryReplayed,
    DeliverySucceeded,
)

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
POLICY = RetryPolicy(first_seconds=10, longest_seconds=3_600, give_up_seconds=86_400)
JOBS = ("a", "b", "c")


@dataclass
class Installation:
    """JOBS, the log of deliveries, and a deliverer that may lose its memory at any time."""

    jobs: list[str] = field(default_factory=list)  # of each event, by sequence from 1
    log: list[DeliveryEvent] = field(default_factory=list)
    sent: list[tuple[str, int, bool]] = field(default_factory=list)
    now: datetime = NOON
    erased: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """All that is known is folded from the log."""
        self.deliveries = Deliveries()
        for event in self.log:
            self.deliveries.apply(event)
        self.backlog = Backlog(self.deliveries.reached)

    def record(self, event: DeliveryEvent) -> None:
        self.log.append(event)
        self.deliveries.apply(event)

    def read(self, events: int) -> None:
        for _ in range(events):
            if self.backlog.through < len(self.jobs):
                sequence = self.backlog.through + 1
                job = self.jobs[sequence - 1]
                self.backlog.take(job, sequence, self.deliveries.queue(job))
                self.backlog.through = sequence

    def wanted(self, job: str) -> list[int]:
        return [] if job in self.erased else [n for n, each in enumerate(self.jobs, 1) if each == job]

    def attempt(self, job: str, works: bool, dies: bool = False, *, early: bool = False) -> None:
        """What the gateway does for a job that has something to send; `dies` before it is recorded."""
        queue = self.deliveries.queue(job)
        pending = queue.is_open or self.backlog.until(job, queue) > queue.after
        if not pending or (queue.retry_at and queue.retry_at > self.now and not early):
            return
        head, until = queue.next_of(self.wanted(job)), self.backlog.until(job, queue)
        if head is None or job in self.erased:
            sequence = max(until, *queue.again, 1)
            self.record(DeliveryDropped(at=self.now, job_id=job, sequence=sequence, until=until, reason="erased"))
            return
        until = max(until, *self.wanted(job))
        self.sent.append((job, head, works))
        if dies:
            self.restart()
            return
        named = {"at": self.now, "job_id": job, "sequence": head, "until": until, "kind": "k"}
        since, attempts = queue.failing_since or self.now, queue.attempts + 1
        if works:
            self.record(DeliverySucceeded(**named, attempts=attempts, status=200, elapsed_seconds=0))
        elif retry_at := POLICY.retry_at(attempts, since, self.now):
            self.record(DeliveryFailed(**named, attempts=attempts, reason="no", failing_since=since, retry_at=retry_at))
        else:
            self.record(DeliveryParked(**named, attempts=attempts, reason="no", failing_since=since))

    def place(self) -> None:
        self.record(DeliveriesReached(at=self.now, sequence=self.backlog.floor(self.deliveries)))

    def replay_parked(self) -> None:
        for job, sequence in tuple(self.deliveries.parked):
            self.record(DeliveryReplayed(at=self.now, job_id=job, sequence=sequence, kind="k"))


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("event"), st.sampled_from(JOBS)),
        st.tuples(st.just("read"), st.integers(1, 4)),
        st.tuples(st.just("attempt"), st.sampled_from(JOBS), st.booleans(), st.booleans()),
        st.tuples(st.just("place")),
        st.tuples(st.just("restart")),
        st.tuples(st.just("later"), st.sampled_from([1, 60, 7_200, 100_000])),
        st.tuples(st.just("replay_parked")),
    ),
    max_size=60,
)


def after(steps: list[tuple[object, ...]]) -> Installation:
    found = Installation()
    for name, *values in steps:
        if name == "event":
            found.jobs.append(str(values[0]))
        elif name == "later":
            found.now += timedelta(seconds=float(str(values[0])))
        else:
            getattr(found, str(name))(*values)
    return found


def finish(found: Installation) -> None:
    """The receiver works from now on, and the deliverer goes on after one more restart."""
    found.restart()
    found.read(len(found.jobs))
    found.replay_parked()
    for _ in range(2 * len(found.jobs) + 2):
        for job in JOBS:
            found.attempt(job, works=True, early=True)


@given(STEPS)
def test_every_event_arrives_at_least_once_whatever_fails_and_whenever_it_dies(steps):
    found = after(steps)
    finish(found)
    arrived = {(job, sequence) for job, sequence, works in found.sent if works}
    assert arrived == {(job, sequence) for sequence, job in enumerate(found.jobs, 1)}
    assert not found.deliveries.parked
    assert not any(queue.is_open for queue in found.deliveries.queues.values())


@given(STEPS)
def test_events_of_a_job_arrive_for_the_first_time_in_their_order_but_for_parked_ones(steps):
    found = after(steps)
    parked = {(event.job_id, event.sequence) for event in found.log if isinstance(event, DeliveryParked)}
    finish(found)
    for job in JOBS:
        first = dict.fromkeys(n for each, n, works in found.sent if each == job and works)
        in_order = [sequence for sequence in first if (job, sequence) not in parked]
        assert in_order == sorted(in_order)


@given(STEPS)
def test_nothing_is_sent_twice_unless_it_was_replayed_or_the_deliverer_died_before_it_was_recorded(steps):
    calm = [(*step[:3], False) if step[0] == "attempt" else step for step in steps if step[0] != "replay_parked"]
    found = after(calm)
    arrived = [(job, sequence) for job, sequence, works in found.sent if works]
    assert len(arrived) == len(set(arrived))


@given(STEPS, st.sampled_from(JOBS))
def test_of_an_erased_job_nothing_is_sent_and_nothing_waits(steps, job):
    found = after(steps)
    found.erased.add(job)
    before = len(found.sent)
    finish(found)
    assert all(each != job for each, _, _ in found.sent[before:])
    assert not found.deliveries.queue(job).is_open


@given(st.integers(1, 1_000), st.integers(0, 100_000), st.integers(0, 10_000))
def test_a_retry_comes_after_a_bounded_wait_or_not_at_all(attempts, failing_seconds, asked):
    since = NOON - timedelta(seconds=failing_seconds)
    due = POLICY.retry_at(attempts, since, NOON, asked)
    if due is not None:
        assert 10 <= (due - NOON).total_seconds() <= 3_600
        assert due <= since + timedelta(days=1)
    else:
        assert failing_seconds + 3_600 > 86_400
