"""The open runners by how well they would do one kind of job, as deep as a plan asks. Pure.

`order` has them by a bound that none of them can do better than. Runners are looked at one by one in that order, until
no other can be better than those that were found. What a plan gives to a runner only makes it worse, so an entry is
looked at again when it is the first, and not before. The exception, a runner of several slots that is about to hold one
more model, is told by `sooner`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from heapq import heappop, heappush, nsmallest

Entry = tuple[float, float, str, int]
"""Two keys (by time: the end and the score turned round), the runner, and its version when this was computed."""
# Bounds and ends are sums of the same numbers in another order.
ROUNDING = 1.0 - 1e-9


class Ranking:
    """`judge` gives the two keys of a runner and whether it can take the job now; None: never, or it is not open."""

    def __init__(
        self,
        order: Sequence[tuple[float, str]],
        least: float,
        judge: Callable[[str], tuple[float, float, bool] | None],
        versions: Mapping[str, int],
        sooner: Sequence[str] = (),
    ) -> None:
        self._order, self._least, self._judge, self._versions = order, least, judge, versions
        self._sooner, self._told = sooner, 0
        self._next = 0
        self._now: list[Entry] = []
        self._later: list[Entry] = []

    def first(self, count: int) -> list[Entry]:
        """The best that can take the job now, the best first."""
        self._read_sooner()
        if count == 1:
            return self._first()
        found = self._best(count)
        while self._next < len(self._order) and (len(found) < count or self._bound() <= found[-1][0]):
            limit = found[-1][0] if len(found) == count else None
            self._look(limit)
            found = self._best(count)
        return found

    def all_now(self) -> list[Entry]:
        """All that can take the job now, in no order."""
        self._read_sooner()
        while self._next < len(self._order):
            self._see()
        return self._current(self._now)

    def first_later(self, below: float) -> Entry | None:
        """Of the open ones that cannot take it now, the one that ends it soonest, and before that."""
        self._read_sooner()
        while self._next < len(self._order) and self._bound() < below:
            self._see()
        found = min(self._current_later(), default=None)
        return found if found is not None and found[0] < below else None

    def _first(self) -> list[Entry]:
        while True:
            top = self._top()
            if self._next == len(self._order) or (top is not None and self._bound() > top[0]):
                return [] if top is None else [top]
            self._see()

    def _look(self, limit: float | None) -> None:
        """See some more; all of those that may be better than the limit."""
        self._see()
        while self._next < len(self._order) and (limit is None or self._bound() <= limit):
            self._see()
            if limit is None and len(self._now) % 16 == 0:
                return

    def _bound(self) -> float:
        return (self._order[self._next][0] + self._least) * ROUNDING

    def _see(self) -> None:
        name = self._order[self._next][1]
        self._next += 1
        self._put(name)

    def _read_sooner(self) -> None:
        while self._told < len(self._sooner):
            self._put(self._sooner[self._told])
            self._told += 1

    def _put(self, name: str) -> None:
        if (keys := self._judge(name)) is not None:
            first, second, now = keys
            heappush(self._now if now else self._later, (first, second, name, self._versions.get(name, 0)))

    def _top(self) -> Entry | None:
        heap, versions = self._now, self._versions
        while heap:
            if heap[0][3] == versions.get(heap[0][2], 0):
                return heap[0]
            self._put(heappop(heap)[2])
        return None

    def _best(self, count: int) -> list[Entry]:
        return nsmallest(count, self._current(self._now))

    def _current(self, heap: list[Entry]) -> list[Entry]:
        versions = self._versions
        fresh = {entry[2]: entry for entry in heap if entry[3] == versions.get(entry[2], 0)}
        stale = {entry[2] for entry in heap if entry[2] not in fresh}
        return [*fresh.values(), *self._judged_again(stale, heap is self._now)]

    def _judged_again(self, names: set[str], now: bool) -> Iterator[Entry]:
        for name in names:
            if (keys := self._judge(name)) is not None and keys[2] is now:
                yield keys[0], keys[1], name, self._versions.get(name, 0)

    def _current_later(self) -> list[Entry]:
        """Also those that could take it when they were looked at, and cannot any more."""
        stale = [entry for entry in self._now if entry[3] != self._versions.get(entry[2], 0)]
        return [*self._current(self._later), *self._judged_again({entry[2] for entry in stale}, now=False)]
