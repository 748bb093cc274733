"""How much of one quota each tenant uses: what was counted in the tables, and what this process has added since. Pure.

An addition is made before its event is appended, so requests at the same time see each other; it is dropped once a
count has its event, or when there is none. So what this process has accepted is never missing, and what ended since
the last count is still in it.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class UsedAmount:
    """A part of what a tenant uses. `until`: when it stops counting by itself; None: never."""

    amount: int
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Count:
    """What the tables say, for each tenant. They contain the log up to `sequence`."""

    sequence: int
    used: Mapping[str, tuple[UsedAmount, ...]]


@dataclass(slots=True, eq=False)
class Addition:
    """More that a tenant uses. `sequence`: of its event in the log; None until it is there.

    `stored`: it has no event, and a count that begins from now on has it.
    """

    tenant: str
    amount: int
    sequence: int | None = None
    stored: bool = False


class TenantUsage:
    """One quota, all tenants."""

    def __init__(self) -> None:
        self._count = Count(0, {})
        self._total = 0
        self._additions: dict[Addition, None] = {}
        self._added: Counter[str] = Counter()
        self._added_total = 0

    def used(self, tenant: str, now: datetime) -> int:
        """What a tenant uses."""
        return sum(part.amount for part in self._parts(tenant, now)) + self._added[tenant]

    def total(self) -> int:
        """What all tenants use, of a quota whose parts never stop by themselves."""
        return self._total + self._added_total

    def add(self, tenant: str, amount: int) -> Addition:
        """Count more from now on."""
        addition = Addition(tenant, amount)
        self._additions[addition] = None
        self._added[tenant] += amount
        self._added_total += amount
        return addition

    def undo(self, addition: Addition) -> None:
        """It came to nothing, or a count has it; does nothing the second time."""
        if addition in self._additions:
            del self._additions[addition]
            self._added[addition.tenant] -= addition.amount
            self._added_total -= addition.amount
            if not self._added[addition.tenant]:
                del self._added[addition.tenant]

    def stored(self) -> tuple[Addition, ...]:
        """What a count that begins now has without an event in the log."""
        return tuple(addition for addition in self._additions if addition.stored)

    def counted(self, count: Count, stored: Iterable[Addition] = ()) -> None:
        """Take a newer count; `stored`: of when it began."""
        for addition in stored:
            self.undo(addition)
        self._count = count
        self._total = sum(part.amount for parts in count.used.values() for part in parts)
        for addition in tuple(self._additions):
            if addition.sequence is not None and addition.sequence <= count.sequence:
                self.undo(addition)

    def fits_at(self, tenant: str, most: int, now: datetime) -> datetime | None:
        """When a tenant uses no more than `most`, if it adds nothing: now, later, or None where nothing says when."""
        used, at = self.used(tenant, now), now
        for part in sorted(self._parts(tenant, now), key=_until):
            if used <= most or part.until is None:
                break
            used, at = used - part.amount, part.until
        return at if used <= most else None

    def _parts(self, tenant: str, now: datetime) -> list[UsedAmount]:
        return [part for part in self._count.used.get(tenant, ()) if part.until is None or part.until > now]


def _until(part: UsedAmount) -> tuple[bool, float]:
    return (part.until is None, part.until.timestamp() if part.until else 0.0)
