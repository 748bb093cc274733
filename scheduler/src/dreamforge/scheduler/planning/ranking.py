"""The open runners by how well they would do one kind of job, as deep as a plan asks. Pure.

Runners come by a bound that they cannot do better than. They are looked at one by one, the least bound first, until no
other can be better than those that were found. What a plan gives to a runner only makes it worse, so an entry is looked
at again when it is the first, and not before. The exception, a runner of several slots that is about to hold one more
model, is told by `sooner`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from heapq import heapify, heappop, heappush, nsmallest
from math import inf

Entry = tuple[float, float, str, int]
"""Two keys (by time: the end and the score turned round), the runner, and its version when this was computed."""
Order = Sequence[tuple[float, float, str]]
"""Two parts of the bound, and the runner. The bound must not shrink from one to the next."""
# Bounds and ends are sums of the same numbers in another order.
ROUNDING = 1.0 - 1e-9
# Runners that are looked at before the best are found again.
LOOK_AT_ONCE = 8
# Of an order, for which a nearer bound is found at first; then for twice as many each time.
NEARER_AT_ONCE = 64
Bounds = Iterator[tuple[float, str]]
"""Runners with their bounds, the least first."""
NO_MORE = (inf, "")


def in_order(order: Iterable[tuple[float, float, str]], factor: float = 0.0, least: float = 0.0) -> Bounds:
    """The bound of a runner is its first part, `factor` times its second, and `least`."""
    return (((first + factor * second + least) * ROUNDING, name) for first, second, name in order)


def nearer(order: Order, bound: tuple[float, float], find: Callable[[list[str]], list[tuple[float, str]]]) -> Bounds:
    """The runners of an order by what `find` says of each, which is no less than its bound of `in_order`.

    It is asked about several at once, and only about those whose bound is not above what was found.
    """
    factor, least = bound
    place, count, heap = 0, NEARER_AT_ONCE, list[tuple[float, str]]()
    while place < len(order):
        heap += find([name for _, _, name in order[place : place + count]])
        heapify(heap)
        place, count = place + count, 2 * count
        limit = next(in_order(order[place : place + 1], factor, least), NO_MORE)[0]
        while heap and heap[0][0] <= limit:
            yield heappop(heap)


class Ranking:
    """`judge` gives the two keys of a runner and whether it can take the job now; None: never, or it is not open."""

    def __init__(
        self,
        bounds: Bounds,
        judge: Callable[[str], tuple[float, float, bool] | None],
        versions: Mapping[str, int],
        sooner: Sequence[str] = (),
    ) -> None:
        self._bounds, self._judge, self._versions, self._sooner = bounds, judge, versions, sooner
        self._told = 0
        self._now: list[Entry] = []
        self._later: list[Entry] = []
        self._bound, self._coming = next(bounds, NO_MORE)
        """Of the runners that were not looked at, and the first of them."""

    def first(self) -> Entry | None:
        """The best that can take the job now."""
        self._read_sooner()
        while True:
            top = self._top()
            if self._bound > (inf if top is None else top[0]) or self._bound == inf:
                return top
            self._see()

    def best(self, count: int) -> list[Entry]:
        """So many that can take the job now, the best first."""
        self._read_sooner()
        while True:
            found = nsmallest(count, self._current(self._now))
            limit = found[-1][0] if len(found) == count else inf
            if self._bound > limit or self._bound == inf:
                return found
            for _ in range(max(LOOK_AT_ONCE, count - len(found))):  # then those that were found are a better limit
                if self._bound <= limit and self._bound < inf:
                    self._see()

    def all_now(self) -> list[Entry]:
        """All that can take the job now, in no order."""
        self._read_sooner()
        while self._bound < inf:
            self._see()
        return self._current(self._now)

    def first_later(self, below: float) -> Entry | None:
        """Of the open ones that cannot take it now, the one that ends it soonest, and before that."""
        self._read_sooner()
        while self._bound < below:
            self._see()
        found = min(self._current_later(), default=None)
        return found if found is not None and found[0] < below else None

    def _see(self) -> None:
        """Look at the next runner."""
        name = self._coming
        self._bound, self._coming = next(self._bounds, NO_MORE)
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

    def _current(self, heap: list[Entry]) -> list[Entry]:
        versions = self._versions
        fresh = {entry[2]: entry for entry in heap if entry[3] == versions.get(entry[2], 0)}
        stale = {entry[2] for entry in heap if entry[2] not in fresh} if len(fresh) < len(heap) else set()
        return [*fresh.values(), *self._judged_again(stale, heap is self._now)]

    def _judged_again(self, names: set[str], now: bool) -> Iterator[Entry]:
        for name in names:
            if (keys := self._judge(name)) is not None and keys[2] is now:
                yield keys[0], keys[1], name, self._versions.get(name, 0)

    def _current_later(self) -> list[Entry]:
        """Also those that could take it when they were looked at, and cannot any more."""
        stale = {entry[2] for entry in self._now if entry[3] != self._versions.get(entry[2], 0)}
        return [*self._current(self._later), *self._judged_again(stale, now=False)]
