"""The scheduler's fold agrees with the job aggregate, for any events in any order."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from dreamforge.contracts.errors import Conflict, NotFound
from dreamforge.contracts.events import ArtifactStored, Decision, FailureReason, JobAssigned, JobRequested, JobStarted
from dreamforge.contracts.installation_events import EVENTS
from dreamforge.contracts.jobs import decisions, owner
from dreamforge.contracts.jobs.course import Status
from dreamforge.contracts.jobs.retry_policy import RetryPolicy
from dreamforge.contracts.jobs.state import INITIAL, JobState, evolve
from dreamforge.contracts.log.envelope import seal
from dreamforge.contracts.queue_control import hold_of, scope_of
from dreamforge.contracts.request.render_request import DEADLINE_SECONDS_MAX, Deadlines, RenderRequest
from dreamforge.scheduler.planning.open_job import ON_RUNNER, Stage
from dreamforge.scheduler.planning.snapshot import Snapshot

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
DECISION = Decision(waited_seconds=0, effective_priority=0, queue_length=0, required_bytes=0, candidates=())
REQUEST = RenderRequest(
    model_id="m", preset="p", prompt="x", width_px=64, height_px=64, steps=1, guidance_scale=0, seed=0
)
ASSIGNED = {
    "at": NOON,
    "attempt": 1,
    "runner_id": "r",
    "instance_id": "i",
    "preset": "p",
    "estimated_vram_bytes": 1,
    "decision": DECISION,
}
KINDS = (
    "finish",
    "fail",
    "lose",
    "cancel",
    "confirm",
    "hold",
    "hold queue",
    "priority",
    "expire",
    "garbage",
    "beside",
    "promise",
)
USUAL = ("request", "assign", "start")  # half of the steps, or most stories would end before they begin
STEP_KINDS = (*KINDS, *USUAL * (len(KINDS) // len(USUAL)))
# One draw for a whole step: drawing part by part takes longer than the fold that is tested.
STEPS = st.lists(
    st.sampled_from(list(product(("J1", "J2"), STEP_KINDS, range(4), (False, True)))), min_size=5, max_size=60
)
STAGES = {Status.ASSIGNED: Stage.ASSIGNED, Status.RUNNING: Stage.RUNNING}


@dataclass
class World:
    """A log that is folded twice: by the aggregate, job by job, and by the scheduler."""

    snapshot: Snapshot = field(default_factory=Snapshot)
    states: dict[str, JobState] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    sequence: int = 0
    now: datetime = NOON
    promised: set[str] = field(default_factory=set)

    def step(self, job_id, kind, number, flag):
        self.now += timedelta(seconds=number)
        if kind == "garbage":
            self.write(job_id, f"forge.jobs.{job_id}.{number}.{'succeeded' if flag else 'nonsense'}", {}, b"\xff")
        elif kind == "beside":  # beside the job's subjects: its version stays
            self.sequence += 1
            assert self.snapshot.apply(f"forge.jobs.{job_id}", {}, b"\xff", self.sequence) is not None
        elif kind == "hold queue":
            held = dict(self.snapshot.held_queues)
            scope = scope_of(f"t{number}") if number else scope_of(None)
            self.snapshot.hold_queues(
                {**held, scope: self.now} if flag else {k: v for k, v in held.items() if k != scope}
            )
        elif kind == "promise":
            self.promise(job_id, flag)
        else:
            self.command(job_id, kind, number, flag)

    def promise(self, job_id, keep):
        if job_id in set(self.snapshot.queue):
            self.snapshot.promise(job_id, "r9", "i9", 7)
            if keep:
                self.promised.add(job_id)
            else:
                self.snapshot.withdraw(job_id, self.versions[job_id])

    def command(self, job_id, kind, number, flag):
        state = self.states.get(job_id, INITIAL)
        try:
            events = decisions.decide(state, self.made(job_id, kind, number, flag, state))
        except (Conflict, NotFound):
            return
        for event in events:
            sealed = seal(event, entity_id=job_id, event_id="e", source="s")
            self.write(job_id, sealed.subject, sealed.headers, sealed.data)
            self.states[job_id] = evolve(self.states.get(job_id, INITIAL), event)

    def write(self, job_id, subject, headers, data):
        self.sequence += 1
        self.versions[job_id] = self.sequence
        self.promised.discard(job_id)
        error = self.snapshot.apply(subject, headers, data, self.sequence)
        assert (error is None) == bool(headers)

    def made(self, job_id, kind, number, flag, state):
        now, attempt = self.now, state.attempt
        policy = RetryPolicy(max_attempts=3, base_seconds=2)
        match kind:
            case "request":
                deadlines = Deadlines(start_within_seconds=5, run_within_seconds=3) if flag else None
                return decisions.RequestJob(job_id, now, f"t{number}", number, REQUEST, deadlines=deadlines)
            case "assign":
                return decisions.AssignJob(now, attempt + 1, f"r{number}", "i", 10 * number, DECISION)
            case "start":
                return decisions.StartAttempt(now, attempt, state.runner_id, state.instance_id)
            case "finish":
                stored = ArtifactStored(
                    at=now,
                    attempt=max(1, attempt),
                    index=0,
                    sha256="0" * 64,
                    size_bytes=1,
                    content_type="image/png",
                    width_px=1,
                    height_px=1,
                    seed=0,
                    recipe={},
                )
                return decisions.FinishAttempt(now, attempt, (stored,), 0.0)
            case "fail":
                return decisions.FailAttempt(now, attempt, FailureReason.INTERNAL, flag, "m", policy)
            case "lose":
                return decisions.FailAttempt(now, attempt, FailureReason.RUNNER_LOST, True, "m", policy)
            case "cancel":
                return decisions.RequestCancel(now)
            case "hold":
                return owner.HoldJob(now) if flag else owner.ReleaseJob(now)
            case "priority":
                return owner.ChangePriority(now, number)
            case "confirm":
                return decisions.ConfirmCancel(now, attempt)
            case _:
                return decisions.Expire(now)


def check(world):
    open_jobs = {job_id: state for job_id, state in world.states.items() if not state.terminal}
    assert set(world.snapshot.jobs) == set(open_jobs)
    for job_id, state in open_jobs.items():
        same_job(world, world.snapshot.jobs[job_id], state)
    whole_index(world.snapshot)


def same_job(world, job, state):
    assert job.version == world.versions[job.job_id]
    assert job.attempt == state.attempt
    assert (job.demand.tenant, job.priority) == (state.tenant, state.priority)
    assert job.demand.requested_at == state.requested_at
    if job.job_id in world.promised:
        assert job.stage is Stage.PROMISED
        return
    idle = Stage.QUEUED if state.retry_at is None else Stage.WAITING
    idle = idle if state.held_since is None else Stage.BLOCKED
    assert job.stage is STAGES.get(state.status, idle)
    assert (job.runner_id, job.instance_id) == (state.runner_id, state.instance_id)
    assert job.retry_at == state.retry_at


def whole_index(snapshot):
    by_stage = {stage: {j.job_id for j in snapshot.jobs.values() if j.stage is stage} for stage in Stage}
    queued = [snapshot.jobs[job_id] for job_id in by_stage[Stage.QUEUED]]
    served = {job.job_id for job in queued if hold_of(job.demand.tenant, snapshot.held_queues) is None}
    assert set(snapshot.queue) == served
    assert len(snapshot.queue) == len(served)
    assert {job.job_id for job in snapshot.waiting()} == by_stage[Stage.WAITING]
    held = {job.job_id: name for name in snapshot.runners_in_use for job in snapshot.placed_on(name).values()}
    assert held == {job.job_id: job.runner_id for job in snapshot.jobs.values() if job.stage in ON_RUNNER}
    deadlines = sorted((job.deadline, job.job_id) for job in snapshot.jobs.values() if job.deadline is not None)
    assert snapshot.overdue(datetime.max.replace(tzinfo=UTC)) == [job_id for _, job_id in deadlines]
    assert snapshot.next_deadline == (deadlines[0][0] if deadlines else None)


@settings(max_examples=400)
@given(STEPS)
def test_the_fold_agrees_with_the_aggregate(steps):
    world = World()
    for step in steps:
        world.step(*step)
        check(world)


@settings(max_examples=200)
@given(STEPS)
def test_overdue_is_what_the_aggregate_calls_overdue(steps):
    world = World()
    for step in steps:
        world.step(*step)
    overdue = {
        job_id
        for job_id, state in world.states.items()
        if job_id not in world.promised and owner.overdue(state, world.now) is not None
    }
    assert set(world.snapshot.overdue(world.now)) - world.promised == overdue


@settings(max_examples=200)
@given(STEPS, st.integers(0, 10))
def test_a_retry_waits_until_it_is_due_and_no_longer(steps, later):
    world = World()
    for step in steps:
        world.step(*step)
    now = world.now + timedelta(seconds=later)
    retries = [job for job in world.snapshot.waiting() if job.retry_at <= now]
    due = {job.job_id for job in retries if hold_of(job.demand.tenant, world.snapshot.held_queues) is None}
    before = set(world.snapshot.queue)
    assert world.snapshot.wake(now) == len(retries)
    assert set(world.snapshot.queue) == before | due
    whole_index(world.snapshot)


TOKENS = st.sampled_from(
    ["forge", "jobs", "J1", "0", "1", "requested", "assigned", "r0", "artifact", "succeeded", "", "x", "attempt-failed"]
)
TYPES = st.sampled_from([event.TYPE for event in EVENTS]) | st.text(max_size=10)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
).map(lambda value: json.dumps(value).encode())


@settings(max_examples=500)
@given(
    st.lists(TOKENS, max_size=7).map(".".join),
    st.dictionaries(st.sampled_from(["ce-type", "CE-TYPE", "ce-id", "traceparent"]), TYPES, max_size=3),
    st.binary(max_size=30) | JSON,
)
def test_no_message_stops_the_fold(subject, headers, data):
    world = World()
    for kind in ("request", "assign"):
        world.step("J1", kind, 0, False)
    error = world.snapshot.apply(subject, headers, data, 3)
    job = world.snapshot.jobs["J1"]
    parts = subject.split(".")
    assert job.version == (3 if parts[2:3] == ["J1"] and len(parts) > 3 else 2), "as forge.jobs.J1.> counts"
    assert error is not None or ".artifact" in subject


@given(st.floats(min_value=0, exclude_min=True, max_value=DEADLINE_SECONDS_MAX), st.booleans())
def test_no_deadline_stops_the_fold(seconds, start):
    limits = Deadlines(start_within_seconds=seconds) if start else Deadlines(run_within_seconds=seconds)
    event = JobRequested(at=NOON, tenant="t", request=REQUEST, deadlines=limits)
    snapshot = Snapshot()
    snapshot.observe("J1", event, 1)
    snapshot.observe("J1", JobAssigned.model_validate(ASSIGNED), 2)
    snapshot.observe("J1", JobStarted(at=NOON, attempt=1, runner_id="r", instance_id="i"), 3)
    whole_index(snapshot)


def test_a_promise_holds_for_the_version_it_was_made_on_and_no_other():
    world = World()
    world.step("J1", "request", 0, False)
    world.step("J1", "promise", 0, True)
    assert world.snapshot.jobs["J1"].stage is Stage.PROMISED
    world.step("J1", "garbage", 0, True)
    assert world.snapshot.jobs["J1"].stage is Stage.QUEUED
    world.step("J1", "promise", 0, True)
    world.snapshot.withdraw("J1", 1)
    assert world.snapshot.jobs["J1"].stage is Stage.PROMISED, "that promise was another one"
    check(world)


def test_a_run_deadline_counts_from_the_start():
    world = World()
    for kind, seconds in (("request", 0), ("assign", 1), ("start", 2)):
        world.step("J1", kind, seconds, True)
    assert world.snapshot.next_deadline == NOON + timedelta(seconds=1 + 2 + 3)


def test_each_new_wait_is_returned_once():
    world = World()
    for kind in ("request", "assign", "start", "fail"):
        world.step("J1", kind, 0, True)
    assert [job.job_id for job in world.snapshot.new_waits()] == ["J1"]
    assert world.snapshot.new_waits() == []
    assert [job.job_id for job in world.snapshot.waiting()] == ["J1"]
