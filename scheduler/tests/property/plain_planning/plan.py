"""The rules of `planning.plan`, followed by a look at every runner, tenant and shape: what a plan is compared with."""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from math import ceil, fsum, inf

from dreamforge.contracts.events import Decision, EstimateSource, RenderGroup
from dreamforge.contracts.placement import Models, Needs, RunnerLoad
from dreamforge.scheduler.planning.open_job import JobDemand, OpenJob
from dreamforge.scheduler.planning.plan import (
    TINY_SECONDS,
    ChosenRunner,
    PlannedAssignment,
    PlanPolicy,
    rank_behind_smaller,
    with_others,
)
from dreamforge.scheduler.planning.queue import Place
from dreamforge.scheduler.planning.snapshot import Snapshot
from dreamforge.scheduler.planning.timelines import Expected

from .capacity import PlainCapacity
from .turns import PlainTurns


def plain_plan(
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
    capacity = PlainCapacity(fleet, snapshot, models, now)
    if not capacity.open or not len(snapshot.queue):
        return ()
    return tuple(_Planner(capacity, snapshot, now, policy).assignments())


class _Planner:
    """One run of the plan: takes tenants in turn, and only reads the queue."""

    def __init__(self, capacity: PlainCapacity, snapshot: Snapshot, now: datetime, policy: PlanPolicy) -> None:
        self._capacity = capacity
        self._snapshot = snapshot
        self._queue = snapshot.queue
        self._now = now
        self._policy = policy
        self._turns = PlainTurns(snapshot.queue, snapshot.jobs)
        self._reserve()
        self._placeable = {shape for shape in self._queue.shapes() if capacity.can_take(shape)}
        self._waiting: Counter[Needs] = Counter()
        self._ranks: dict[str, Place] = {}

    def _reserve(self) -> None:
        """Reserve runners for shapes that no runner can take now and whose best job has become urgent."""
        stuck = [shape for shape in self._queue.shapes() if not self._capacity.can_take(shape)]
        able = [(self._queue.best(shape), shape) for shape in stuck if self._capacity.able(shape)]
        for (_, job_id), shape in sorted(able, key=lambda pair: pair[0]):
            if self._priority(self._snapshot.jobs[job_id]) >= self._policy.reserve_at_priority:
                self._capacity.reserve(shape)

    def assignments(self) -> Iterable[PlannedAssignment]:
        left = self._policy.assignments_max
        while left and self._is_room and (tenant := self._turns.next(self._placeable)) is not None:
            found = self._next(tenant)
            if found is None:
                self._turns.pass_over()  # capacity only shrinks while planning: no job of this tenant fits any more
                continue
            job, place = found
            self._turns.take(job)
            jobs = (job, *self._companions(job, place, left - 1))
            if place.candidate.score is None:
                self._wait(jobs, place)
                continue
            yield from self._assign(jobs, place)
            left -= len(jobs)

    @property
    def _is_room(self) -> bool:
        return bool(self._placeable and self._capacity.open)

    def _next(self, tenant: str) -> tuple[OpenJob, ChosenRunner] | None:
        """The tenant's best job that fits a runner, and where it goes."""
        while (heads := self._turns.heads(tenant, self._placeable)) and self._is_room:
            (_, job_id), shape = min(heads, key=self._rank)
            job = self._snapshot.jobs[job_id]
            if (place := self._place(job)) is not None:
                return job, place
            self._placeable.discard(shape)
        return None

    def _rank(self, head: tuple[Place, Needs]) -> Place:
        (rank, job_id), _ = head
        if (found := self._ranks.get(job_id)) is not None:
            return found
        seconds = self._capacity.timelines.quickest_seconds(self._snapshot.jobs[job_id].demand)
        found = self._ranks[job_id] = (rank_behind_smaller(rank, seconds, self._queue.ageing), job_id)
        return found

    def _place(self, job: OpenJob) -> ChosenRunner | None:
        """The runner that ends a job soonest, if any can take it now: that one, or one that is worth waiting for."""
        demand = job.demand
        if tried := job.out_of_memory_on | self._capacity.exhausted(demand.shape):
            other = self._capacity.best(demand.shape, tried)
            if other is not None:
                return ChosenRunner(other, None)
        if not self._capacity.timelines.knows(demand.shape):
            best = self._capacity.best(demand.shape)
            return None if best is None else ChosenRunner(best, None)
        if not self._capacity.can_take(demand.shape):
            return None
        ranked = self._capacity.ranked(demand)
        able, busy = ([entry[2] for entry in ranked if (entry[1] < inf) is now] for now in (True, False))
        now, later = (self._expected(demand, names[0] if names else None) for names in (able, busy))
        if now is None:
            return None
        chosen = later if later is not None and self._is_worth_waiting(job, now, later) else now
        return ChosenRunner(self._capacity.candidate(demand.shape, chosen.runner_id), chosen)

    def _expected(self, demand: JobDemand, runner_id: str | None) -> Expected | None:
        return None if runner_id is None else self._capacity.timelines.expected(demand, runner_id)

    def _is_worth_waiting(self, job: OpenJob, idle: Expected, busy: Expected) -> bool:
        if EstimateSource.GUESSED in (idle.source, busy.source):
            return False
        gains = busy.end_seconds < (1 - self._policy.wait_gain) * idle.end_seconds
        return gains and self._waited_seconds(job) < self._policy.wait_factor * idle.end_seconds

    def _wait(self, jobs: Sequence[OpenJob], place: ChosenRunner) -> None:
        """They wait for a runner that is busy. Of each shape, only so many do in one plan."""
        shape = jobs[0].demand.shape
        self._capacity.promise(jobs[0].demand, self._of_all(jobs, place))
        self._waiting[shape] += len(jobs)
        if self._waiting[shape] >= self._policy.waits_max:
            self._placeable.discard(shape)

    def _companions(self, job: OpenJob, place: ChosenRunner, most: int) -> list[OpenJob]:
        """Jobs of the same kind that fit into the same run, the next turn first; none for a retry, nor as one."""
        demand, chosen = job.demand, place.candidate
        if demand.batch_key is None or job.attempt:
            return []
        images = self._capacity.together(demand.shape, chosen.runner_id, chosen.tier)
        if images > demand.images:
            images = self._share(demand, place, images)
        beside = images - demand.images
        return self._turns.take_companions(demand, self._family(demand), beside, most) if beside > 0 else []

    def _share(self, demand: JobDemand, place: ChosenRunner, images: int) -> int:
        """How many of the images that wait, of this kind, are rendered in this run: of other runners, each gets some.

        One run of all would leave the others idle. Where times are known a runner counts by its speed, and only if it
        would end one such job before this run of all of them.
        """
        waiting = demand.images + self._turns.images_of_kin(demand, self._family(demand))
        if place.expected is None:
            return min(images, -(-waiting // max(1, self._capacity.count_able_now(demand.shape))))
        timelines, name = self._capacity.timelines, place.candidate.runner_id
        whole = timelines.expected(demand, name, min(images, waiting))
        sooner = (runner for end, _, runner in self._capacity.ranked(demand) if end <= whole.end_seconds)
        runs = {runner: timelines.expected(demand, runner).run_seconds for runner in (name, *sooner)}
        rates = {runner: 1 / max(seconds, TINY_SECONDS) for runner, seconds in runs.items()}
        own = rates[name]
        return min(images, ceil(waiting * own / fsum(rates.values())))

    def _family(self, demand: JobDemand) -> str:
        return self._capacity.models[demand.shape.model_id].family

    def _assign(self, jobs: Sequence[OpenJob], place: ChosenRunner) -> Iterable[PlannedAssignment]:
        """All jobs of one slot."""
        chosen, shape = place.candidate, jobs[0].demand.shape
        runner_id = chosen.runner_id
        expected = self._of_all(jobs, place) if place.expected is not None else None
        first = self._capacity.need(shape, runner_id, chosen.tier)
        counts = [job.demand.images for job in jobs[1:]]
        beside = [self._capacity.need_beside(shape, runner_id, chosen.tier, images) for images in counts]
        decisions = [
            with_others(self._decision(job, need, expected), runner_id, len(beside))
            for job, need in zip(jobs, (first, *beside), strict=True)
        ]
        if expected is not None:
            self._capacity.promise(jobs[0].demand, expected)
        self._capacity.fill(runner_id, first + sum(beside))
        instance_id = self._capacity.loads[runner_id].heartbeat.instance_id
        group = RenderGroup(group_id=f"{jobs[0].job_id}/{jobs[0].attempt + 1}", jobs=len(jobs)) if beside else None
        for job, decision in zip(jobs, decisions, strict=True):
            need = decision.required_bytes
            yield PlannedAssignment(job, runner_id, instance_id, need, decision, chosen.tier, group)

    def _of_all(self, jobs: Sequence[OpenJob], place: ChosenRunner) -> Expected:
        """When the run of jobs that go together would end, if times are known."""
        images = sum(job.demand.images for job in jobs)
        return self._capacity.timelines.expected(jobs[0].demand, place.candidate.runner_id, images)

    def _decision(self, job: OpenJob, need: int, expected: Expected | None) -> Decision:
        return Decision(
            waited_seconds=round(self._waited_seconds(job), 6),
            effective_priority=round(self._priority(job), 3),
            queue_length=len(self._queue),
            required_bytes=need,
            candidates=self._capacity.candidates(job.demand, self._policy.candidates_max),
            candidates_total=len(self._capacity.loads),
            **({} if expected is None else expected.promise),
        )

    def _priority(self, job: OpenJob) -> float:
        return self._queue.ageing.effective_priority(job.priority, self._waited_seconds(job))

    def _waited_seconds(self, job: OpenJob) -> float:
        return max(0.0, (self._now - job.demand.requested_at).total_seconds())
