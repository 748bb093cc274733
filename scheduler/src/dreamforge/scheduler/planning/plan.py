"""The plan: which queued job goes to which runner now, and why. Pure: values in, values out.

Tenants take turns; each time, the tenant's best job that fits a runner goes to the runner that ends it soonest: when
it is free, plus the load of the model if it must be loaded, plus the steps as fast as they were measured. If that is a
runner that is busy, the job waits for it, and what comes after it finds that runner busy for longer; so a slow runner
gets what it ends sooner than the queue of the fast one would. Where nothing was measured, the scores decide.

A job that fits no runner until others have finished does not block smaller ones, until it becomes urgent: then the
runner with the most free memory that could take it is reserved for it, or smaller jobs would overtake it forever.

Where a runner renders several images of a job's kind in one run, jobs of the same kind go along with it into the same
slot, in the order of the tenants' turns. Each is charged as if it had gone alone.

What a plan reads of the fleet is an index that is kept from one plan to the next (`plan_from`), or made for one
(`plan`); of the runners and of the queue it looks only at what can change the outcome. A property test compares it with
a plan that looks at everything.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import ceil, fsum

from dreamforge.contracts.events import Candidate, Decision, EstimateSource, RenderGroup
from dreamforge.contracts.jobs.attempts import AssignJob
from dreamforge.contracts.placement import Models, Needs, RunnerLoad
from dreamforge.scheduler.planning.capacity import FleetCapacity
from dreamforge.scheduler.planning.fairness import Ageing
from dreamforge.scheduler.planning.fleet_index import FleetIndex
from dreamforge.scheduler.planning.open_job import JobDemand, OpenJob, promised_end
from dreamforge.scheduler.planning.placeable import PlaceableShapes
from dreamforge.scheduler.planning.queue import Place
from dreamforge.scheduler.planning.snapshot import Snapshot
from dreamforge.scheduler.planning.timelines import Expected
from dreamforge.scheduler.planning.turns import Turns

# Less than one, so that a job is never before another of a higher priority that was requested at the same time.
LEVEL_MAX = 0.99
# A run of no time at all (a synthetic renderer) has a speed all the same.
TINY_SECONDS = 1e-9


@dataclass(frozen=True, slots=True)
class PlanPolicy:
    """`reserve_at_priority`: the effective priority from which a runner is reserved for a job.

    At 60 s a level, a job of the default priority (5) reaches it in two minutes. The others bound the size of a
    decision and of a plan.

    A job waits for a busy runner only if that ends it sooner by `wait_gain` of the time that an idle one would take,
    and not if it has waited `wait_factor` times as long already: whatever the estimates are worth, it then goes to the
    idle one. `waits_max`: so many jobs of a shape are looked at beyond those that can start.
    """

    candidates_max: int = 16
    assignments_max: int = 256
    reserve_at_priority: float = 7.0
    wait_gain: float = 0.1
    wait_factor: float = 4.0
    waits_max: int = 256


@dataclass(frozen=True, slots=True)
class ChosenRunner:
    """Where a job goes: a runner that can take it now, or one that it waits for, which has no score.

    `expected` is None where nothing was measured.
    """

    candidate: Candidate
    expected: Expected | None


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

    def ends_at(self, now: datetime) -> datetime | None:
        """When it is to end; None where nothing measured says."""
        return promised_end(self.decision, now)

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
    return plan_from(FleetIndex.of(fleet, models), snapshot, now, policy)


def plan_from(
    index: FleetIndex, snapshot: Snapshot, now: datetime, policy: PlanPolicy = PlanPolicy()
) -> tuple[PlannedAssignment, ...]:
    """The same from an index of the fleet, which is only read."""
    if not index.open or not len(snapshot.queue):
        return ()
    return tuple(_Planner(FleetCapacity(index, snapshot, now), snapshot, now, policy).assignments())


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
        self._placeable = PlaceableShapes(capacity)
        self._waiting: Counter[Needs] = Counter()
        self._places: dict[str, Place] = {}

    def _reserve(self) -> None:
        """Reserve runners for shapes that no runner can take now and whose best job has become urgent."""
        if not (partly := self._capacity.partly_used()):
            return
        urgent = sorted((place, shape) for shape in self._queue.shapes() if (place := self._urgent(shape)))
        stuck = [shape for _, shape in urgent if not self._capacity.can_take(shape)]
        for shape in stuck:
            self._capacity.reserve(shape, partly)

    def _urgent(self, shape: Needs) -> Place | None:
        """The best job of a shape, if that is urgent."""
        place = self._queue.best(shape)
        priority = self._priority(self._snapshot.jobs[place[1]])
        return place if priority >= self._policy.reserve_at_priority else None

    def assignments(self) -> Iterable[PlannedAssignment]:
        left = self._policy.assignments_max
        while left and self._capacity.open and (tenant := self._turns.next(self._placeable)) is not None:
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

    def _next(self, tenant: str) -> tuple[OpenJob, ChosenRunner] | None:
        """The tenant's best job that fits a runner, and where it goes."""
        while (job := self._best(tenant)) is not None:
            if (place := self._place(job)) is not None:
                return job, place
            self._placeable.discard(job.demand.shape)
        return None

    def _best(self, tenant: str) -> OpenJob | None:
        """Of the heads of its lines that with the best rank, behind smaller ones."""
        places = self._places
        best: Place | None = None
        for (rank, job_id), _ in self._turns.heads(tenant, self._placeable):
            if best is not None and rank > best[0]:
                break  # no time makes it better than its rank
            if (place := places.get(job_id)) is None:
                place = places[job_id] = self._behind_smaller(rank, job_id)
            if best is None or place < best:
                best = place
        return None if best is None else self._snapshot.jobs[best[1]]

    def _behind_smaller(self, rank: float, job_id: str) -> Place:
        """Asked once for each job of a plan, whose times do not change, and looked up at every turn of its tenant."""
        seconds = self._capacity.timelines.quickest_seconds(self._snapshot.jobs[job_id].demand)
        return rank_behind_smaller(rank, seconds, self._queue.ageing), job_id

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
        if (chosen := self._capacity.soonest_now(demand)) is None:
            return None
        chosen = self._worth_waiting_for(job, chosen) or chosen
        return ChosenRunner(self._capacity.candidate(demand.shape, chosen.runner_id), chosen)

    def _worth_waiting_for(self, job: OpenJob, idle: Expected) -> Expected | None:
        """The busy runner that ends a job so much sooner than an idle one that it waits; no guess is waited for."""
        waited_too_long = self._waited_seconds(job) >= self._policy.wait_factor * idle.end_seconds
        if waited_too_long or idle.source is EstimateSource.GUESSED:
            return None
        busy = self._capacity.soonest_later(job.demand, (1 - self._policy.wait_gain) * idle.end_seconds)
        return None if busy is None or busy.source is EstimateSource.GUESSED else busy

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
        if waiting == demand.images:
            return waiting
        if place.expected is None:
            return min(images, -(-waiting // max(1, self._capacity.count_able_now(demand.shape))))
        timelines, name = self._capacity.timelines, place.candidate.runner_id
        whole = timelines.expected(demand, name, min(images, waiting))
        alone = {runner: timelines.expected(demand, runner) for runner in self._capacity.runners_for(demand.shape)}
        rates = {
            runner: 1 / max(expected.run_seconds, TINY_SECONDS)
            for runner, expected in alone.items()
            if runner == name or expected.end_seconds <= whole.end_seconds
        }
        return min(images, ceil(waiting * rates[name] / fsum(rates.values())))

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


def rank_behind_smaller(rank: float, seconds: float, ageing: Ageing) -> float:
    """The rank of a job, behind smaller ones by the seconds that it takes, but never by a whole level of priority.

    >>> rank_behind_smaller(100.0, 5.0, Ageing(60)), rank_behind_smaller(100.0, 5000.0, Ageing(60))
    (105.0, 159.4)
    """
    return rank + min(seconds, LEVEL_MAX * ageing.level_seconds)


def with_others(decision: Decision, runner_id: str, others: int) -> Decision:
    """A decision that says how many other jobs the runner renders together with this one."""
    if not others:
        return decision
    reason = f"together with {others} other job{'s' if others > 1 else ''}"
    candidates = tuple(
        each.model_copy(update={"reasons": (*each.reasons, reason)}) if each.runner_id == runner_id else each
        for each in decision.candidates
    )
    return decision.model_copy(update={"candidates": candidates})
