"""The plan finds what a plan that looks at everything finds, also from an index that is kept while things change."""

import random
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from dreamforge.contracts.events import JobRequested
from dreamforge.contracts.fleet import ActiveAttempt, Device, DeviceHealth, Heartbeat
from dreamforge.contracts.jobs.course import changed
from dreamforge.contracts.measured_times import MeasuredTimes
from dreamforge.contracts.models.descriptor import ModelDescriptor, Preset, Tier, VramProfile
from dreamforge.contracts.observed_memory import ObservedMemory
from dreamforge.contracts.request.render_request import RenderRequest
from dreamforge.contracts.request.values import LoraUse
from dreamforge.contracts.tenants import TenantState
from dreamforge.scheduler.planning.fleet_index import FleetIndex
from dreamforge.scheduler.planning.plan import PlanPolicy, plan, plan_from
from dreamforge.scheduler.planning.planning_input import loads_of
from dreamforge.scheduler.planning.snapshot import Snapshot

from .plain_planning.plan import plain_plan

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
PRESET = Preset(name="p", width_px=64, height_px=64, steps=1, guidance_scale=0)


def _vram(size_bytes):
    return VramProfile(resident_bytes=size_bytes, denoise_bytes_per_latent=0, decode_bytes_per_px=1)


def _model(name, size_bytes, *frugal_bytes, family="f", saved_bytes=0):
    tiers = tuple(Tier(name=f"t{each}", vram=_vram(each)) for each in (size_bytes, *frugal_bytes))
    return ModelDescriptor(
        model_id=name, family=family, digest="0" * 64, vram=_vram(size_bytes), presets=(PRESET,),
        tiers=tiers if frugal_bytes else (), eight_bit_saved_bytes=saved_bytes,
    )  # fmt: skip


MODELS = {
    each.model_id: each
    for each in (
        _model("a", 100, family="qwen-image"),
        _model("b", 9000, 2000, saved_bytes=3000),
        _model("c", 4000, saved_bytes=1500),
        _model("lora", 50),
    )
}
SIZES = ((64, 64), (64, 128), (128, 64), (256, 64))
POLICIES = (
    PlanPolicy(),
    PlanPolicy(assignments_max=2, candidates_max=3),
    PlanPolicy(waits_max=1, wait_factor=50.0, reserve_at_priority=5.0),
)


def _request(chance):
    width_px, height_px = chance.choice(SIZES)
    model_id = chance.choice(("a", "a", "b", "c", "unknown"))
    request = RenderRequest(
        model_id=model_id, preset="p", prompt=chance.choice(("x", "x", "xy")), width_px=width_px, height_px=height_px,
        guidance_scale=0, seed=0, steps=chance.choice((1, 5, 40)), images=chance.choice((1, 1, 3)),
        determinism=chance.choice((None, None, "strict")),
        loras=chance.choice(((), (), (), (LoraUse(model_id="lora"),))),
        quantisation=chance.choice((None, None, None, None, "none", "int8")),
    )  # fmt: skip
    at = NOON - timedelta(seconds=chance.choice((0.0, 1.0, 20.0, 90.0, 3000.0)))
    return JobRequested(at=at, tenant=chance.choice("xyz"), priority=chance.choice((2, 5, 6)), request=request)


def _times(chance, device):
    if chance.random() < 0.3:
        return MeasuredTimes()
    factor = {"cuda slow": 4.0}.get(device, 1.0) * chance.choice((1.0, 1.0, 1.1))
    names = [f"{model_id} {width}x{height}" for model_id in "abc" for width, height in SIZES]
    names = chance.sample(names, chance.randrange(6))
    steps = {name: {1: factor * chance.choice((0.5, 1.0, 1.5)), 4: factor * 0.4} for name in names}
    return MeasuredTimes(
        steps=steps,
        beside=dict.fromkeys(chance.sample(names, len(names) // 2), 0.5),
        after=dict.fromkeys(chance.sample(names, len(names) // 2), 0.25),
        loads={"c": 2.0} if chance.random() < 0.5 else {},
        load_bytes_per_second=chance.choice((None, 100.0, 5000.0)),
    )


def _memory(chance):
    if chance.random() < 0.7:
        return ObservedMemory()
    peaks = {"b 64x64": {"t9000": 7000}, "c 64x64": {"": 3000}, "a 128x64": {"": 12_000}, "c 64x64 int8": {"": 2000}}
    further = chance.choice(({}, {"a 64x64": {"": 900}, "b 64x64": {"t9000": 2500}}))
    return ObservedMemory(peaks=peaks, further=further, exhausted=chance.choice(((), ("a 64x64", "c 64x64"))))


def _heartbeat(chance):
    """Of one of eight runners."""
    device = chance.choice(("cuda fast", "cuda slow", "cpu x"))
    kind, _, name = device.partition(" ")
    return Heartbeat(
        runner_id=f"r{chance.randrange(8)}",
        instance_id="i",
        at=NOON,
        renderer="x",
        device=Device(kind=kind, name=name, total_bytes=0),
        budget_bytes=chance.choice((3000, 10_000, 10_001, 30_000)),
        free_bytes=0,
        slots=chance.choice((1, 1, 1, 2, 3)),
        draining=chance.random() < 0.03,
        starting=chance.random() < 0.03,
        health=DeviceHealth(state=chance.choice(("healthy",) * 19 + ("fenced",)), reason="r"),
        model_ids=chance.choice((("a", "b", "c", "lora"),) * 3 + (("a", "b", "c"), ("b", "c", "lora"), ("a",))),
        resident_model_ids=chance.choice(((), ("a",), ("b",), ("a", "c"))),
        ending=(ActiveAttempt(job_id=f"job-{chance.randrange(20):02}", attempt=0),) if chance.random() < 0.2 else (),
        times=_times(chance, device),
        quantisations=chance.choice(({}, {"int8": "r"}, {"int8": ""}, {"int8": ""})),
        memory=_memory(chance),
        batch_max=chance.choice((1, 1, 8)),
        batch_bounds=chance.choice(({}, {"a 64x64": 4})),
    )


# One draw for a whole value, from many that were made by chance: that is faster than the plans that are compared.
CHANCE = random.Random(15)
REQUESTS = st.sampled_from([_request(CHANCE) for _ in range(600)])
HEARTBEATS = st.sampled_from([_heartbeat(CHANCE) for _ in range(600)])
BUSY_SECONDS = st.sampled_from((None, -3.0, 0.2, 3.0, 30.0, 300.0))
RETRIED = st.sampled_from((frozenset(), frozenset(), frozenset({"r0", "r1"})))


def _request_job(snapshot, number, requested, retried):
    job_id = f"job-{number:02}"
    snapshot.observe(job_id, requested, number + 1)
    if retried:
        snapshot.restore(changed(snapshot.jobs[job_id], attempt=1, out_of_memory_on=retried))
    return job_id


def _occupy(snapshot, number, runner_id, seconds):
    """A job that is on a runner, and was promised to end in so many seconds; None: nothing was promised."""
    job_id = _request_job(snapshot, number, JobRequested(at=NOON, tenant="z", priority=5, request=OTHER), ())
    snapshot.promise(job_id, runner_id, "i", 100, None if seconds is None else NOON + timedelta(seconds=seconds))


OTHER = RenderRequest(
    model_id="a", preset="p", prompt="x", width_px=64, height_px=64, guidance_scale=0, seed=0, steps=1
)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(HEARTBEATS, max_size=8, unique_by=lambda each: each.runner_id),
    st.lists(st.tuples(REQUESTS, RETRIED), max_size=25),
    st.lists(st.tuples(st.integers(0, 7), BUSY_SECONDS), max_size=5),
    st.sampled_from(POLICIES),
)
def test_a_plan_is_what_a_look_at_everything_gives(fleet, requests, placed, policy):
    snapshot = Snapshot()
    snapshot.configure_tenants({"x": TenantState(weight=3)})
    for number, (requested, retried) in enumerate(requests):
        _request_job(snapshot, number, requested, retried)
    for number, (runner, seconds) in enumerate(placed, 50):
        _occupy(snapshot, number, f"r{runner}", seconds)
    loads = loads_of(fleet, snapshot)
    assert plan(loads, snapshot, MODELS, NOON, policy) == plain_plan(loads, snapshot, MODELS, NOON, policy)


CHANGES = st.one_of(
    HEARTBEATS.map(lambda heartbeat: ("heartbeat", heartbeat)),
    REQUESTS.map(lambda requested: ("request", requested)),
    REQUESTS.map(lambda requested: ("request", requested)),
    st.integers(0, 7).map(lambda number: ("lost", f"r{number}")),
    st.integers(0, 9).map(lambda number: ("ended", number)),
    st.tuples(st.integers(0, 7), BUSY_SECONDS).map(lambda where: ("occupied", where)),
    st.sampled_from((0.1, 5.0, 100.0)).map(lambda seconds: ("time", seconds)),
    st.just(("plan", None)),
    st.just(("plan", None)),
)


class _Scheduler:
    """The fold of the log and the kept index, beside what they are made of."""

    def __init__(self):
        self.snapshot, self.index, self.now = Snapshot(), FleetIndex(MODELS), NOON
        self.fleet = {}

    def change(self, number, what, value):
        if what == "heartbeat":
            self.fleet[value.runner_id] = value
            self.index.place(value, self.snapshot)
        elif what == "lost":
            self.fleet.pop(value, None)
            self.index.remove(value)
        elif what == "request":
            _request_job(self.snapshot, number, value, ())
        elif what == "ended":
            placed = sorted(job.job_id for job in self.snapshot.jobs.values() if job.on_runner)
            for job_id in placed[value : value + 1]:
                self.snapshot.drop(job_id)
        elif what == "occupied":
            _occupy(self.snapshot, number, f"r{value[0]}", value[1])
        elif what == "time":
            self.now += timedelta(seconds=value)
        else:
            for each in self.planned():
                end = each.ends_at(self.now)
                self.snapshot.promise(each.job.job_id, each.runner_id, each.instance_id, each.required_bytes, end)

    def planned(self):
        self.index.follow(self.snapshot)
        return plan_from(self.index, self.snapshot, self.now)


@settings(max_examples=150, deadline=None)
@given(st.lists(HEARTBEATS, max_size=8), st.lists(CHANGES, min_size=1, max_size=25))
def test_an_index_that_is_kept_gives_the_plan_of_a_new_one(fleet, changes):
    scheduler = _Scheduler()
    for number, (what, value) in enumerate([*(("heartbeat", each) for each in fleet), *changes]):
        scheduler.change(number, what, value)
        loads = loads_of(scheduler.fleet.values(), scheduler.snapshot)
        found = scheduler.planned()
        assert scheduler.index.loads == {load.heartbeat.runner_id: load for load in loads}
        assert found == plain_plan(loads, scheduler.snapshot, MODELS, scheduler.now)


def test_what_is_compared_has_plans_in_it():
    """Both properties would hold of plans that are empty."""
    chance, found = random.Random(1), 0
    for _ in range(10):
        snapshot = Snapshot()
        for number in range(20):
            _request_job(snapshot, number, _request(chance), ())
        fleet = {each.runner_id: each for each in (_heartbeat(chance) for _ in range(12))}
        found += len(plain_plan(loads_of(fleet.values(), snapshot), snapshot, MODELS, NOON))
    assert found > 30
