"""The event log as an aggregate store: load a job, append at the version it was read at.

A job's version is the last sequence under `forge.jobs.{job_id}.>`. Appends that wait at the same time go out
as one atomic batch: the group commit that JetStream does not have of itself (one fsync for many).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from dreamforge.contracts.errors import DependencyAway, JobNotFound, VersionConflict
from dreamforge.contracts.events import Event, JobAssigned, JobEvent, JobRequested
from dreamforge.contracts.jobs import decisions
from dreamforge.contracts.jobs.state import INITIAL, JobState, evolve
from dreamforge.contracts.log import subjects
from dreamforge.contracts.log.envelope import Recorded, seal
from dreamforge.runtime import clock, ids
from dreamforge.runtime.log import direct_get
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.log.group_commit import Append, GroupCommit
from dreamforge.runtime.log.newest_readable import newest_readable
from dreamforge.runtime.log.readable import readable
from dreamforge.runtime.service import telemetry

# A job has few writers (gateway, scheduler, one runner): more conflicts in a row than this is a bug, not a race.
MAX_DECISIONS = 8


@dataclass(frozen=True, slots=True)
class Loaded:
    """A job as it was read: `version` is what the next append must state; 0 means there is no such job."""

    state: JobState = INITIAL
    version: int = 0
    history: tuple[Recorded, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command led to: the events that were appended now (none if nothing was left to do)."""

    events: tuple[JobEvent, ...]
    state: JobState
    version: int


class EventStore:
    """The one way to write facts. `source` is the CloudEvents source of what this process appends."""

    def __init__(self, bus: Bus, source: str) -> None:
        self._bus = bus
        self._source = source
        self._commit = GroupCommit(bus)

    async def load(self, job_id: str) -> Loaded:
        """Read a whole job, with everything that was acknowledged before, in two requests.

        A message that nobody can read is passed over, but counts as version. Errors: DependencyAway.
        """
        found, version = await newest_readable(self._bus, "JOBS", subjects.job_filter(job_id))
        history = tuple(recorded for _, recorded in found)
        state = INITIAL
        for recorded in history:
            state = evolve(state, recorded.event)
        return Loaded(state, version, history)

    async def load_assigned(self, job_id: str, assigned: JobAssigned, sequence: int) -> Loaded:
        """The job right after an assignment at `sequence`, from its request alone: a third of the time of `load`.

        Whatever came later moved the version, so an append that states this one is refused and decided again.
        Errors: DependencyAway.
        """
        found = await direct_get.last(self._bus, "JOBS", f"{subjects.job_filter(job_id)[:-1]}0.{JobRequested.TOKEN}")
        recorded = readable(found) if found else None
        if recorded is None:
            return await self.load(job_id)
        return Loaded(evolve(evolve(INITIAL, recorded.event), assigned), sequence, (recorded,))

    async def append(self, entity_id: str, events: Sequence[Event], *, expected: int, traceparent: str = "") -> int:
        """Append events of one aggregate, all or none, if its version is still `expected`; give the new version.

        Errors: VersionConflict (read and decide again), DependencyAway (NATS is away or full: nothing is known
        to be written). A lost ack is looked up by event id, so that a retry of what was written is success.
        """
        envelopes = tuple(
            seal(event, entity_id=entity_id, event_id=ids.new_id(), source=self._source, traceparent=traceparent)
            for event in events
        )
        append = Append(envelopes, subjects.aggregate_filter(events[0], entity_id), expected)
        began = clock.monotonic_seconds()
        outcome = "lost"
        try:
            sequence = await self._append(append)
            outcome = "written"
        except VersionConflict:
            outcome = "conflict"
            raise
        finally:
            telemetry.APPENDS.labels(outcome).inc()
            telemetry.APPEND_SECONDS.observe(clock.monotonic_seconds() - began)
        return sequence

    async def _append(self, append: Append) -> int:
        try:
            return await self._commit.append(append)
        except DependencyAway:
            if (sequence := await self._written(append)) is not None:
                return sequence
            raise

    async def execute(
        self, job_id: str, command: decisions.Command, *, known: Loaded | None = None, traceparent: str = ""
    ) -> Outcome:
        """Load, decide, append; on a conflict again, bounded. `known` saves the first read.

        Errors: what `decide` raises, DependencyAway, VersionConflict after MAX_DECISIONS races in a row.
        """
        for _ in range(MAX_DECISIONS):
            loaded = known or await self.load(job_id)
            known = None
            events = _decide(job_id, loaded.state, command)
            if not events:
                return Outcome((), loaded.state, loaded.version)
            try:
                version = await self.append(job_id, events, expected=loaded.version, traceparent=traceparent)
            except VersionConflict:
                continue
            state = loaded.state
            for event in events:
                state = evolve(state, event)
            return Outcome(events, state, version)
        raise VersionConflict(subject=subjects.job_filter(job_id), expected_version=loaded.version)

    async def _written(self, append: Append) -> int | None:
        """After a lost ack: the sequence if our last event is in the log, None if it is not or cannot be known."""
        ours = append.envelopes[-1]
        try:
            messages = await direct_get.last_of_each(self._bus, append.stream, ours.subject)
        except DependencyAway:
            return None
        same = [m for m in messages if m.headers.get("ce-id") == ours.headers["ce-id"]]
        return same[0].sequence if same else None

    async def close(self) -> None:
        """Finish what is in flight."""
        await self._commit.close()


def _decide(job_id: str, state: JobState, command: decisions.Command) -> decisions.Events:
    try:
        return decisions.decide(state, command)
    except JobNotFound:
        raise JobNotFound(job_id=job_id) from None
