"""Who goes first: tenants take turns by work received; within a tenant, priority grown by waiting.

Nobody can buy another tenant's share with a priority: priorities order one's own jobs. And nobody starves: a job's
effective priority grows with its wait, without bound, while that of a fresh job starts at no more than 9.
"""

from dataclasses import dataclass
from datetime import datetime

from dreamforge.contracts.request.render_request import RenderRequest


@dataclass(frozen=True, slots=True)
class Ageing:
    """`level_seconds`: waiting that is worth one level of priority. 60 lets a 0 pass a fresh 9 after nine minutes."""

    level_seconds: float = 60.0

    def effective_priority(self, priority: int, waited_seconds: float) -> float:
        """Priority grown by waiting.

        >>> Ageing(60).effective_priority(5, 90)
        6.5
        """
        return priority + max(0.0, waited_seconds) / self.level_seconds

    def rank(self, priority: int, requested_at: datetime) -> float:
        """Sorts as effective priority does, best first, at every moment: all jobs age alike, so `now` cancels out.

        Hence a queue can be kept sorted without ever being sorted again. Unit: seconds.
        """
        return requested_at.timestamp() - priority * self.level_seconds


def work_of(request: RenderRequest) -> int:
    """What a tenant is charged for one attempt: pixel-steps, exact integers so that shares never drift."""
    second = request.upscale.width_px * request.upscale.height_px if request.upscale else 0
    return request.images * request.steps * (request.width_px * request.height_px + second)
