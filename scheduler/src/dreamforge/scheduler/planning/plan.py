"""The plan: which queued job goes to which runner now, and why. Pure: values in, values out.

Tenants take turns; each time, the tenant's best job that fits a runner goes to the runner that suits it best. A job
that fits no runner until others have finished does not block smaller ones, until it becomes urgent: then the runner
with the most free memory that could take it is reserved for it, or smaller jobs would overtake it forever.

Where a runner renders several images of a job's kind in one run, jobs of the same kind go along with it into the same
slot, in the order of the tenants' turns. Each is charged as if it had gone alone.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from heapq import nsmallest
from itertools import islice

from dreamforge.contracts.events import Candidate, Decision, RenderGroup
from dreamforge.contracts.jobs.attempts import AssignJob
from dreamforge.contracts.models.descriptor import Tier
from dreamforge.contracts.placement import (
    Models,
    Needs,
    RunnerLoad,
    bytes_an_image,
    images_together,
    judge,
    required_bytes,
)
from dreamforge.scheduler.planning.open_job import OpenJob
from dreamforge.scheduler.planning.snapshot import Snapshot
from dreamforge.scheduler.planning.turns import Turns


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
    group: RenderGroup | None = None

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
            group=self.group,
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
        return required_bytes(shape, self.models, self._tier(shape, tier))

    def need_beside(self, shape: Needs, tier: str | None, images: int) -> int:
        """Memory that so many images need in the run of another job of their kind."""
        return images * bytes_an_image(shape, self.models, self._tier(shape, tier))

    def together(self, shape: Needs, chosen: Candidate) -> int:
        """How many images of a shape the chosen runner renders in one run."""
        load = self.loads[chosen.runner_id]
        return images_together(shape, self.models, load, self._tier(shape, chosen.tier))

    def count_able_now(self, shape: Needs) -> int:
        """How many open runners can take a shape."""
        return sum(self.candidate(shape, name).score is not None for name in self.open)

    def _tier(self, shape: Needs, name: str | None) -> Tier | None:
        return self.models[shape.model_id].tier(name) if name else None

    def fill(self, runner_id: str, need_bytes: int) -> None:
        """Add the attempts of one slot to a runner."""
        load = self.loads[runner_id]
        load = replace(
            load, committed_bytes=load.committed_bytes + need_bytes, committed_slots=load.committed_slots + 1
        )
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
        self._turns = Turns(snapshot.queue, snapshot.jobs)
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
        left = self._policy.assignments_max
        while left and self._placeable and (tenant := self._turns.next(self._placeable)) is not None:
            found = self._next(tenant)
            if found is None:
                self._turns.pass_over()  # capacity only shrinks while planning: no job of this tenant fits any more
                continue
            job, chosen = found
            self._turns.take(job)
            jobs = (job, *self._companions(job, chosen, left - 1))
            yield from self._assign(jobs, chosen)
            left -= len(jobs)

    def _next(self, tenant: str) -> tuple[OpenJob, Candidate] | None:
        """The tenant's best job that fits a runner, and that runner."""
        for (_, job_id), shape in sorted(self._turns.heads(tenant, self._placeable)):
            candidate = self._capacity.best(shape)
            if candidate is not None:
                return self._snapshot.jobs[job_id], candidate
            self._placeable.discard(shape)
        return None

    def _companions(self, job: OpenJob, chosen: Candidate, most: int) -> list[OpenJob]:
        """Jobs of the same kind that fit into the same run, the next turn first; none for a retry, nor as one.

        Of several runners that could take them each gets its share: one run of all would leave the others idle.
        """
        demand = job.demand
        if demand.batch_key is None or job.attempt:
            return []
        images = self._capacity.together(demand.shape, chosen)
        if images > demand.images and (runners := self._capacity.count_able_now(demand.shape)) > 1:
            images = min(images, -(-(demand.images + self._turns.images_of_kin(demand)) // runners))
        beside = images - demand.images
        return self._turns.take_companions(demand, beside, most) if beside > 0 else []

    def _assign(self, jobs: Sequence[OpenJob], chosen: Candidate) -> Iterable[PlannedAssignment]:
        """All jobs of one slot."""
        shape, runner_id = jobs[0].demand.shape, chosen.runner_id
        first = self._capacity.need(shape, chosen.tier)
        beside = [self._capacity.need_beside(shape, chosen.tier, job.demand.images) for job in jobs[1:]]
        decisions = [
            _with_others(self._decision(job, need), runner_id, len(beside))
            for job, need in zip(jobs, (first, *beside), strict=True)
        ]
        self._capacity.fill(runner_id, first + sum(beside))
        instance_id = self._capacity.loads[runner_id].heartbeat.instance_id
        group = RenderGroup(group_id=f"{jobs[0].job_id}/{jobs[0].attempt + 1}", jobs=len(jobs)) if beside else None
        for job, decision in zip(jobs, decisions, strict=True):
            need = decision.required_bytes
            yield PlannedAssignment(job, runner_id, instance_id, need, decision, chosen.tier, group)

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


def _with_others(decision: Decision, runner_id: str, others: int) -> Decision:
    """A decision that says how many other jobs the runner renders together with this one."""
    if not others:
        return decision
    reason = f"together with {others} other job{'s' if others > 1 else ''}"
    candidates = tuple(
        each.model_copy(update={"reasons": (*each.reasons, reason)}) if each.runner_id == runner_id else each
        for each in decision.candidates
    )
    return decision.model_copy(update={"candidates": candidates})


def _most_free_memory(load: RunnerLoad) -> tuple[int, str]:
    return (load.committed_bytes - load.heartbeat.budget_bytes, load.heartbeat.runner_id)


def _best_first(candidate: Candidate) -> tuple[bool, float, str]:
    return (candidate.score is None, -(candidate.score or 0.0), candidate.runner_id)
