"""The runners that could do one kind of job, the one that ends it soonest first, while a plan fills them. Pure.

Two heaps: those that can take it now, and those that could once they are free. What a plan gives to a runner only makes
its end later, so an entry is looked at again when it is on top, and not before.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from heapq import heapify, heappop, heappush

Entry = tuple[float, float, str, int]
"""When the runner would end the job, its score turned round, its id, and its version when this was computed."""


class Ranking:
    """`scores` has none for a runner that cannot take the job now; a version changes whenever its runner does."""

    def __init__(
        self,
        runners: Iterable[str],
        scores: Callable[[str], float | None],
        ends: Callable[[str], float],
        versions: Mapping[str, int],
    ) -> None:
        self._scores, self._ends, self._versions = scores, ends, versions
        self._now: list[Entry] = []
        self._later: list[Entry] = []
        for name in runners:
            entry = self._entry(name)
            self._heap_of(entry).append(entry)
        heapify(self._now)
        heapify(self._later)

    def first_now(self) -> str | None:
        """The runner that ends it soonest of those that can take it now."""
        return self._first(self._now)

    def first_later(self) -> str | None:
        """The runner that ends it soonest of those that would have to be waited for."""
        return self._first(self._later)

    def able_now(self) -> list[Entry]:
        """All that can take it now, in no order."""
        scores, versions = self._scores, self._versions
        return [
            entry if entry[3] == versions[entry[2]] else self._entry(entry[2])
            for entry in self._now
            if entry[3] == versions[entry[2]] or scores(entry[2]) is not None  # most that changed were filled
        ]

    def all(self) -> Iterator[Entry]:
        """All that can take it now or later, in no order."""
        for heap in (self._now, self._later):
            yield from self._current(heap)

    def _current(self, heap: list[Entry]) -> Iterator[Entry]:
        versions = self._versions
        return (entry if entry[3] == versions[entry[2]] else self._entry(entry[2]) for entry in heap)

    def _first(self, heap: list[Entry]) -> str | None:
        while heap:
            if heap[0][3] == self._versions[heap[0][2]]:
                return heap[0][2]
            entry = self._entry(heappop(heap)[2])
            heappush(self._heap_of(entry), entry)
        return None

    def _heap_of(self, entry: Entry) -> list[Entry]:
        return self._now if entry[1] <= 0.0 else self._later

    def _entry(self, name: str) -> Entry:
        """A runner that cannot take the job now has no score: 1 stands for that, since all others are turned round."""
        score = self._scores(name)
        return (self._ends(name), 1.0 if score is None else -score, name, self._versions[name])
