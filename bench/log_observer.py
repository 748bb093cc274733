"""Reads the whole log beside the system: every event of every job, which runner has which job, and when it changed."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import psycopg

from dreamforge.contracts.errors import MalformedEvent
from dreamforge.contracts.events import (
    TERMINAL_EVENTS,
    ArtifactStored,
    AttemptFailed,
    JobAssigned,
    JobEvent,
    JobRequested,
    JobStarted,
    JobSucceeded,
)
from dreamforge.contracts.log.envelope import unseal
from dreamforge.contracts.log.subjects import entity_of
from dreamforge.contracts.tables import CHECKPOINT_CHANNEL
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.log.follow import Follower
from dreamforge.runtime.log.message import LogMessage

Apply = Callable[[LogMessage], None]
Condition = Callable[[], bool]
# Between two attempts to connect to a database that is unavailable.
RECONNECT_SECONDS = 0.05
# What `LogObserver.latest` calls a commit of the read tables.
PROJECTED = "projected"


@dataclass
class LogObserver:
    """Follows JOBS and STEPS from the start. `changed` is notified after each batch."""

    bus: Bus
    facts: dict[str, list[tuple[int, JobEvent]]] = field(default_factory=lambda: defaultdict(list))
    steps: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    current_attempts: dict[str, tuple[str, int]] = field(default_factory=dict)  # job -> (runner, attempt)
    latest: dict[str, float] = field(default_factory=dict)  # event token or noted key -> when it was seen last
    unreadable: int = 0
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow("JOBS", self._fact))
            group.create_task(self._follow("STEPS", self._step))

    async def watch_tables(self, database_url: str) -> None:
        """Note each commit of the read tables, on one connection after the other, until cancelled."""
        while True:
            with suppress(psycopg.Error, OSError):
                async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
                    await connection.execute(f"LISTEN {CHECKPOINT_CHANNEL}".encode())
                    async for _ in connection.notifies():
                        await self.note(PROJECTED, time.monotonic())
            await asyncio.sleep(RECONNECT_SECONDS)

    async def note(self, what: str, at: float) -> None:
        """Record that something happened, at a time of the monotonic clock."""
        self.latest[what] = max(at, self.latest.get(what, 0.0))
        async with self.changed:
            self.changed.notify_all()

    async def _follow(self, stream: str, apply: Apply) -> None:
        async for batch in Follower(self.bus, stream).batches():
            for message in batch.messages:
                apply(message)
            async with self.changed:
                self.changed.notify_all()

    def _step(self, message: LogMessage) -> None:
        self.steps[entity_of(message.subject)].append(message.sequence)

    def _fact(self, message: LogMessage) -> None:
        try:
            record = unseal(message.subject, message.headers, message.data, sequence=message.sequence)
        except MalformedEvent:
            self.unreadable += 1
            return
        event, job_id = record.event, record.entity_id
        assert isinstance(event, JobEvent)
        self.facts[job_id].append((record.sequence, event))
        self.latest[event.TOKEN] = time.monotonic()
        if isinstance(event, JobAssigned):
            self.current_attempts[job_id] = (event.runner_id, event.attempt)
        elif isinstance(event, (AttemptFailed, *TERMINAL_EVENTS)):
            self.current_attempts.pop(job_id, None)

    async def until(self, true: Condition, seconds: float) -> bool:
        """Wait until a condition is true; False if it does not in time."""
        try:
            async with asyncio.timeout(seconds), self.changed:
                await self.changed.wait_for(true)
        except TimeoutError:
            return False
        return True

    def attempts_of(self, runner_id: str) -> dict[str, int]:
        """The attempt of each job that a runner has been given and not finished."""
        return {job: attempt for job, (runner, attempt) in self.current_attempts.items() if runner == runner_id}

    def runs_again(self, job_id: str, attempt: int) -> bool:
        """A later attempt of the job has started, or the job has ended."""
        return any(
            isinstance(event, TERMINAL_EVENTS) or (isinstance(event, JobStarted) and event.attempt > attempt)
            for _, event in self.facts[job_id]
        )

    def terminal(self, job_id: str) -> list[JobEvent]:
        """The terminal events of a job: exactly one in a correct system."""
        return [event for _, event in self.facts[job_id] if isinstance(event, TERMINAL_EVENTS)]

    def requested(self) -> set[str]:
        """Every job in the log."""
        return {job for job, facts in self.facts.items() if any(isinstance(e, JobRequested) for _, e in facts)}

    def open_jobs(self) -> set[str]:
        """Jobs without a terminal event."""
        return {job for job in self.requested() if not self.terminal(job)}

    def attempts(self) -> list[int]:
        """How many attempts each job took."""
        return [sum(isinstance(e, JobAssigned) for _, e in facts) for facts in self.facts.values()]

    def promised_images(self, job_id: str) -> tuple[str, ...] | None:
        """The content hashes that a succeeded job promises; None if it did not succeed."""
        found = [event.artifacts for event in self.terminal(job_id) if isinstance(event, JobSucceeded)]
        return found[0] if found else None

    def stored_images(self, job_id: str) -> dict[int, list[str]]:
        """The content hashes of the images that were stored before the job ended, by index: one each if correct."""
        found: dict[int, list[str]] = defaultdict(list)
        for _, event in self.facts[job_id]:
            if isinstance(event, TERMINAL_EVENTS):
                break
            if isinstance(event, ArtifactStored):
                found[event.index].append(event.sha256)
        return found
