"""Which messages are parked, and why: a fold of the stream PARKED. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from dreamforge.contracts.installation_events import MessageParked, ParkedSettled
from dreamforge.contracts.log.envelope import Recorded


@dataclass(frozen=True, slots=True)
class Parked:
    """One parked message. `sequence`: its place in PARKED, by which it is named; `count`: how often it was parked."""

    sequence: int
    event: MessageParked
    count: int = 1


def unsettled(records: Iterable[Recorded]) -> dict[int, Parked]:
    """The unsettled messages by their place in PARKED. One that is parked again counts up."""
    found: dict[int, Parked] = {}
    place: dict[tuple[str, int, str], int] = {}
    for record in records:
        if isinstance(record.event, ParkedSettled):
            gone = found.pop(record.event.parked_sequence, None)
            if gone is not None:
                place.pop(_origin(gone.event), None)
        elif isinstance(record.event, MessageParked):
            first = place.setdefault(_origin(record.event), record.sequence)
            count = found[first].count + 1 if first in found else 1
            found[first] = Parked(first, record.event, count)
    return found


def _origin(event: MessageParked) -> tuple[str, int, str]:
    return (event.stream, event.sequence, event.service)
