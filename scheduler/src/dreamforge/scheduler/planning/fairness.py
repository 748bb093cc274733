"""The order of jobs: tenants take turns by the work they have received; within a tenant, priority plus ageing.

A priority orders the jobs of one tenant and takes nothing from another tenant's share. No job starves: its effective
priority grows with its wait without bound, while that of a new job starts at 9 at most.
"""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Ageing:
    """`level_seconds`: waiting that is worth one level of priority. At 60, a 0 passes a new 9 after nine minutes."""

    level_seconds: float = 60.0

    def effective_priority(self, priority: int, waited_seconds: float) -> float:
        """Priority plus what the wait is worth.

        >>> Ageing(60).effective_priority(5, 90)
        6.5
        """
        return priority + max(0.0, waited_seconds) / self.level_seconds

    def rank(self, priority: int, requested_at: datetime) -> float:
        """Sorts as effective priority does, best first, at any time: all jobs age alike, so `now` cancels out.

        So a queue stays sorted as time passes. Unit: seconds.
        """
        return requested_at.timestamp() - priority * self.level_seconds
