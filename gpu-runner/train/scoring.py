"""Counts verdicts by attribute, and asks for held-out captions."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from grammar import Caption, Mix, sample
from judge import Verdict


@dataclass(slots=True)
class Score:
    """Right and asked, by attribute."""

    right: Counter[str] = field(default_factory=Counter)
    asked: Counter[str] = field(default_factory=Counter)

    def add(self, verdicts: Iterable[Verdict]) -> None:
        """Count the verdicts of one picture."""
        for verdict in verdicts:
            self.asked[verdict.attribute] += 1
            self.right[verdict.attribute] += verdict.right

    @property
    def share(self) -> float:
        """Share of all attributes that are right, 0 to 1; each verdict weighs the same."""
        return self.right.total() / max(1, self.asked.total())

    def line(self) -> str:
        """One line, for a log."""
        parts = (f"{name} {self.right[name] / asked:.0%}" for name, asked in sorted(self.asked.items()))
        return f"{self.share:.1%} of {self.asked.total()}: " + ", ".join(parts)

    def table(self) -> str:
        """A Markdown table, worst attribute first."""
        names = sorted(self.asked, key=lambda name: self.right[name] / self.asked[name])
        rows = [f"| {n} | {self.right[n]} of {self.asked[n]} | {self.right[n] / self.asked[n]:.1%} |" for n in names]
        total = f"| **all** | {self.right.total()} of {self.asked.total()} | **{self.share:.1%}** |"
        return "\n".join(["| attribute | right | share |", "|---|---|---|", *rows, total])


def held_out_captions(count: int, seed: int, mix: Mix) -> list[Caption]:
    """Captions that training never saw (scenes are few and seen: they are scored, and named apart)."""
    rng = np.random.default_rng((seed, 4242))
    return [sample(rng, mix, held_out=True) for _ in range(count)]
