"""Events as a stream's client gets them: encoded once, numbered for each client. Pure."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from dreamforge.contracts.errors import MalformedEvent
from dreamforge.contracts.events import TERMINAL_EVENTS, StepProgressed
from dreamforge.contracts.log.envelope import unseal
from dreamforge.gateway.http.cursor import EventCursor

HEARTBEAT = b": still here\n\n"


class Message(Protocol):
    """What a direct get and a follower both give."""

    @property
    def subject(self) -> str: ...
    @property
    def headers(self) -> dict[str, str]: ...
    @property
    def data(self) -> bytes: ...
    @property
    def sequence(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Moment:
    """A fact (from JOBS) or a step (from STEPS). `tail` is its frame without the id line."""

    sequence: int
    is_step: bool
    terminal: bool
    at: datetime
    tail: bytes


def moment_of(message: Message) -> Moment | None:
    """Encode a message of a job; None if nobody can read it (the projector parks it, a stream passes over it)."""
    try:
        recorded = unseal(message.subject, message.headers, message.data, sequence=message.sequence)
    except MalformedEvent:
        return None
    event = recorded.event
    head = {"job_id": recorded.entity_id, "sequence": message.sequence, "type": event.TYPE}
    # Two JSON objects become one; the payload is compact JSON of ours, so it has no line break.
    data = json.dumps(head)[:-1] + ", " + event.model_dump_json()[1:]
    return Moment(
        sequence=message.sequence,
        is_step=isinstance(event, StepProgressed),
        terminal=isinstance(event, TERMINAL_EVENTS),
        at=event.at,
        tail=f"event: {event.TOKEN}\ndata: {data}\n\n".encode(),
    )


def moments_of(messages: Iterable[Message]) -> list[Moment]:
    """All that can be read, in the order given."""
    return [moment for message in messages if (moment := moment_of(message)) is not None]


def merge(facts: list[Moment], steps: list[Moment]) -> list[Moment]:
    """History as one story: by time, each stream in its own order, and the terminal fact last.

    The clocks of services may differ, so time decides only how the two orders interleave.
    """
    story: list[Moment] = []
    rest = iter(steps)
    step = next(rest, None)
    for fact in facts:
        while step is not None and (fact.terminal or step.at < fact.at):
            story.append(step)
            step = next(rest, None)
        story.append(fact)
    if step is not None:
        story += [step, *rest]
    return story


@dataclass(slots=True)
class Reader:
    """One client's place. `frames` gives what it has not seen, and `ended` is set once the job is over."""

    cursor: EventCursor
    ended: bool = False

    def lose(self, steps_after: int) -> None:
        """STEPS has forgotten its steps past a sequence: what has these numbers from now on was not seen."""
        self.cursor = EventCursor(self.cursor.facts, min(self.cursor.steps, steps_after))

    def frames(self, moments: Iterable[Moment]) -> list[bytes]:
        """The frames of what is new to this client, each with its id."""
        return [frame for moment in moments if (frame := self._frame(moment)) is not None]

    def _frame(self, moment: Moment) -> bytes | None:
        if self.ended:
            return None
        self.ended = moment.terminal
        facts, steps = self.cursor.facts, self.cursor.steps
        if moment.sequence <= (steps if moment.is_step else facts):
            return None
        if moment.is_step:
            self.cursor = EventCursor(facts, moment.sequence)
        else:
            self.cursor = EventCursor(moment.sequence, steps)
        return b"id: %d-%d\n" % (self.cursor.facts, self.cursor.steps) + moment.tail
