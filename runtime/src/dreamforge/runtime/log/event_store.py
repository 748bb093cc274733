"""The event log as an aggregate store: load, decide, append at the version that was read.

The version of a job is the last sequence under `forge.jobs.{job_id}.>`. Appends that wait at the same time go out
as one atomic batch: the group commit that JetStream does not have of itself (one fsync for many).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic

from dreamforge.contracts.errors import DependencyAway, VersionConflict
from dreamforge.contracts.events import Event, JobAssigned, JobEvent, JobRequested
from dreamforge.contracts.jobs.decisions import Command, RequestJob, decide
from dreamforge.contracts.jobs.state import INITIAL, JobState, evolve
from dreamforge.contracts.log import subjects
from dreamforge.contracts.log.actor import Actor
from dreamforge.contracts.log.envelope import Recorded, seal
from dreamforge.contracts.log.streams import JOBS
from dreamforge.runtime import clock, ids
from dreamforge.runtime.log import direct_get
from dreamforge.runtime.log.aggregate import JOB, Aggregate, C, E, S
from dreamforge.runtime.log.archived import NO_ARCHIVE, ArchiveReader, whole
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.log.group_commit import Append, GroupCommit
from dreamforge.runtime.log.newest_readable import newest_readable
from dreamforge.runtime.log.readable import readable
from dreamforge.runtime.service import telemetry, tracing
from dreamforge.runtime.service.spans import SpanAttributes

# A job has few writers (gateway, scheduler, one runner): more conflicts in a row than this is a bug, not a race.
MAX_DECISIONS = 8
# Of a batch of jobs, a span names so many of its events.
TYPES_MAX = 16


@dataclass(frozen=True)  # without slots: Python 3.11 cannot call an alias like `LoadedJob` of such a class
class Loaded(Generic[S]):
    """An aggregate as it was read: `version` is what the next append must state; 0 means that there is none."""

    state: S
    version: int = 0
    history: tuple[Recorded, ...] = ()


@dataclass(frozen=True)  # without slots: Python 3.11 cannot call an alias like `JobOutcome` of such a class
class Outcome(Generic[S, E]):
    """What a command led to: the events that were appended now (none if nothing was left to do)."""

    events: tuple[E, ...]
    state: S
    version: int


LoadedJob = Loaded[JobState]
JobOutcome = Outcome[JobState, JobEvent]
NEW_JOB: LoadedJob = Loaded(INITIAL)
"""What is known of a job before its first event: saves the first read of a new one."""


class EventStore:
    """The one way to write facts. `source` is the CloudEvents source of what this process appends.

    `actor`: who causes what it appends, where a call does not say that. `archive`: where jobs that ended long ago are.
    """

    def __init__(self, bus: Bus, source: str, actor: Actor | None = None, archive: ArchiveReader = NO_ARCHIVE) -> None:
        self._bus = bus
        self._archive = archive
        self._source = source
        self._actor = actor
        self._commit = GroupCommit(bus)

    async def load(self, job_id: str) -> LoadedJob:
        """Read a whole job, with everything that was acknowledged before, in two requests. Errors: DependencyAway."""
        return await self.read(JOB, job_id)

    async def read(self, aggregate: Aggregate[S, C, E], entity_id: str) -> Loaded[S]:
        """Read any aggregate. A message that cannot be read is passed over, but counts as version.

        Errors: DependencyAway.
        """
        found, version = await newest_readable(self._bus, aggregate.stream, aggregate.filter_of(entity_id))
        if aggregate.stream == JOBS.name:
            found = await whole(entity_id, found, self._archive)
        history = tuple(recorded for _, recorded in found)
        state = aggregate.initial
        for recorded in history:
            state = aggregate.evolve(state, recorded.event)
        return Loaded(state, version, history)

    async def load_assigned(self, job_id: str, assigned: JobAssigned, sequence: int) -> LoadedJob:
        """The job right after an assignment at `sequence`, from its request alone: a third of the time of `load`.

        An attempt after the first needs the whole job: earlier ones may have stored images. Whatever came later moved
        the version, so an append that states this one is refused and decided again.
        Errors: DependencyAway.
        """
        if assigned.attempt > 1:
            return await self.load(job_id)
        found = await direct_get.last(self._bus, "JOBS", f"{subjects.job_filter(job_id)[:-1]}0.{JobRequested.TOKEN}")
        recorded = readable(found) if found else None
        if recorded is None:
            return await self.load(job_id)
        return Loaded(evolve(evolve(INITIAL, recorded.event), assigned), sequence, (recorded,))

    async def append(
        self,
        entity_id: str,
        events: Sequence[Event],
        *,
        expected: int,
        traceparent: str = "",
        actor: Actor | None = None,
    ) -> int:
        """Append events of one aggregate, all or none, if its version is still `expected`; give the new version.

        Errors: VersionConflict (read and decide again), DependencyAway (NATS is away or full: nothing is known
        to be written), EventTooLarge. A lost ack is looked up by event id: a retry of what was written is success.
        """
        return await self._traced(traceparent, self._append_of(entity_id, events, expected, traceparent, actor))

    async def request_together(
        self, commands: Mapping[str, RequestJob], *, traceparent: str = "", actor: Actor | None = None
    ) -> JobOutcome:
        """Make several new jobs, all or none; the outcome of the first, which has no events if they existed before.

        Its version is the sequence of the last request. Ids of jobs that are made together are made of each other, so
        the first one exists if any does. Errors: IdempotencyConflict (they exist, of another request), DependencyAway,
        EventTooLarge, VersionConflict (of a job that someone else has made).
        """
        first_id, first = next(iter(commands.items()))
        events = {job_id: decide(INITIAL, command) for job_id, command in commands.items()}
        appends = [self._append_of(job_id, each, 0, traceparent, actor) for job_id, each in events.items()]
        try:
            sequence = await self._traced(traceparent, *appends)
        except VersionConflict:
            loaded = await self.load(first_id)
            if not loaded.version:
                raise
            decide(loaded.state, first)
            requested = loaded.history[0].sequence if loaded.history else 0
            return Outcome((), loaded.state, max(loaded.version, requested + len(commands) - 1))
        return Outcome(events[first_id], evolve(INITIAL, events[first_id][0]), sequence)

    def _append_of(
        self, entity_id: str, events: Sequence[Event], expected: int, traceparent: str, actor: Actor | None
    ) -> Append:
        envelopes = tuple(
            seal(
                event,
                entity_id=entity_id,
                event_id=ids.new_id(),
                source=self._source,
                traceparent=traceparent,
                actor=actor or self._actor,
            )
            for event in events
        )
        return Append(envelopes, subjects.aggregate_filter(events[0], entity_id), expected)

    async def _traced(self, traceparent: str, *appends: Append) -> int:
        """One append as a span, by the conventions for messaging."""
        if not tracing.records(traceparent):
            return await self._measured(*appends)
        stream = appends[0].stream
        types = [envelope.headers["ce-type"] for append in appends for envelope in append.envelopes]
        attributes: SpanAttributes = {
            "messaging.system": "nats",
            "messaging.operation.name": "publish",
            "messaging.operation.type": "send",
            "messaging.destination.name": stream,
            "messaging.batch.message_count": len(types) if len(types) > 1 else None,
            "dreamforge.event.types": types[:TYPES_MAX],
        }
        with tracing.span(f"publish {stream}", kind="producer", parent=traceparent, attributes=attributes) as span:
            sequence = await self._measured(*appends)
            span.set({"dreamforge.sequence": sequence})
        return sequence

    async def _measured(self, *appends: Append) -> int:
        began = clock.monotonic_seconds()
        outcome = "lost"
        try:
            sequence = await self._append(*appends)
            outcome = "written"
        except VersionConflict:
            outcome = "conflict"
            raise
        finally:
            telemetry.APPENDS.labels(outcome).inc()
            telemetry.APPEND_SECONDS.observe(clock.monotonic_seconds() - began)
        return sequence

    async def _append(self, *appends: Append) -> int:
        try:
            return await self._commit.append(*appends)
        except DependencyAway:
            if (sequence := await self._written(appends[-1])) is not None:
                return sequence
            raise

    async def execute(
        self,
        job_id: str,
        command: Command,
        *,
        known: LoadedJob | None = None,
        traceparent: str = "",
        actor: Actor | None = None,
    ) -> JobOutcome:
        """A command to a job: see `handle`."""
        return await self.handle(JOB, job_id, command, known=known, traceparent=traceparent, actor=actor)

    async def handle(
        self,
        aggregate: Aggregate[S, C, E],
        entity_id: str,
        command: C,
        *,
        known: Loaded[S] | None = None,
        traceparent: str = "",
        actor: Actor | None = None,
    ) -> Outcome[S, E]:
        """Load, decide, append; after a conflict again, bounded. `known` saves the first read.

        Errors: those of the aggregate's `decide`, DependencyAway, VersionConflict after MAX_DECISIONS races in a row.
        """
        for _ in range(MAX_DECISIONS):
            loaded = known or await self.read(aggregate, entity_id)
            known = None
            events = aggregate.decide(entity_id, loaded.state, command)
            if not events:
                return Outcome((), loaded.state, loaded.version)
            try:
                version = await self.append(
                    entity_id, events, expected=loaded.version, traceparent=traceparent, actor=actor
                )
            except VersionConflict:
                continue
            state = loaded.state
            for event in events:
                state = aggregate.evolve(state, event)
            return Outcome(events, state, version)
        raise VersionConflict(subject=aggregate.filter_of(entity_id), expected_version=loaded.version)

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
