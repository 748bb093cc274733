"""Everything one plan depends on, as one JSON value: it can be captured, attached to a bug report and replayed."""

from collections.abc import Iterable

from pydantic import AwareDatetime, TypeAdapter

from dreamforge.contracts.fleet import Heartbeat
from dreamforge.contracts.models.descriptor import ModelDescriptor, Value
from dreamforge.contracts.placement import RunnerLoad
from dreamforge.scheduler.planning.fairness import Ageing
from dreamforge.scheduler.planning.fleet_index import load_of
from dreamforge.scheduler.planning.open_job import OpenJob
from dreamforge.scheduler.planning.plan import PlannedAssignment, PlanPolicy, plan
from dreamforge.scheduler.planning.snapshot import Snapshot


class PlanningInput(Value):
    """`received`: the tag of each tenant that has queued jobs (see `queue`), which is the order of their turns."""

    now: AwareDatetime
    ageing: Ageing
    policy: PlanPolicy
    fleet: tuple[Heartbeat, ...]
    models: tuple[ModelDescriptor, ...]
    jobs: tuple[OpenJob, ...]
    received: dict[str, int]
    held_queues: dict[str, AwareDatetime] = {}
    weights: dict[str, int] = {}

    @staticmethod
    def of(
        now: AwareDatetime,
        policy: PlanPolicy,
        fleet: tuple[Heartbeat, ...],
        models: tuple[ModelDescriptor, ...],
        snapshot: Snapshot,
    ) -> "PlanningInput":
        """What a scheduler has now."""
        return PlanningInput(
            now=now,
            ageing=snapshot.queue.ageing,
            policy=policy,
            fleet=fleet,
            models=models,
            jobs=tuple(snapshot.jobs.values()),
            received={tenant: tag for tag, _, tenant in snapshot.queue.turns()},
            held_queues=dict(snapshot.held_queues),
            weights=dict(snapshot.queue.weights),
        )

    def snapshot(self) -> Snapshot:
        """A fold of the log from which `plan` makes the same decisions as from the captured one."""
        snapshot = Snapshot(self.ageing)
        snapshot.hold_queues(self.held_queues)
        for job in self.jobs:
            snapshot.restore(job)
        for tenant, tag in self.received.items():
            snapshot.queue.restore(tenant, tag)
        snapshot.queue.weights = self.weights
        return snapshot

    def replay(self) -> tuple[PlannedAssignment, ...]:
        """Plan again."""
        snapshot = self.snapshot()
        models = {model.model_id: model for model in self.models}
        return plan(loads_of(self.fleet, snapshot), snapshot, models, self.now, self.policy)


ASSIGNMENTS: TypeAdapter[tuple[PlannedAssignment, ...]] = TypeAdapter(tuple[PlannedAssignment, ...])


def loads_of(fleet: Iterable[Heartbeat], snapshot: Snapshot) -> list[RunnerLoad]:
    """The live runners, each with what the fold of the log has placed on it."""
    return [load_of(heartbeat, snapshot.placed_on(heartbeat.runner_id).values()) for heartbeat in fleet]
