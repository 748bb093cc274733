"""The laws of placement by time: where runners have measured how fast they are."""

import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamforge.contracts.events import EstimateSource, JobRequested
from dreamforge.contracts.fleet import Device, Heartbeat
from dreamforge.contracts.measured_times import MeasuredTimes
from dreamforge.contracts.models.descriptor import ModelDescriptor, Preset, VramProfile
from dreamforge.contracts.placement import RunnerLoad, judge
from dreamforge.contracts.request.render_request import RenderRequest
from dreamforge.scheduler.planning.calibration import Calibration
from dreamforge.scheduler.planning.fleet_index import FleetIndex
from dreamforge.scheduler.planning.fleet_times import FleetTimes
from dreamforge.scheduler.planning.forecast import QueueForecast
from dreamforge.scheduler.planning.open_job import OpenJob
from dreamforge.scheduler.planning.plan import PlanPolicy, plan
from dreamforge.scheduler.planning.planning_input import PlanningInput, loads_of
from dreamforge.scheduler.planning.snapshot import Snapshot
from dreamforge.scheduler.planning.waiting_work import waiting_seconds

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
MODELS = {
    name: ModelDescriptor(
        model_id=name,
        family="f",
        digest="0" * 64,
        vram=VramProfile(resident_bytes=size_bytes, denoise_bytes_per_latent=0, decode_bytes_per_px=0),
        presets=(Preset(name="p", width_px=64, height_px=64, steps=1, guidance_scale=0),),
    )
    for name, size_bytes in (("a", 100), ("b", 4000))
}
FAST, SLOW = 1.0, 4.0
BUSY_SECONDS = (None, 3.0, 90.0)


def requested(model="a", *, steps=1, images=1, tenant="t", priority=5, age=0.0, side=64):
    request = RenderRequest(
        model_id=model, preset="p", prompt="x", width_px=side, height_px=64, guidance_scale=0, seed=0, steps=steps,
        images=images, determinism="strict",
    )  # fmt: skip
    return JobRequested(at=NOON - timedelta(seconds=age), tenant=tenant, priority=priority, request=request)


def runner(name, step_seconds, *, device="d", resident=("a", "b"), budget=10_000, bytes_per_second=1000.0, models="ab"):
    """One that takes so many seconds a step at 64 x 64; None: it has measured nothing."""
    steps = {} if step_seconds is None else {f"{model} 64x64": {1: step_seconds} for model in models}
    return Heartbeat(
        runner_id=name,
        instance_id="i",
        at=NOON,
        renderer="x",
        device=Device(kind="cuda", name=device, total_bytes=0),
        budget_bytes=budget,
        free_bytes=0,
        slots=1,
        model_ids=("a", "b"),
        resident_model_ids=resident,
        times=MeasuredTimes(steps=steps, load_bytes_per_second=bytes_per_second),
    )


def folded(*events):
    snapshot = Snapshot()
    for sequence, event in enumerate(events, 1):
        snapshot.observe(f"job-{sequence:02}", event, sequence)
    return snapshot


def busy(snapshot, runner_id, seconds, at=NOON):
    """A job that runs there and was promised to end so many seconds from noon."""
    job_id = f"busy-{runner_id}"
    snapshot.observe(job_id, requested(tenant="other"), 1000)
    snapshot.promise(job_id, runner_id, "i", 100, at + timedelta(seconds=seconds))


def planned(snapshot, *beats, now=NOON, policy=PlanPolicy()):
    return plan(loads_of(beats, snapshot), snapshot, MODELS, now, policy)


def applied(snapshot, assignments, now=NOON):
    for each in assignments:
        snapshot.promise(each.job.job_id, each.runner_id, each.instance_id, each.required_bytes, each.ends_at(now))


def told(assignments):
    return {each.job.job_id: each.runner_id for each in assignments}


EVENTS = st.lists(
    st.sampled_from(
        [
            requested(model, steps=steps, tenant=tenant, priority=priority, age=age, side=side)
            for model, steps, tenant, priority, age, side in product(
                "ab", (1, 5, 40), ("t1", "t2"), (2, 5), (0.0, 90.0), (64, 128)
            )
        ]
    ),
    max_size=20,
)
FLEETS = st.lists(
    st.sampled_from(
        list(product((None, FAST, 2.0, SLOW), ((), ("a",), ("a", "b")), (3000, 10_000), (None, 3.0, 90.0)))
    ),
    min_size=1,
    max_size=6,
)


def fleet_of(rows, snapshot):
    for number, (_, _, _, seconds) in enumerate(rows):
        if seconds is not None:
            busy(snapshot, f"r{number}", seconds)
    return tuple(
        runner(f"r{number}", step, resident=resident, budget=budget, device=f"d{step}")
        for number, (step, resident, budget, _) in enumerate(rows)
    )


@settings(max_examples=200)
@given(EVENTS, FLEETS)
def test_a_plan_by_time_exceeds_no_memory_and_gives_no_job_twice(events, rows):
    snapshot = folded(*events)
    beats = fleet_of(rows, snapshot)
    loads = {load.heartbeat.runner_id: load for load in loads_of(beats, snapshot)}
    found = planned(snapshot, *beats)
    assert len(told(found)) == len(found)
    for each in found:
        load = loads[each.runner_id]
        assert judge(each.job.demand.shape, MODELS, load).score is not None
        loads[each.runner_id] = RunnerLoad(load.heartbeat, load.committed_bytes + each.required_bytes, 1)


@settings(max_examples=100)
@given(EVENTS, FLEETS, st.randoms(use_true_random=False))
def test_the_order_of_the_fleet_is_irrelevant_and_a_captured_input_gives_the_same(events, rows, chance: random.Random):
    snapshot = folded(*events)
    beats = fleet_of(rows, snapshot)
    first = planned(snapshot, *beats)
    shuffled = list(beats)
    chance.shuffle(shuffled)
    assert planned(snapshot, *shuffled) == first
    captured = PlanningInput.of(NOON, PlanPolicy(), beats, tuple(MODELS.values()), snapshot)
    assert PlanningInput.model_validate_json(captured.model_dump_json()).replay() == first


@settings(max_examples=200)
@given(EVENTS, FLEETS)
def test_planning_again_ends_and_for_one_tenant_gives_nothing(events, rows):
    snapshot = folded(*(event.model_copy(update={"tenant": "t"}) for event in events))
    beats = fleet_of(rows, snapshot)
    applied(snapshot, planned(snapshot, *beats))
    assert planned(snapshot, *beats) == ()


@settings(max_examples=200)
@given(EVENTS, FLEETS)
def test_the_fastest_runner_is_never_left_idle(events, rows):
    """Where every model is loaded everywhere: nothing ends sooner elsewhere than on it."""
    rows = [(step, ("a", "b"), 10_000, seconds) for step, _, _, seconds in rows]
    events = [event for event in events if event.request.width_px == 64]
    snapshot = folded(*events)
    beats = fleet_of([*rows, (FAST, ("a", "b"), 10_000, None)], snapshot)
    found = planned(snapshot, *beats)
    idle = beats[-1].runner_id not in {each.runner_id for each in found}
    assert not idle or len(found) == len(events)


@settings(max_examples=200)
@given(EVENTS, FLEETS, st.floats(0, 10_000))
def test_no_job_that_an_idle_runner_can_take_waits_beyond_its_bound(events, rows, waited):
    """Whatever the estimates say."""
    snapshot = folded(*events)
    beats = fleet_of(rows, snapshot)
    now, policy = NOON + timedelta(seconds=waited), PlanPolicy(wait_factor=2.0, reserve_at_priority=float("inf"))
    applied(snapshot, planned(snapshot, *beats, now=now, policy=policy), now)
    for load in loads_of(beats, snapshot):
        for job_id in snapshot.queue:
            job = snapshot.jobs[job_id]
            if judge(job.demand.shape, MODELS, load).score is not None:
                slowest = 2.0 * SLOW * job.demand.steps * 2 + 4.1  # the larger side, and a load
                assert (now - job.demand.requested_at).total_seconds() <= policy.wait_factor * slowest


@given(st.integers(1, 100), st.sampled_from([0.5, 1.0, 2.0, 3.0]), st.sampled_from([0.5, 1.0, 4.0]))
def test_of_idle_runners_the_one_that_ends_it_soonest_gets_it(steps, one, two):
    """Also counting the load: the first has the model, the second reads it in 4 s."""
    beats = runner("one", one), runner("two", two, resident=(), bytes_per_second=1000.0)
    (found,) = planned(folded(requested("b", steps=steps)), *beats)
    ends = {"one": one * steps, "two": 4.0 + two * steps}
    assert found.decision.ends_in_seconds == pytest.approx(min(ends.values()))
    assert ends[found.runner_id] == min(ends.values())
    listed = {each.runner_id: each.ends_in_seconds for each in found.decision.candidates}
    assert listed == pytest.approx(ends)


def test_a_job_waits_for_a_busy_fast_runner_if_that_ends_it_sooner():
    for left_seconds, expected in ((5.0, {}), (35.0, {"job-01": "slow"})):
        snapshot = folded(requested(steps=10))
        busy(snapshot, "fast", left_seconds)
        assert told(planned(snapshot, runner("fast", FAST), runner("slow", SLOW))) == expected


def test_a_slow_runner_gets_what_it_ends_sooner_than_the_queue_of_the_fast_one():
    """Ten jobs of 10 s: the fast one ends the fourth of those that wait after 40 s, as the slow one would."""
    snapshot = folded(*(requested(steps=10, age=20 - n) for n in range(10)))
    found = told(planned(snapshot, runner("fast", FAST), runner("slow", SLOW)))
    assert found.pop("job-01") == "fast"
    ((job_id, name),) = found.items()
    assert name == "slow"
    assert job_id in ("job-04", "job-05")


def test_a_runner_that_is_late_is_not_waited_for_longer_than_it_is_late():
    snapshot = folded(requested(steps=10))
    busy(snapshot, "fast", 2.0)
    beats = runner("fast", FAST), runner("slow", SLOW)
    waiting = [bool(planned(snapshot, *beats, now=NOON + timedelta(seconds=late))) for late in (0, 2, 20, 30, 40)]
    assert waiting == [False, False, False, True, True]


def test_a_runner_that_has_measured_nothing_gets_a_job_and_is_not_waited_for():
    snapshot = folded(requested(steps=10, age=1), requested(steps=10))
    found = planned(snapshot, runner("known", FAST), runner("new", None, device="other"))
    assert set(told(found).values()) == {"known", "new"}
    assert {each.decision.estimate for each in found} == {EstimateSource.MEASURED, EstimateSource.GUESSED}
    assert {each.job.job_id: each.ends_at(NOON) is None for each in found if each.runner_id == "new"} == {
        each.job.job_id: True for each in found if each.runner_id == "new"
    }


def test_a_runner_is_known_by_its_own_other_sizes_and_by_others_of_its_device():
    snapshot = folded(requested(steps=10, side=128))
    for beats, seconds in (
        ((runner("one", 3.0),), 60.0),
        ((runner("one", None, device="same"), busy_twin()), 60.0),
    ):
        (found,) = planned(snapshot, *beats)
        assert found.decision.estimate is EstimateSource.SCALED
        assert found.decision.ends_in_seconds == pytest.approx(seconds)


def busy_twin():
    return runner("twin", 3.0, device="same").model_copy(update={"model_ids": ()})


def test_a_device_is_known_by_what_two_devices_have_both_measured():
    """Four times as slow at model a, so at model b too."""
    fast = runner("fast", FAST, device="fast").model_copy(update={"model_ids": ()})
    slow = runner("slow", SLOW, device="slow", models="a")
    (found,) = planned(folded(requested("b", steps=10)), fast, slow)
    assert (found.runner_id, found.decision.estimate) == ("slow", EstimateSource.SCALED)
    assert found.decision.ends_in_seconds == pytest.approx(40.0)


def test_small_jobs_go_first_within_a_priority_and_for_a_while():
    fast = runner("fast", FAST)

    def first(*events):
        return next(iter(told(planned(folded(*events), fast))))

    large, small = {"steps": 100}, {"steps": 2}
    assert first(requested(**large, age=30), requested(**small)) == "job-02"
    assert first(requested(**large, age=61), requested(**small)) == "job-01", "it has waited for a level of priority"
    assert first(requested(**large, priority=6), requested(**small, priority=5)) == "job-01"
    assert first(requested(**large, tenant="one", age=1), requested(**small, tenant="two")) == "job-01"


def test_weights_on_a_slow_disk_make_a_loaded_model_worth_a_slower_card():
    """4000 bytes at 10 and at 4000 bytes a second: 400 s and 1 s, beside 10 s and 40 s of steps."""
    slow = runner("slow", SLOW)
    for bytes_per_second, expected in ((10.0, "slow"), (4000.0, "fast")):
        fast = runner("fast", FAST, resident=(), bytes_per_second=bytes_per_second)
        assert told(planned(folded(requested("b", steps=10)), fast, slow)) == {"job-01": expected}


def test_a_load_that_was_measured_counts_and_not_the_bytes():
    fast = runner("fast", FAST, resident=(), bytes_per_second=10.0)
    times = fast.times.model_copy(update={"loads": {"b": 2.0}})
    fast = fast.model_copy(update={"times": times})
    (found,) = planned(folded(requested("b", steps=10)), fast, runner("slow", SLOW))
    assert (found.decision.starts_in_seconds, found.decision.ends_in_seconds) == (2.0, 12.0)


def test_a_promise_is_what_the_log_says_it_is():
    """What a scheduler remembers of its plan and what another one folds from the log is the same."""
    snapshot = folded(requested(steps=10))
    (found,) = planned(snapshot, runner("fast", FAST))
    applied(snapshot, [found])
    remembered = snapshot.jobs["job-01"]
    assert isinstance(remembered, OpenJob)
    assert remembered.ends_at == NOON + timedelta(seconds=10)
    assert found.decision.promised_seconds == 10.0


def test_of_jobs_that_are_rendered_together_a_runner_gets_its_share_by_speed():
    """Ten of 1 s on the fast one and 4 s on the slow one: eight and two, which both end after 8 s."""
    kin = [requested(age=20 - n).model_copy(update={"request": TOGETHER}) for n in range(10)]
    beats = [
        runner(name, seconds).model_copy(update={"batch_max": 16, "batch_bounds": {"a 64x64": 16}})
        for name, seconds in (("fast", FAST), ("slow", SLOW))
    ]
    found = planned(folded(*kin), *beats)
    shares = Counter(each.runner_id for each in found)
    assert shares == {"fast": 8, "slow": 2}
    assert {each.decision.ends_in_seconds for each in found} == {8.0}


TOGETHER = requested().request.model_copy(update={"determinism": None})


def test_what_comes_after_the_device_counts_once_a_job_and_holds_up_no_other():
    """Two jobs of two images: 2 x (10 + 1) s of the device each, and 5 s until the last image of a job is stored."""
    fast = runner("fast", FAST)
    times = fast.times.model_copy(update={"beside": {"a 64x64": 1.0}, "after": {"a 64x64": 5.0}})
    beats = (fast.model_copy(update={"times": times}),)
    snapshot = folded(*(requested(steps=10, images=2) for _ in range(2)))
    loads = loads_of(beats, snapshot)
    placed = QueueForecast.of(FleetIndex.of(loads, MODELS), snapshot, NOON, Calibration()).placed.values()
    assert [(each.start_seconds, each.end_seconds) for each, _ in placed] == [(0.0, 27.0), (22.0, 49.0)]


@given(EVENTS)
def test_the_work_that_waits_is_counted_by_model(events):
    events = [event for event in events if event.request.width_px == 64]
    snapshot = folded(*events)
    found = waiting_seconds(FleetTimes([runner("fast", FAST), runner("slow", SLOW)], MODELS), snapshot.queue)
    for model_id in ("a", "b"):
        steps = sum(event.request.steps for event in events if event.request.model_id == model_id)
        assert found.get(model_id, 0.0) == pytest.approx(steps)


def test_work_that_waits_without_a_runner_is_guessed():
    assert waiting_seconds(FleetTimes([], MODELS), folded(requested(steps=10)).queue) == {
        "a": pytest.approx(10 * 64 * 64 * 1e-7)
    }
    assert waiting_seconds(FleetTimes([], MODELS), folded().queue) == {}
