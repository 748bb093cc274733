"""Events as the client of a stream gets them: encoded once, numbered for each client. Pure."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from json.encoder import encode_basestring_ascii as encoded
from typing import Protocol

from dreamforge.contracts.events import (
    TERMINAL_EVENTS,
    ErasureRequested,
    JobArchived,
    JobAssigned,
    JobErased,
    JobEvent,
    StepProgressed,
)
from dreamforge.contracts.jobs.course import JobCourse, advance
from dreamforge.contracts.jobs.refusal import refusal, step_refusal
from dreamforge.contracts.log.envelope import unseal_or_none
from dreamforge.gateway.http.cursor import EventCursor

# After these a stream ends: the job is over, or is shown no more.
LAST_EVENTS: tuple[type[JobEvent], ...] = (*TERMINAL_EVENTS, ErasureRequested, JobErased)
HEARTBEAT = b": still here\n\n"
# Steps that wait for the assignment of their attempt: the two logs are followed independently. More are dropped.
EARLY_STEPS = 256


class Message(Protocol):
    """What a direct get and a follower both return."""

    @property
    def subject(self) -> str: ...
    @property
    def headers(self) -> dict[str, str]: ...
    @property
    def data(self) -> bytes: ...
    @property
    def sequence(self) -> int: ...


NOWHERE = EventCursor()


@dataclass(slots=True)
class LastFrame:
    """The frame of an event as it was made last: all clients that are up to date have the same place before it."""

    before: EventCursor | None = None
    after: EventCursor = NOWHERE
    frame: bytes = b""


@dataclass(slots=True)
class SseEvent:
    """An event of a job: a fact (from JOBS) or a step (from STEPS). `tail` is its frame without the id line.

    A value that nothing changes; not frozen, as one is made for each step of all jobs, and that takes twice as long.
    """

    sequence: int
    is_step: bool
    terminal: bool
    at: datetime
    tail: bytes
    event: JobEvent
    job_id: str = ""
    last: LastFrame = field(default_factory=LastFrame, compare=False, repr=False)

    def frame_after(self, before: EventCursor) -> LastFrame:
        """The frame for a client that has what is up to `before`, and the place that it has then."""
        last = self.last
        if last.before is not before and last.before != before:
            if self.is_step:
                last.after = EventCursor(before.facts, self.sequence, before.log)
            else:
                last.after = EventCursor(self.sequence, before.steps, before.log)
            last.before, last.frame = before, f"id: {last.after}\n".encode() + self.tail
        return last


def sse_event_of(message: Message) -> SseEvent | None:
    """Encode a message of a job; None if it is malformed (the projector parks it), or says only where others are."""
    recorded = unseal_or_none(message.subject, message.headers, message.data, sequence=message.sequence)
    if recorded is None:
        return None
    if not isinstance(recorded.event, JobEvent) or isinstance(recorded.event, JobArchived):
        return None
    return sse_event(recorded.entity_id, message.sequence, recorded.event)


def sse_event(job_id: str, sequence: int, event: JobEvent) -> SseEvent:
    """Encode an event of a job that was appended with this sequence."""
    # Two JSON objects become one; the payload is compact JSON, so it has no line break.
    head = (
        f'event: {event.TOKEN}\ndata: {{"job_id": {encoded(job_id)}, "sequence": {sequence}, "type": "{event.TYPE}", '
    )
    payload = event.__pydantic_serializer__.to_json(event)
    return SseEvent(
        sequence=sequence,
        is_step=isinstance(event, StepProgressed),
        terminal=isinstance(event, LAST_EVENTS),
        at=event.at,
        tail=b"%b%b\n\n" % (head.encode(), payload[1:]),
        event=event,
        job_id=job_id,
    )


def sse_events_of(messages: Iterable[Message]) -> list[SseEvent]:
    """All messages that are not malformed, in the given order."""
    return [event for message in messages if (event := sse_event_of(message)) is not None]


def accepted(facts: Iterable[SseEvent]) -> list[SseEvent]:
    """The facts of a job, from its first on, without those that its folds refuse."""
    return list(Acceptance().passed(facts))


def merge(facts: list[SseEvent], steps: list[SseEvent]) -> list[SseEvent]:
    """Facts and steps in one order: by time, each stream in its own order, and the terminal fact last.

    The clocks of services may differ, so time decides only how the two orders interleave.
    """
    merged: list[SseEvent] = []
    rest = iter(steps)
    step = next(rest, None)
    for fact in facts:
        while step is not None and (fact.terminal or step.at < fact.at):
            merged.append(step)
            step = next(rest, None)
        merged.append(fact)
    if step is not None:
        merged += [step, *rest]
    return merged


Progress = tuple[datetime, float, tuple[int, int]]


def progress_of(step: StepProgressed) -> Progress:
    """How far an attempt has come with a step. One that is no further in any part was passed before.

    A sequence number does not say so: steps that a killed server has lost give their numbers to later ones, which a
    stream may read before it hears of the loss, and then once more. The clock of a runner may go back, its elapsed
    seconds do not.
    """
    return step.at, step.elapsed_seconds, (step.image_index, step.step)


@dataclass(slots=True)
class JobAcceptance:
    """Folds one job: see `Acceptance`."""

    course: JobCourse = field(default_factory=JobCourse)
    folded: int = 0
    runners: dict[int, str] = field(default_factory=dict)
    early: list[SseEvent] = field(default_factory=list)
    progress: dict[int, Progress] = field(default_factory=dict)  # by attempt

    def accept(self, event: SseEvent) -> tuple[SseEvent, ...]:
        """The event, unless it is refused or has to wait; an assignment is followed by the steps that waited for it."""
        if isinstance(event.event, StepProgressed):
            return self._accept_step(event, event.event)
        if event.sequence <= self.folded or refusal(self.course, event.event) is not None:
            return ()
        self.course, self.folded = advance(self.course, event.event), event.sequence
        if not isinstance(event.event, JobAssigned):
            return (event,)
        self.runners[event.event.attempt] = event.event.runner_id
        early, self.early = self.early, []
        return (event, *(step for each in early for step in self.accept(each)))

    def _accept_step(self, event: SseEvent, step: StepProgressed) -> tuple[SseEvent, ...]:
        if step_refusal(self.runners.get(step.attempt), step) is None:
            now, before = progress_of(step), self.progress.get(step.attempt)
            if before is not None and now[0] <= before[0] and now[1] <= before[1] and now[2] <= before[2]:
                return ()
            self.progress[step.attempt] = now
            return (event,)
        if step.attempt == self.course.attempt + 1 and len(self.early) < EARLY_STEPS:
            self.early.append(event)
        return ()


@dataclass(slots=True)
class Acceptance:
    """Holds back what the folds of jobs refuse. It must be given each fact of a job once or more, in order."""

    _jobs: dict[str, JobAcceptance] = field(default_factory=dict)

    def passed(self, events: Iterable[SseEvent]) -> Iterator[SseEvent]:
        """Those that are not refused, each once; a step of an attempt that is not known yet comes after it."""
        for event in events:
            if (job := self._jobs.get(event.job_id)) is None:
                job = self._jobs[event.job_id] = JobAcceptance()
            yield from job.accept(event)

    def forget(self, job_id: str) -> None:
        """No more events of a job will be given."""
        self._jobs.pop(job_id, None)


@dataclass(slots=True)
class StreamCursor:
    """What one client has been sent. `frames` makes the rest, and `ended` is set once all `jobs` have ended."""

    cursor: EventCursor
    ended: bool = False
    jobs: int = 1
    _ended_jobs: frozenset[str] = frozenset()

    def lose(self, steps_after: int) -> None:
        """STEPS has lost its steps past a sequence: what gets these numbers from now on has not been sent."""
        self.cursor = replace(self.cursor, steps=min(self.cursor.steps, steps_after))

    def frames(self, events: Iterable[SseEvent]) -> list[bytes]:
        """The frames of the events that this client has not been sent, each with its id."""
        return [frame for event in events if (frame := self._frame(event)) is not None]

    def _frame(self, event: SseEvent) -> bytes | None:
        if self.ended or (event.is_step and event.job_id in self._ended_jobs):
            return None
        if event.terminal:
            self._ended_jobs |= {event.job_id}
            self.ended = len(self._ended_jobs) >= self.jobs
        facts, steps = self.cursor.facts, self.cursor.steps
        if event.sequence <= (steps if event.is_step else facts):
            return None
        told = event.frame_after(self.cursor)
        self.cursor = told.after
        return told.frame
