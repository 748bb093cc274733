"""What fairness promises over time: no job starves, equal tenants get equal shares."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamforge.contracts.events import JobRequested, JobStarted, JobSucceeded
from dreamforge.contracts.fleet import Device, Heartbeat
from dreamforge.contracts.installation_events import TenantConfigured
from dreamforge.contracts.jobs.attempts import decide_course
from dreamforge.contracts.models.descriptor import ModelDescriptor, Preset, VramProfile
from dreamforge.contracts.placement import RunnerLoad
from dreamforge.contracts.quotas import NO_QUOTAS
from dreamforge.contracts.request.render_request import RenderRequest
from dreamforge.contracts.tenants import UNCONFIGURED, TenantState, evolve_tenant
from dreamforge.scheduler.planning.fairness import Ageing
from dreamforge.scheduler.planning.plan import PlanPolicy, plan
from dreamforge.scheduler.planning.snapshot import Snapshot

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
AGEING = Ageing(level_seconds=6.0)
POLICY = PlanPolicy()
MODEL = ModelDescriptor(
    model_id="a",
    family="f",
    digest="0" * 64,
    vram=VramProfile(resident_bytes=0, denoise_bytes_per_latent=0, decode_bytes_per_px=1),
    presets=(Preset(name="p", width_px=64, height_px=64, steps=1, guidance_scale=0),),
)


class Shop:
    """One runner, simulated second by second; a job takes `seconds`."""

    def __init__(self, slots=1, budget=10**6):
        self.snapshot = Snapshot(AGEING)
        self.now = NOON
        self.slots, self.budget = slots, budget
        self.sequence = 0
        self.running = {}
        self.served = []

    def request(self, tenant="t", priority=5, side=64, steps=1):
        self.sequence += 1
        request = RenderRequest(
            model_id="a", preset="p", prompt="x", width_px=side, height_px=64, steps=steps, guidance_scale=0, seed=0
        )
        event = JobRequested(at=self.now, tenant=tenant, priority=priority, request=request)
        job_id = f"job-{self.sequence:05}"
        self.snapshot.observe(job_id, event, self.sequence)
        return job_id

    def second(self, job_seconds=1):
        for job_id, since in list(self.running.items()):
            if (self.now - since).total_seconds() >= job_seconds:
                del self.running[job_id]
                self.sequence += 1
                started = JobStarted(at=self.now, attempt=1, runner_id="r", instance_id="i")
                done = JobSucceeded(at=self.now, attempt=1, artifacts=(), render_seconds=0)
                for event in (started, done):
                    self.snapshot.observe(job_id, event, self.sequence)
        held = self.snapshot.placed_on("r")
        load = RunnerLoad(self.heartbeat(), sum(job.reserved_bytes for job in held.values()), len(held))
        for assignment in plan([load], self.snapshot, {"a": MODEL}, self.now, POLICY):
            job = assignment.job
            self.snapshot.promise(job.job_id, "r", "i", assignment.required_bytes)
            (assigned,) = decide_course(job, assignment.command(self.now))
            self.snapshot.observe(job.job_id, assigned, self.sequence)
            self.running[job.job_id] = self.now
            self.served.append(job)
        self.now += timedelta(seconds=1)

    def heartbeat(self):
        return Heartbeat(
            runner_id="r",
            instance_id="i",
            at=self.now,
            renderer="x",
            device=Device(kind="cpu", name="x", total_bytes=0),
            budget_bytes=self.budget,
            free_bytes=0,
            slots=self.slots,
            model_ids=("a",),
        )

    def served_ids(self):
        return [job.job_id for job in self.served]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=90, max_size=90))
def test_ageing_prevents_starvation(priorities):
    """A job of the lowest priority against a stream of higher ones that alone keeps the runner busy."""
    shop = Shop()
    poor = shop.request(priority=0)
    for priority in priorities:
        shop.request(priority=priority)
        shop.second()
    waited = next(job for job in shop.served if job.job_id == poor)
    bound_seconds = 9 * AGEING.level_seconds + 2  # when it outranks a fresh 9, and what was queued before that
    assert shop.served_ids().index(poor) <= bound_seconds
    assert waited.priority == 0


def test_without_waiting_the_higher_priority_goes_first():
    shop = Shop()
    low, high = shop.request(priority=1), shop.request(priority=8)
    shop.second()
    shop.second()
    assert shop.served_ids() == [high, low]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(0, 9), min_size=2, max_size=5),
    st.lists(st.integers(1, 3), min_size=2, max_size=5),
)
def test_equal_tenants_get_equal_shares(priorities, slots):
    """Whatever priorities they claim and however the capacity changes: after every second they are within one job."""
    shop = Shop()
    tenants = [f"t{number}" for number in range(len(priorities))]
    for tenant, priority in zip(tenants, priorities, strict=True):
        for _ in range(40):
            shop.request(tenant=tenant, priority=priority)
    for number in range(20):
        shop.slots = slots[number % len(slots)]
        shop.second()
        counts = Counter(job.demand.tenant for job in shop.served)
        assert max(counts[t] for t in tenants) - min(counts[t] for t in tenants) <= 1


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 20), min_size=2, max_size=4))
def test_shares_are_of_work_not_of_jobs(steps):
    shop = Shop()
    tenants = [f"t{number}" for number in range(len(steps))]
    for tenant, count in zip(tenants, steps, strict=True):
        for _ in range(100):
            shop.request(tenant=tenant, steps=count)
    work = Counter()
    for _ in range(60):
        shop.second()
        work = Counter()
        for job in shop.served:
            work[job.demand.tenant] += job.demand.work
    largest = max(steps) * 64 * 64
    assert max(work.values()) - min(work[t] for t in tenants) <= largest


def test_a_tenant_without_jobs_saves_up_no_turns():
    shop = Shop()
    for _ in range(50):
        shop.request(tenant="busy")
    for _ in range(20):
        shop.second()
    for _ in range(20):
        shop.request(tenant="late")
    for _ in range(10):
        shop.second()
    counts = Counter(job.demand.tenant for job in shop.served[20:])
    assert counts == {"busy": 5, "late": 5}


def test_emptying_its_queue_gives_a_tenant_no_advantage():
    """A tenant that sends its jobs one at a time gets its share, not more."""
    shop = Shop()
    for _ in range(50):
        shop.request(tenant="a-batch")
    for _ in range(30):
        if not any(shop.snapshot.jobs[job].demand.tenant == "one-by-one" for job in shop.snapshot.queue):
            shop.request(tenant="one-by-one")
        shop.second()
    counts = Counter(job.demand.tenant for job in shop.served)
    assert abs(counts["a-batch"] - counts["one-by-one"]) <= 1


@pytest.mark.parametrize("tenant", ["small", "big"])
def test_small_jobs_do_not_overtake_a_large_one_forever(tenant):
    """The large one needs the whole runner; small ones come faster than they leave and always fit."""
    shop = Shop(slots=4, budget=64 * 64 * 4)
    for _ in range(3):  # one a second, so that the runner never falls empty of itself
        shop.request(tenant="small")
        shop.second(3)
    large = shop.request(tenant=tenant, side=256)
    for _ in range(60):
        shop.request(tenant="small")
        shop.second(3)
    assert large in shop.served_ids()


def weights_of(shop, **weights):
    shop.snapshot.configure_tenants({tenant: TenantState(weight=weight) for tenant, weight in weights.items()})


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 10), st.integers(1, 20)), min_size=2, max_size=4),
    st.lists(st.integers(1, 3), min_size=1, max_size=4),
)
def test_shares_are_in_proportion_to_weights(tenants, slots):
    """After every assignment, work divided by weight differs by one job at most: so shares converge to the weights."""
    shop = Shop()
    names = {f"t{number}": weight for number, (weight, _) in enumerate(tenants)}
    weights_of(shop, **names)
    for number, (_, steps) in enumerate(tenants):
        for _ in range(100):
            shop.request(tenant=f"t{number}", steps=steps)
    for number in range(30):
        shop.slots = slots[number % len(slots)]
        shop.second()
    work, largest = Counter(), max(64 * 64 * steps / weight for weight, steps in tenants)
    for job in shop.served:
        work[job.demand.tenant] += job.demand.work
    received = [work[name] / weight for name, weight in names.items()]
    assert max(received) - min(received) <= largest + 1e-6


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 100), st.integers(2, 4))
def test_equal_weights_are_as_no_weights(weight, tenants):
    orders = []
    for configured in ({}, {f"t{number}": weight for number in range(tenants)}):
        shop = Shop()
        weights_of(shop, **configured)
        for number in range(12):
            shop.request(tenant=f"t{number % tenants}", steps=1 + number % 3)
        for _ in range(12):
            shop.second()
        orders.append(shop.served_ids())
    assert orders[0] == orders[1]


def test_the_smallest_weight_waits_for_its_turn_and_no_longer():
    shop = Shop()
    weights_of(shop, large=100, small=1)
    for _ in range(130):
        shop.request(tenant="large")
    first, second = shop.request(tenant="small"), shop.request(tenant="small")
    for _ in range(120):
        shop.second()
    order = shop.served_ids()
    assert order.index(first) <= 2
    assert order.index(second) <= 103


def test_a_scheduler_that_reads_the_log_again_owes_nobody_for_weights_of_the_past():
    """The weight changed while both competed: who was served by the old weight is not charged by the new one."""
    shop = Shop()
    for _ in range(90):
        shop.request(tenant="a")
        shop.request(tenant="b")
    log = []
    observe = shop.snapshot.observe

    def record(job_id, event, sequence, traceparent=""):
        log.append((job_id, event, sequence))
        observe(job_id, event, sequence, traceparent)

    jobs = dict(shop.snapshot.jobs)
    shop.snapshot.observe = record
    for _ in range(60):
        shop.second()
    raised = evolve_tenant(UNCONFIGURED, TenantConfigured(at=shop.now, quotas=NO_QUOTAS, weight=3))
    shop.snapshot.configure_tenants({"a": raised})
    again = Snapshot(AGEING)
    again.configure_tenants({"a": raised})
    for job in jobs.values():
        again.restore(job)
    for job_id, event, sequence in log:
        again.observe(job_id, event, sequence)
    live = {tenant: tag for tag, _, tenant in shop.snapshot.queue.turns()}
    assert {tenant: tag for tag, _, tenant in again.queue.turns()} == live
