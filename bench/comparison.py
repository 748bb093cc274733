"""Whether one side is faster than the other, from paired rounds. Pure: numbers in, numbers out.

Each round measures both sides one after the other, so what slows the machine for minutes slows both. What counts of a
round is the logarithm of the ratio.

- The interval is a percentile bootstrap of the mean over rounds (Efron 1979); it is printed, and decides nothing: with
  ten rounds it is too narrow.
- The decision is the exact sign-flip test (Fisher 1935): if the sides were equal, each round's logarithm would be as
  likely with the other sign. Its smallest p is 2**-rounds, so few rounds can never say "worse".
- Over several metrics the p values are corrected by Holm's method (1979), so that a comparison of equal sides fails in
  at most `ALARM_RATE` of all runs, however many metrics it has.
"""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

#: How often a comparison of two equal sides may find one of them worse.
ALARM_RATE = 0.05
RESAMPLES = 10_000
#: Above it all sign patterns (2**rounds) take too long; a run of so many rounds takes hours anyway.
MOST_ROUNDS = 16

Verdict = Literal["worse", "better", "equal"]


@dataclass(frozen=True, slots=True)
class Ratio:
    """Geometric mean of new / base over the rounds, and its 95 % interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Pairs:
    """The values of both sides, round by round; all above zero."""

    base: tuple[float, ...]
    new: tuple[float, ...]
    higher_is_better: bool

    @property
    def logarithms(self) -> list[float]:
        """Of new / base, one a round. Errors: ValueError for a value that is not above zero."""
        if not all(value > 0 for value in (*self.base, *self.new)):
            raise ValueError(f"ratios need values above zero: {self.base} and {self.new}")
        return [math.log(new / base) for base, new in zip(self.base, self.new, strict=True)]

    @property
    def gains(self) -> list[float]:
        """The logarithms with the sign that makes better positive."""
        return [value if self.higher_is_better else -value for value in self.logarithms]


def ratio(base: Sequence[float], new: Sequence[float], seed: int = 0) -> Ratio:
    """The geometric mean of the paired ratios with its bootstrap interval.

    >>> ratio([100.0, 200.0], [110.0, 220.0]).mean
    1.1
    """
    logarithms = Pairs(tuple(base), tuple(new), True).logarithms
    count, chance = len(logarithms), random.Random(seed)
    means = sorted(sum(chance.choices(logarithms, k=count)) / count for _ in range(RESAMPLES))
    low, high = means[int(0.025 * RESAMPLES)], means[int(0.975 * RESAMPLES) - 1]
    exact = math.exp(sum(logarithms) / count)
    return Ratio(round(exact, 12), math.exp(low), math.exp(high))


def p_value(values: Sequence[float]) -> float:
    """Probability of a mean as small as this one or smaller, if every value were as likely with the other sign.

    Errors: ValueError for more rounds than `MOST_ROUNDS`.

    >>> p_value([-0.1, -0.2, -0.1])
    0.125
    """
    if len(values) > MOST_ROUNDS:
        raise ValueError(f"{len(values)} rounds are more than {MOST_ROUNDS}")
    seen = math.fsum(values)
    sizes = [abs(value) for value in values]
    as_small = sum(
        math.fsum(sign * size for sign, size in zip(signs, sizes, strict=True)) <= seen + 1e-12
        for signs in product((-1, 1), repeat=len(sizes))
    )
    return float(as_small / 2 ** len(sizes))


def verdicts(metrics: Mapping[str, Pairs], tolerance: float) -> dict[str, Verdict]:
    """Of each metric whether the new side is worse or better beyond noise, and by more than `tolerance` (0.03: 3 %)."""
    worse = _rejected({name: p_value(pairs.gains) for name, pairs in metrics.items()})
    better = _rejected({name: p_value([-gain for gain in pairs.gains]) for name, pairs in metrics.items()})
    return {
        name: "worse"
        if name in worse and _mean(pairs.gains) < -math.log1p(tolerance)
        else "better"
        if name in better and _mean(pairs.gains) > math.log1p(tolerance)
        else "equal"
        for name, pairs in metrics.items()
    }


def _rejected(p_values: Mapping[str, float]) -> set[str]:
    """Holm: the smallest p against ALARM_RATE / all, the next against ALARM_RATE / (all - 1), until one fails."""
    rejected: set[str] = set()
    for name, p in sorted(p_values.items(), key=lambda item: item[1]):
        if p > ALARM_RATE / (len(p_values) - len(rejected)):
            break
        rejected.add(name)
    return rejected


def rounds_needed(metrics: int) -> int:
    """The fewest rounds with which one of so many metrics can be found worse.

    >>> rounds_needed(12)
    8
    """
    return math.ceil(math.log2(metrics / ALARM_RATE))


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
