"""Settings of the scheduler: `FORGE_SCHEDULER_*`. Units in the names."""

from pydantic import Field

from dreamforge.runtime.service.settings import CommonSettings
from dreamforge.scheduler.liveness.expired_attempts import Patience
from dreamforge.scheduler.planning.fairness import Ageing
from dreamforge.scheduler.planning.plan import PlanPolicy


class SchedulerSettings(CommonSettings):
    """How jobs are ranked and planned, and when attempts are failed."""

    scheduler_ageing_level_seconds: float = Field(
        default=60.0, gt=0, description="waiting that is worth one level of priority (0 to 9)"
    )
    scheduler_reserve_at_priority: float = Field(
        default=7.0, gt=0, description="effective priority at which a runner is kept free for a job too big to slip in"
    )
    scheduler_candidates_max: int = Field(default=16, ge=1, description="runners that one recorded decision lists")
    scheduler_assignments_max: int = Field(
        default=32, ge=1, description="assignments of one plan; where more fit, the next one follows at once"
    )
    scheduler_start_deadline_seconds: float = Field(
        default=120.0, gt=0, description="from assigned to started; a runner may have to import torch first"
    )
    scheduler_lost_grace_seconds: float = Field(
        default=0.3, ge=0, description="for a runner whose lease ran out to come back before its attempts are failed"
    )
    scheduler_recent_grace_seconds: float = Field(
        default=2.0, ge=0, description="in which a fresh assignment is not lost: heartbeats may lag behind the log"
    )
    scheduler_startup_grace_seconds: float = Field(
        default=3.0, ge=0, description="for runners to be heard after a scheduler, or the whole stack, has started"
    )

    @property
    def ageing(self) -> Ageing:
        """The part that the queue takes."""
        return Ageing(self.scheduler_ageing_level_seconds)

    @property
    def plan_policy(self) -> PlanPolicy:
        """The part that the plan takes."""
        return PlanPolicy(
            self.scheduler_candidates_max, self.scheduler_assignments_max, self.scheduler_reserve_at_priority
        )

    @property
    def patience(self) -> Patience:
        """The part that failing lost attempts takes."""
        return Patience(
            self.retry.policy(),
            self.scheduler_lost_grace_seconds,
            self.scheduler_recent_grace_seconds,
            self.scheduler_startup_grace_seconds,
            self.scheduler_start_deadline_seconds,
        )
