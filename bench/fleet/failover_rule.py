"""When the database fails over, and when a lost server of it is made anew. Pure."""

from dataclasses import dataclass
from enum import Enum

# A primary that is silent for so long is replaced: longer than a restart of it takes.
SILENT_SECONDS = 5.0
# A standby that does not follow for so long has lost its place in the log of the primary.
BEHIND_SECONDS = 10.0


class Step(Enum):
    """What to do next."""

    NOTHING = "nothing"
    FAIL_OVER = "fail over"
    REBUILD = "rebuild the standby"


@dataclass(frozen=True, slots=True)
class PairView:
    """What is known of both. `standby_faulty`: its host is not repaired yet, so nothing can be made there."""

    primary_silent_seconds: float
    standby_answers: bool
    not_following_seconds: float
    standby_faulty: bool


def next_step(view: PairView) -> Step:
    """What a failover manager does.

    >>> next_step(PairView(6.0, True, 6.0, False))
    <Step.FAIL_OVER: 'fail over'>
    >>> next_step(PairView(0.0, False, 20.0, True))
    <Step.NOTHING: 'nothing'>
    """
    if view.primary_silent_seconds >= SILENT_SECONDS:
        return Step.FAIL_OVER if view.standby_answers else Step.NOTHING
    if view.not_following_seconds >= BEHIND_SECONDS and not view.standby_faulty and view.primary_silent_seconds == 0:
        return Step.REBUILD
    return Step.NOTHING
