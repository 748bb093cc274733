"""Ranges of the log that several processes fold beside each other. Pure.

A job belongs to the range that has its request: there its events are folded in order, as long as its range knows it.
Events of jobs that were requested in a range before, or that ended and are not known any more, are left, and folded
when everything before them is in the tables. So each event is folded after those of its job that come before it.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from itertools import pairwise

from dreamforge.contracts.events import JobRequested
from dreamforge.projector.folding.decode import Decoded


@dataclass(frozen=True, slots=True)
class LogRange:
    """Sequences of a stream, `first` and `last` among them."""

    first: int
    last: int


def ranges_of(first: int, last: int, processes: int, messages_min: int) -> tuple[LogRange, ...]:
    """The sequences from `first` to `last` in equal ranges, one for each process; fewer where they would be small.

    >>> ranges_of(1, 100_000, 2, 25_000)
    (LogRange(first=1, last=50000), LogRange(first=50001, last=100000))
    >>> ranges_of(1, 30_000, 2, 25_000), ranges_of(5, 4, 2, 25_000)
    ((LogRange(first=1, last=30000),), (LogRange(first=5, last=4),))
    """
    messages = last - first + 1
    count = max(1, min(processes, messages // messages_min))
    ends = [first - 1 + messages * number // count for number in range(count + 1)]
    return tuple(LogRange(before + 1, end) for before, end in pairwise(ends))


@dataclass(slots=True)
class Ownership:
    """Which events of a range it folds itself. `left`: jobs of which it has left an event, and so all after it."""

    left: set[str] = field(default_factory=set)

    def split(self, known: Collection[str], items: Iterable[Decoded]) -> tuple[list[Decoded], list[Decoded]]:
        """Items to fold now, and those to leave. `known`: jobs whose rows the range has, with all that changed them."""
        own: list[Decoded] = []
        others: list[Decoded] = []
        begun = set(known)
        for item in items:
            assert item.entry is not None
            recorded = item.entry.recorded
            if recorded.entity_id not in begun and isinstance(recorded.event, JobRequested):
                begun.add(recorded.entity_id)
            if recorded.entity_id in begun and recorded.entity_id not in self.left:
                own.append(item)
            else:
                self.left.add(recorded.entity_id)
                others.append(item)
        return own, others
