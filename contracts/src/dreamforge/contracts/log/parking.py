"""Which messages stand parked, and why: a fold of the stream PARKED. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from dreamforge.contracts.events import MessageParked, ParkedSettled
from dreamforge.contracts.log.envelope import Recorded


@dataclass(frozen=True, slots=True)
class Parked:
    """One message set aside. `sequence` is its place in PARKED, by which it is named; `count` how often it came."""

    sequence: int
    event: MessageParked
    count: int = 1


def standing(records: Iterable[Recorded]) -> dict[int, Parked]:
    """The messages that nobody has dealt with yet, by their place in PARKED. A message parked again counts up."""
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
