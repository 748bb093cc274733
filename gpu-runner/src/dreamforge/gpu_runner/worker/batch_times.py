"""Learns how many images to render in one run: by memory as many as fit, by time as many as still save some."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dreamforge.contracts.fleet import FIRST_BATCH

#: What each doubling has to save of the seconds an image takes. Below, the images of a batch only wait for each other.
GAIN_MIN = 0.05
#: A first run at a new size prepares kernels for it, and says nothing about the second.
RUNS_MIN = 2
#: Runs that are remembered at each size. The fastest counts: what else the machine did is in all the others.
RUNS_KEPT = 8
#: After so many runs that were no larger than the bound, twice as many are tried again: the bound may have been learnt
#: while something else was in the way.
TRY_AGAIN = 32


def batch_bound(seconds: Mapping[int, Sequence[float]], most: int) -> int:
    """The size of the next batch at most, a power of two. `seconds` an image took, by size, in each run seen.

    It doubles as long as each doubling has saved GAIN_MIN; a size that was not seen RUNS_MIN times is tried.

    >>> batch_bound({}, 16), batch_bound({2: [1.0, 0.8]}, 16), batch_bound({2: [1.0, 0.8], 4: [0.9, 0.79]}, 16)
    (2, 4, 2)
    """
    size = 1
    while 2 * size <= most:
        larger, smaller = seconds.get(2 * size, ()), seconds.get(size, ())
        if len(larger) < RUNS_MIN:
            return 2 * size
        if len(smaller) >= RUNS_MIN and min(larger) > min(smaller) * (1 - GAIN_MIN):
            return size
        size *= 2
    return size


@dataclass(slots=True)
class _Seen:
    seconds: dict[int, deque[float]] = field(default_factory=dict)
    #: How many runs were no larger than the bound since the last one that was.
    within: int = 0
    #: A run of so many images did not fit into memory; 0: that has not happened.
    too_many: int = 0


@dataclass(slots=True)
class BatchTimes:
    """What was seen of each shape, in this process on its one device."""

    _shapes: dict[str, _Seen] = field(default_factory=dict)

    def recall(self, shape: str, seconds: Mapping[int, float]) -> None:
        """What an earlier process has learnt of a shape, where this one has seen nothing of it yet."""
        if seconds and shape not in self._shapes:
            kept = {size: deque([each] * RUNS_MIN, maxlen=RUNS_KEPT) for size, each in seconds.items()}
            self._shapes[shape] = _Seen(kept)

    def bound(self, shape: str, most: int) -> int:
        """How many images of a shape to render in one run, `most` at most."""
        seen = self._shapes.get(shape)
        if seen is None:
            return min(FIRST_BATCH, most)
        fits = min(most, seen.too_many - 1) if seen.too_many else most
        bound = batch_bound(seen.seconds, fits)
        return 2 * bound if seen.within >= TRY_AGAIN and 2 * bound <= fits else bound

    def ran(self, shape: str, size: int, seconds: float) -> None:
        """A run of `size` images took so many seconds an image and step."""
        seen = self._shapes.setdefault(shape, _Seen())
        seen.within = seen.within + 1 if size <= batch_bound(seen.seconds, 2 * size) else 0
        seen.seconds.setdefault(size, deque(maxlen=RUNS_KEPT)).append(seconds)

    def did_not_fit(self, shape: str, size: int) -> None:
        """A run of `size` images ran out of memory."""
        seen = self._shapes.setdefault(shape, _Seen())
        seen.too_many = min(size, seen.too_many or size)

    def fits(self, shape: str) -> int | None:
        """How many images fit at most; None: no run has failed."""
        too_many = self._shapes.get(shape, _Seen()).too_many
        return max(1, too_many - 1) if too_many else None

    def fastest(self, shape: str) -> dict[int, float]:
        """The least seconds an image and step, by size."""
        seen = self._shapes.get(shape, _Seen())
        return {size: min(runs) for size, runs in sorted(seen.seconds.items())}
