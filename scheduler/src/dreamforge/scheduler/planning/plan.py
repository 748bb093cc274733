"""The plan: which queued job goes to which runner now, and why. Pure: values in, values out.

Tenants take turns; each time, the tenant's best job that fits a runner goes to the runner that suits it best. A job
that fits no runner until others have finished does not block smaller ones, until it becomes urgent: then the runner
with the most free memory that could take it is reserved for it, or smaller jobs would overtake it forever.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from heapq import heappop, heappush, nsmallest
from itertools import islice

from dreamforge.contracts.events import Candidate, Decision
from dreamforge.contracts.jobs.attempts import AssignJob
from dreamforge.contracts.placement import Models, Needs, RunnerLoad, judge, required_bytes
from dreamforge.scheduler.planning.open_job import OpenJob
from dreamforge.scheduler.planning.queue import Place
from dreamforge.scheduler.planning.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class PlanPolicy:
    """`reserve_at_priority`: the effective priority from which a runner is reserved for a job.

    At 60 s a level, a job of the default priority (5) reaches it in two minutes. The others bound the size of a
    decision and of a plan.
    """

    candidates_max: int = 16
    assignments_max: int = 256
    reserve_at_priority: float = 7.0


@dataclass(frozen=True, slots=True)
class PlannedAssignment:
    """One job for one runner instance, planned at the job's `version`."""

    job: OpenJob
    runner_id: str
    instance_id: str
    required_bytes: int
    decision: Decision
    tier: str | None = None

    def command(self, now: datetime) -> AssignJob:
        """The command that makes it an assignment."""
        return AssignJob(
            now=now,
            attempt=self.job.attempt + 1,
            runner_id=self.runner_id,
            instance_id=self.instance_id,
            estimated_vram_bytes=self.required_bytes,
            decision=self.decision,
            tier=self.tier,
        )


def plan(
    fleet: Iterable[RunnerLoad],
    snapshot: Snapshot,
    models: Models,
    now: datetime,
    policy: PlanPolicy = PlanPolicy(),
) -> tuple[PlannedAssignment, ...]:
    """Assign as many queued jobs as the fleet has capacity for: within memory, no job twice, in any order of the input.

    Applying the plan (`Snapshot.promise` of each) and planning again gives nothing more, unless
    `assignments_max` cut the plan short.
    """
    capacity = FleetCapacity(fleet, models)
    if not capacity.open or not len(snapshot.queue):
        return ()
    return tuple(_Planner(capacity, snapshot, now, policy).assignments())


class FleetCapacity:
    """What the fleet can still take while the plan fills it. Judgements are cached until their runner changes."""

    def __init__(self, fleet: Iterable[RunnerLoad], models: Models) -> None:
        self.models = models
        self.loads = {
            load.heartbeat.runner_id: load for load in sorted(fleet, key=lambda load: load.heartbeat.runner_id)
        }
        self.open = {name for name, load in self.loads.items() if load.free_slots and not load.heartbeat.draining}
        self.reserved: set[str] = set()
        self._judged: dict[Needs, dict[str, Candidate]] = {}

    def candidate(self, shape: Needs, runner_id: str) -> Candidate:
        """How well a runner suits a shape now."""
        judged = self._judged.setdefault(shape, {})
        if runner_id in self.reserved:
            return Candidate(runner_id=runner_id, refused="kept free for a larger job that has become urgent")
        if runner_id not in judged:
            judged[runner_id] = judge(shape, self.models, self.loads[runner_id])
        return judged[runner_id]

    def best(self, shape: Needs) -> Candidate | None:
        """The open runner with the highest score, of equal ones the first by name; None if none can take it now."""
        found = [c for name in self.open if (c := self.candidate(shape, name)).score is not None]
        return min(found, key=_best_first, default=None)

    def need(self, shape: Needs, tier: str | None) -> int:
        """Memory that a shape needs in a tier of its model, which must be registered."""
        return required_bytes(shape, self.models, self.models[shape.model_id].tier(tier) if tier else None)

    def fill(self, runner_id: str, need_bytes: int) -> None:
        """Add one attempt to a runner."""
        load = self.loads[runner_id]
        load = RunnerLoad(load.heartbeat, load.committed_bytes + need_bytes, load.committed_slots + 1)
        self.loads[runner_id] = load
        for judged in self._judged.values():
            judged.pop(runner_id, None)
        if not load.free_slots:
            self.open.discard(runner_id)

    def able(self, shape: Needs) -> list[RunnerLoad]:
        """Open runners that could take the shape if nothing else were on them."""
        loads = [self.loads[name] for name in self.open]
        return [load for load in loads if judge(shape, self.models, RunnerLoad(load.heartbeat)).score is not None]

    def reserve(self, shape: Needs) -> None:
        """Reserve the runner with the most free memory of those that are able to take the shape."""
        freest = min(self.able(shape), key=_most_free_memory, default=None)
        if freest is not None:
            self.reserved.add(freest.heartbeat.runner_id)
            self.open -= self.reserved

    def candidates(self, shape: Needs, bound: int) -> tuple[Candidate, ...]:
        """Open runners best first, then as many of the others, with their refusals, as the bound allows."""
        best = nsmallest(bound, (self.candidate(shape, name) for name in self.open), key=_best_first)
        closed = (name for name in self.loads if name not in self.open)
        return (*best, *(self.candidate(shape, name) for name in islice(closed, bound - len(best))))


class _Planner:
    """One run of the plan: takes tenants in turn, and only reads the queue."""

    def __init__(self, capacity: FleetCapacity, snapshot: Snapshot, now: datetime, policy: PlanPolicy) -> None:
        self._capacity = capacity
        self._snapshot = snapshot
        self._queue = snapshot.queue
        self._now = now
        self._policy = policy
        self._taken: dict[tuple[str, Needs], int] = {}  # jobs of each line that are planned already
        self._reserve()
        self._placeable = {shape for shape in self._queue.shapes() if capacity.best(shape)}

    def _reserve(self) -> None:
        """Reserve runners for shapes that no runner can take now and whose best job has become urgent."""
        stuck = [shape for shape in self._queue.shapes() if self._capacity.best(shape) is None]
        able = [(self._queue.best(shape), shape) for shape in stuck if self._capacity.able(shape)]
        for (_, job_id), shape in sorted(able, key=lambda pair: pair[0]):
            if self._priority(self._snapshot.jobs[job_id]) >= self._policy.reserve_at_priority:
                self._capacity.reserve(shape)

    def assignments(self) -> Iterable[PlannedAssignment]:
        turns = self._queue.turns()
        left = self._policy.assignments_max
        while turns and left and self._placeable:
            tag, _, tenant = heappop(turns)
            found = self._next(tenant)
            if found is None:
                continue  # capacity only shrinks while planning: no job of this tenant fits any more
            job, chosen = found
            yield self._assign(job, chosen)
            left -= 1
            if heads := self._heads(tenant):
                heappush(turns, (tag + self._queue.cost(tenant, job.demand.work), min(heads)[0], tenant))

    def _heads(self, tenant: str) -> list[tuple[Place, Needs]]:
        """The next job of each of a tenant's lines whose shape may still fit a runner."""
        heads = []
        for shape, line in self._queue.lines(tenant).items():
            index = self._taken.get((tenant, shape), 0)
            if index < len(line) and shape in self._placeable:
                heads.append((line[index], shape))
        return heads

    def _next(self, tenant: str) -> tuple[OpenJob, Candidate] | None:
        """The tenant's best job that fits a runner, and that runner."""
        for (_, job_id), shape in sorted(self._heads(tenant)):
            candidate = self._capacity.best(shape)
            if candidate is not None:
                return self._snapshot.jobs[job_id], candidate
            self._placeable.discard(shape)
        return None

    def _assign(self, job: OpenJob, chosen: Candidate) -> PlannedAssignment:
        shape, runner_id = job.demand.shape, chosen.runner_id
        key = (job.demand.tenant, shape)
        self._taken[key] = self._taken.get(key, 0) + 1
        need = self._capacity.need(shape, chosen.tier)
        decision = self._decision(job, need)
        self._capacity.fill(runner_id, need)
        instance_id = self._capacity.loads[runner_id].heartbeat.instance_id
        return PlannedAssignment(job, runner_id, instance_id, need, decision, chosen.tier)

    def _decision(self, job: OpenJob, need: int) -> Decision:
        return Decision(
            waited_seconds=round(self._waited_seconds(job), 6),
            effective_priority=round(self._priority(job), 3),
            queue_length=len(self._queue),
            required_bytes=need,
            candidates=self._capacity.candidates(job.demand.shape, self._policy.candidates_max),
            candidates_total=len(self._capacity.loads),
        )

    def _priority(self, job: OpenJob) -> float:
        return self._queue.ageing.effective_priority(job.priority, self._waited_seconds(job))

    def _waited_seconds(self, job: OpenJob) -> float:
        return max(0.0, (self._now - job.demand.requested_at).total_seconds())


def _most_free_memory(load: RunnerLoad) -> tuple[int, str]:
    return (load.committed_bytes - load.heartbeat.budget_bytes, load.heartbeat.runner_id)


def _best_first(candidate: Candidate) -> tuple[bool, float, str]:
    return (candidate.score is None, -(candidate.score or 0.0), candidate.runner_id)
