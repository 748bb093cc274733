"""Queues that can be held: the queue aggregate, one for each tenant and one for the whole fleet. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from dreamforge.contracts.installation_events import QueueEvent, QueueHeld, QueueReleased

FLEET = "fleet"
"""The scope of every queue: its aggregate id and the third token of its subjects."""
_TENANT = "tenant-"


def scope_of(tenant: str | None) -> str:
    """The aggregate of a tenant's queue; None: of every queue.

    >>> scope_of("fleet"), scope_of(None)
    ('tenant-fleet', 'fleet')
    """
    return FLEET if tenant is None else _TENANT + tenant


def tenant_of_scope(scope: str) -> str | None:
    """The tenant of a scope; None: the whole fleet."""
    return None if scope == FLEET else scope.removeprefix(_TENANT)


@dataclass(frozen=True, slots=True)
class QueueState:
    """One queue, folded."""

    held_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class HoldQueue:
    """Assign no job of this queue until it is released."""

    now: datetime
    requested_by: str = "operator"


@dataclass(frozen=True, slots=True)
class ReleaseQueue:
    """Assign jobs of this queue again."""

    now: datetime
    requested_by: str = "operator"


QueueCommand = HoldQueue | ReleaseQueue


def decide_queue(state: QueueState, command: QueueCommand) -> tuple[QueueEvent, ...]:
    """What follows from a command; () when nothing does."""
    held = state.held_since is not None
    if isinstance(command, HoldQueue):
        return () if held else (QueueHeld(at=command.now, requested_by=command.requested_by),)
    return (QueueReleased(at=command.now, requested_by=command.requested_by),) if held else ()


def evolve_queue(state: QueueState, event: QueueEvent) -> QueueState:
    """The state after one more fact. Errors: TypeError for an event that is not of this aggregate."""
    match event:
        case QueueHeld():
            return replace(state, held_since=event.at)
        case QueueReleased():
            return replace(state, held_since=None)
    raise TypeError(type(event).__name__)


@dataclass(frozen=True, slots=True)
class QueueHold:
    """What keeps a queue from being served, and since when."""

    kind: Literal["tenant", "fleet"]
    since: datetime


def hold_of(tenant: str, held: Mapping[str, datetime]) -> QueueHold | None:
    """The hold on a tenant's queue, if any; that of the whole fleet counts first. `held`: since when, by scope."""
    if (since := held.get(FLEET)) is not None:
        return QueueHold("fleet", since)
    since = held.get(scope_of(tenant))
    return None if since is None else QueueHold("tenant", since)
