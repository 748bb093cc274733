"""Everything one decision depends on, as one JSON value: to be captured, sent along with a question, and replayed."""

from pydantic import AwareDatetime, TypeAdapter

from dreamforge.contracts.fleet import Heartbeat
from dreamforge.contracts.models.descriptor import ModelDescriptor, Value
from dreamforge.contracts.placement import RunnerLoad
from dreamforge.scheduler.planning.fairness import Ageing
from dreamforge.scheduler.planning.open_job import OpenJob
from dreamforge.scheduler.planning.plan import Assignment, PlanPolicy, plan
from dreamforge.scheduler.planning.snapshot import Snapshot


class Scene(Value):
    """`received` is the virtual time of each tenant that has queued jobs: whose turn it is."""

    now: AwareDatetime
    ageing: Ageing
    policy: PlanPolicy
    fleet: tuple[Heartbeat, ...]
    models: tuple[ModelDescriptor, ...]
    jobs: tuple[OpenJob, ...]
    received: dict[str, int]
    held_queues: dict[str, AwareDatetime] = {}

    @staticmethod
    def of(
        now: AwareDatetime,
        policy: PlanPolicy,
        fleet: tuple[Heartbeat, ...],
        models: tuple[ModelDescriptor, ...],
        snapshot: Snapshot,
    ) -> "Scene":
        """The scene as a scheduler sees it now."""
        return Scene(
            now=now,
            ageing=snapshot.queue.ageing,
            policy=policy,
            fleet=fleet,
            models=models,
            jobs=tuple(snapshot.jobs.values()),
            received={tenant: tag for tag, _, tenant in snapshot.queue.turns()},
            held_queues=dict(snapshot.held_queues),
        )

    def snapshot(self) -> Snapshot:
        """The fold that the scene was taken from, as far as one decision can tell."""
        snapshot = Snapshot(self.ageing)
        snapshot.hold_queues(self.held_queues)
        for job in self.jobs:
            snapshot.restore(job)
        for tenant, tag in self.received.items():
            snapshot.queue.charge(tenant, tag)
        return snapshot

    def replay(self) -> tuple[Assignment, ...]:
        """Decide again."""
        snapshot = self.snapshot()
        models = {model.model_id: model for model in self.models}
        return plan(loads_of(self.fleet, snapshot), snapshot, models, self.now, self.policy)


ASSIGNMENTS: TypeAdapter[tuple[Assignment, ...]] = TypeAdapter(tuple[Assignment, ...])


def loads_of(fleet: tuple[Heartbeat, ...], snapshot: Snapshot) -> list[RunnerLoad]:
    """Live runners with what the log has promised to each."""
    loads = []
    for beat in fleet:
        held = snapshot.held(beat.runner_id)
        loads.append(RunnerLoad(beat, sum(job.held_bytes for job in held.values()), len(held)))
    return loads
