"""The laws of the plan, on random fleets and queues."""

import random
from datetime import UTC, datetime, timedelta
from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from dreamforge.contracts.events import JobRequested
from dreamforge.contracts.fleet import Device, Heartbeat
from dreamforge.contracts.models.descriptor import ModelDescriptor, Preset, VramProfile
from dreamforge.contracts.placement import RunnerLoad, judge
from dreamforge.contracts.request.render_request import RenderRequest
from dreamforge.scheduler.planning.fairness import Ageing
from dreamforge.scheduler.planning.plan import PlanPolicy, plan
from dreamforge.scheduler.planning.planning_input import PlanningInput
from dreamforge.scheduler.planning.snapshot import Snapshot

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
PRESET = Preset(name="p", width_px=64, height_px=64, steps=1, guidance_scale=0)
MODELS = {
    name: ModelDescriptor(
        model_id=name,
        family="f",
        digest="0" * 64,
        vram=VramProfile(resident_bytes=resident, denoise_bytes_per_latent=0, decode_bytes_per_px=1),
        presets=(PRESET,),
    )
    for name, resident in (("a", 100), ("b", 4000))
}
NO_RESERVE = PlanPolicy(reserve_at_priority=float("inf"))


def requested(model="a", *, side=64, tenant="t", priority=5, age=0.0, steps=1, now=NOON):
    request = RenderRequest(
        model_id=model, preset="p", prompt="x", width_px=side, height_px=64, steps=steps, guidance_scale=0, seed=0
    )
    return JobRequested(at=now - timedelta(seconds=age), tenant=tenant, priority=priority, request=request)


def heartbeat(runner_id, *, slots=1, budget=10_000, models=("a", "b"), resident=(), draining=False):
    return Heartbeat(
        runner_id=runner_id,
        instance_id=f"{runner_id}-1",
        at=NOON,
        renderer="x",
        device=Device(kind="cpu", name="x", total_bytes=0),
        budget_bytes=budget,
        free_bytes=0,
        slots=slots,
        draining=draining,
        model_ids=models,
        resident_model_ids=resident,
    )


# One draw for a whole request or runner, from all that there are: drawing field by field takes five times as long as
# the plan that is tested.
REQUESTS = st.sampled_from(
    [
        (model, {"side": side, "tenant": tenant, "priority": priority, "age": age, "steps": steps})
        for model, side, tenant, priority, age, steps in product(
            ("a", "b", "unknown"),
            (64, 128, 130, 256),
            ("t1", "t2", "t3"),
            range(10),
            (0.0, 1.0, 59.5, 600.0, 7200.0),
            (1, 2, 3),
        )
    ]
).map(lambda chosen: requested(chosen[0], **chosen[1]))
QUEUES = st.lists(REQUESTS, max_size=25).map(lambda found: [(f"job-{n:02}", event) for n, event in enumerate(found)])
SOME_MODELS = ((), ("a",), ("b",), ("a", "b"))
HELD = ((), *product((100, 4000, 9000)), *product((100, 4000, 9000), repeat=2))
FLEETS = st.lists(
    st.sampled_from(
        list(
            product(
                (1, 2, 3, 4),
                (1000, 8200, 10_000, 30_000),
                SOME_MODELS,
                SOME_MODELS,
                (False, False, False, True),
                HELD,
            )
        )
    ),
    max_size=6,
).map(
    lambda rows: [
        RunnerLoad(
            heartbeat(f"r{n}", slots=slots, budget=budget, models=models, resident=resident, draining=draining),
            sum(held),
            len(held),
        )
        for n, (slots, budget, models, resident, draining, held) in enumerate(rows)
    ]
)


def fold(queue, ageing=Ageing()):
    snapshot = Snapshot(ageing)
    for sequence, (job_id, event) in enumerate(queue, 1):
        snapshot.observe(job_id, event, sequence)
    return snapshot


def applied(snapshot, fleet, assignments):
    """The fleet as it is once the plan is appended; the snapshot is told."""
    for assignment in assignments:
        snapshot.promise(assignment.job.job_id, assignment.runner_id, assignment.instance_id, assignment.required_bytes)
    return [
        RunnerLoad(
            load.heartbeat,
            load.committed_bytes
            + sum(a.required_bytes for a in assignments if a.runner_id == load.heartbeat.runner_id),
            load.committed_slots + sum(a.runner_id == load.heartbeat.runner_id for a in assignments),
        )
        for load in fleet
    ]


def told(assignments):
    return [(a.job.job_id, a.runner_id, a.required_bytes) for a in assignments]


@settings(max_examples=500)
@given(FLEETS, QUEUES)
def test_no_assignment_exceeds_what_a_runner_can_take(fleet, queue):
    snapshot = fold(queue)
    loads = {load.heartbeat.runner_id: load for load in fleet}
    for assignment in plan(fleet, snapshot, MODELS, NOON):
        load = loads[assignment.runner_id]
        shape = assignment.job.demand.shape
        assert judge(shape, MODELS, load).score is not None
        load = RunnerLoad(load.heartbeat, load.committed_bytes + assignment.required_bytes, load.committed_slots + 1)
        assert load.committed_bytes <= load.heartbeat.budget_bytes
        assert load.committed_slots <= load.heartbeat.slots
        loads[assignment.runner_id] = load


@settings(max_examples=200)
@given(FLEETS, QUEUES)
def test_no_job_twice_and_only_queued_ones(fleet, queue):
    snapshot = fold(queue)
    jobs = [assignment.job.job_id for assignment in plan(fleet, snapshot, MODELS, NOON)]
    assert len(set(jobs)) == len(jobs)
    assert set(jobs) <= set(snapshot.queue)


@settings(max_examples=200)
@given(FLEETS, QUEUES, st.randoms(use_true_random=False))
def test_input_order_is_irrelevant(fleet, queue, chance: random.Random):
    first = plan(fleet, fold(queue), MODELS, NOON)
    other_fleet, other_queue = fleet.copy(), queue.copy()
    chance.shuffle(other_fleet)
    chance.shuffle(other_queue)
    second = plan(other_fleet, fold(other_queue), MODELS, NOON)
    assert told(first) == told(second)
    assert [a.decision for a in first] == [a.decision for a in second]


@settings(max_examples=500)
@given(FLEETS, QUEUES)
def test_planning_the_applied_plan_yields_nothing(fleet, queue):
    snapshot = fold(queue)
    fleet = applied(snapshot, fleet, plan(fleet, snapshot, MODELS, NOON))
    assert plan(fleet, snapshot, MODELS, NOON) == ()


@settings(max_examples=200)
@given(FLEETS, QUEUES)
def test_no_job_waits_while_a_runner_could_take_it(fleet, queue):
    """Without reservations, a job that is left over is refused by every runner as the plan leaves it."""
    snapshot = fold(queue)
    fleet = applied(snapshot, fleet, plan(fleet, snapshot, MODELS, NOON, NO_RESERVE))
    for job_id in snapshot.queue:
        shape = snapshot.jobs[job_id].demand.shape
        assert all(judge(shape, MODELS, load).refused for load in fleet)


@settings(max_examples=150)
@given(FLEETS, QUEUES)
def test_one_plan_is_as_good_as_many_small_ones(fleet, queue):
    """So it does not matter how events are batched."""
    at_once = told(plan(fleet, fold(queue), MODELS, NOON, NO_RESERVE))
    snapshot, one_by_one = fold(queue), []
    small = PlanPolicy(assignments_max=1, reserve_at_priority=float("inf"))
    while found := plan(fleet, snapshot, MODELS, NOON, small):
        one_by_one += told(found)
        fleet = applied(snapshot, fleet, found)
    assert one_by_one == at_once


@settings(max_examples=100)
@given(FLEETS, QUEUES, st.lists(st.tuples(st.sampled_from(["t1", "t2", "t3"]), st.integers(1, 10**6)), max_size=3))
def test_a_captured_input_gives_the_same_plan(fleet, queue, served):
    snapshot = fold(queue)
    for tenant, work in served:
        snapshot.queue.charge(tenant, work)
    fleet = [RunnerLoad(load.heartbeat) for load in fleet]
    heartbeats = tuple(load.heartbeat for load in fleet)
    captured = PlanningInput.of(NOON, PlanPolicy(), heartbeats, tuple(MODELS.values()), snapshot)
    again = PlanningInput.model_validate_json(captured.model_dump_json())
    assert again.replay() == plan(fleet, snapshot, MODELS, NOON)


@settings(max_examples=200)
@given(FLEETS, QUEUES, st.integers(1, 4))
def test_a_decision_lists_the_runners_that_could_have_taken_it(fleet, queue, bound):
    policy = PlanPolicy(candidates_max=bound)
    for assignment in plan(fleet, fold(queue), MODELS, NOON, policy):
        decision = assignment.decision
        assert decision.candidates[0].runner_id == assignment.runner_id
        assert len(decision.candidates) == min(bound, len(fleet))
        assert decision.candidates_total == len(fleet)
        scores = [candidate.score for candidate in decision.candidates if candidate.score is not None]
        assert scores == sorted(scores, reverse=True)
        assert all(candidate.refused for candidate in decision.candidates if candidate.score is None)
        assert decision.waited_seconds == (NOON - assignment.job.demand.requested_at).total_seconds()
