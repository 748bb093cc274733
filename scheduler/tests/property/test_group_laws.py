"""The laws of jobs that go to a runner together, on random fleets and queues."""

from datetime import UTC, datetime, timedelta
from math import ceil

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dreamforge.contracts.events import JobRequested
from dreamforge.contracts.fleet import Device, Heartbeat, batch_shape
from dreamforge.contracts.measured_times import MeasuredTimes
from dreamforge.contracts.models.descriptor import ModelDescriptor, Preset, VramProfile
from dreamforge.contracts.placement import RunnerLoad
from dreamforge.contracts.request.batch_key import BYTES_A_BLOCK
from dreamforge.contracts.request.render_request import RenderRequest
from dreamforge.scheduler.planning.plan import PlanPolicy, plan
from dreamforge.scheduler.planning.snapshot import Snapshot

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
AN_IMAGE = 64 * 64
#: Beside other work a request may take long to make; no example is slow by itself.
ON_BUSY_MACHINES = (HealthCheck.too_slow,)
MODEL = ModelDescriptor(
    model_id="a",
    family="f",
    digest="0" * 64,
    vram=VramProfile(resident_bytes=100, denoise_bytes_per_latent=0, decode_bytes_per_px=1),
    presets=(Preset(name="p", width_px=64, height_px=64, steps=1, guidance_scale=0),),
)


def requested(*, steps=1, images=1, tenant="t", determinism=None, age=0.0, priority=5, prompt="x", negative_prompt=""):
    request = RenderRequest(
        model_id="a", preset="p", prompt=prompt, negative_prompt=negative_prompt, width_px=64, height_px=64,
        guidance_scale=0, seed=0, steps=steps, images=images, determinism=determinism,
    )  # fmt: skip
    return JobRequested(at=NOON - timedelta(seconds=age), tenant=tenant, priority=priority, request=request)


def runner(name="r", *, bound=8, images_of_memory=100, times=MeasuredTimes()):
    return RunnerLoad(
        Heartbeat(
            runner_id=name,
            instance_id=f"{name}-1",
            at=NOON,
            renderer="x",
            device=Device(kind="cpu", name="x", total_bytes=0),
            budget_bytes=100 + images_of_memory * AN_IMAGE,
            free_bytes=0,
            slots=1,
            model_ids=("a",),
            batch_max=64,
            batch_bounds={batch_shape("a", 64, 64): bound},
            times=times,
        )
    )


def folded(events):
    snapshot = Snapshot()
    for sequence, event in enumerate(events, 1):
        snapshot.observe(f"job-{sequence:02}", event, sequence)
    return snapshot


def planned(events, *runners, family="f", **policy):
    snapshot, models = folded(events), {"a": MODEL.model_copy(update={"family": family})}
    return snapshot, plan(runners, snapshot, models, NOON, PlanPolicy(**policy))


def names(assignments):
    return [each.job.job_id for each in assignments]


REQUESTS = st.lists(
    st.builds(
        requested,
        steps=st.sampled_from([1, 1, 2]),
        images=st.integers(1, 4),
        tenant=st.sampled_from(["t1", "t2", "t3"]),
        determinism=st.sampled_from([None, None, "strict"]),
        age=st.sampled_from([0.0, 1.0, 300.0]),
        priority=st.integers(0, 9),
    ),
    max_size=20,
)
RUNNERS = st.lists(st.tuples(st.sampled_from([1, 2, 5, 16]), st.sampled_from([1, 3, 100])), max_size=3).map(
    lambda rows: [
        runner(f"r{number}", bound=bound, images_of_memory=memory) for number, (bound, memory) in enumerate(rows)
    ]
)


@settings(max_examples=300, suppress_health_check=ON_BUSY_MACHINES)
@given(REQUESTS, RUNNERS, st.integers(1, 6))
def test_a_group_is_of_one_kind_within_its_bound_and_its_memory(events, runners, most):
    _, found = planned(events, *runners, assignments_max=most)
    assert len(set(names(found))) == len(found) <= most
    for load in runners:
        given_here = [each for each in found if each.runner_id == load.heartbeat.runner_id]
        assert sum(each.required_bytes for each in given_here) <= load.heartbeat.budget_bytes
        assert len({each.group for each in given_here}) <= 1, "one slot, one group"
        if len(given_here) > 1:
            assert all(each.group is not None and each.group.jobs == len(given_here) for each in given_here)
            assert len({each.job.demand.batch_key for each in given_here} - {None}) == 1
            assert not any(each.job.demand.batch_key is None for each in given_here)
            images = sum(each.job.demand.images for each in given_here)
            assert images <= load.heartbeat.batch_bounds[batch_shape("a", 64, 64)]
        else:
            assert all(each.group is None for each in given_here)


TEXTS = st.sampled_from(["", "a fox", "an owl", "a cat", "f\N{LATIN SMALL LETTER U WITH DIAERESIS}r", "a fox " * 30])
TIMES = MeasuredTimes(steps={batch_shape("a", 64, 64): {1: 2.0, 2: 1.5, 4: 1.0}})


@settings(max_examples=200, suppress_health_check=ON_BUSY_MACHINES)
@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=12), st.sampled_from(sorted(BYTES_A_BLOCK)))
def test_where_lengths_must_be_equal_a_group_has_texts_of_one_length_and_is_promised_as_one_run(texts, family):
    events = [requested(steps=10, prompt=prompt, negative_prompt=negative) for prompt, negative in texts]
    runners = [runner(f"r{number}", bound=4, times=TIMES) for number in range(3)]
    _, found = planned(events, *runners, family=family)
    for load in runners:
        given_here = [each for each in found if each.runner_id == load.heartbeat.runner_id]
        lengths = {blocks(text, BYTES_A_BLOCK[family]) for text in (texts_of(each, texts) for each in given_here)}
        assert len(lengths) <= 1
        pace = {1: 2.0, 2: 1.5, 3: 1.5, 4: 1.0}
        for each in given_here:
            ends_in = each.decision.promised_seconds
            assert ends_in == len(given_here) * 10 * pace[len(given_here)], "what one run of all of them takes"


def texts_of(assignment, texts):
    return texts[int(assignment.job.job_id.removeprefix("job-")) - 1]


def blocks(texts, block):
    return tuple(ceil(len(text.encode()) / block) for text in texts)


def test_prompts_of_any_length_go_together_where_the_family_pads_them_to_one():
    events = [requested(prompt="x" * number) for number in range(1, 5)]
    assert {each.group.jobs for each in planned(events, runner(bound=4))[1]} == {4}
    alone = planned(events, runner(bound=4), family="qwen-image")[1]
    assert [each.group for each in alone] == [None], "one job, and the others wait in the queue"
    assert {each.group.jobs for each in planned(events, runner(bound=4), family="z-image")[1]} == {4}


@settings(max_examples=200, suppress_health_check=ON_BUSY_MACHINES)
@given(REQUESTS, st.sampled_from([2, 5, 16]))
def test_the_first_of_a_group_is_the_one_that_would_have_gone_alone(events, bound):
    _, together = planned(events, runner(bound=bound))
    _, alone = planned(events, runner(bound=1))
    assert names(together)[:1] == names(alone)


@settings(max_examples=200, suppress_health_check=ON_BUSY_MACHINES)
@given(REQUESTS)
def test_of_one_tenant_no_job_overtakes_one_of_its_kind_and_size(events):
    snapshot, found = planned(events, runner(bound=5))
    taken = set(names(found))
    for job_id in taken:
        job = snapshot.jobs[job_id]
        for other in snapshot.jobs.values():
            same = (job.demand.tenant, job.demand.batch_key, job.demand.images)
            if same == (other.demand.tenant, other.demand.batch_key, other.demand.images) and other.job_id not in taken:
                assert snapshot.queue.place_of(job) < snapshot.queue.place_of(other)


def test_tenants_take_turns_within_a_group():
    events = [requested(tenant="a") for _ in range(8)] + [requested(tenant="b") for _ in range(8)]
    snapshot, found = planned(events, runner(bound=8))
    tenants = [each.job.demand.tenant for each in found]
    assert (tenants.count("a"), tenants.count("b")) == (4, 4)
    for each in found:
        snapshot.promise(each.job.job_id, each.runner_id, each.instance_id, each.required_bytes)
    tags = {tenant: tag for tag, _, tenant in snapshot.queue.turns()}
    assert tags["a"] == tags["b"] == snapshot.queue.cost("a", 4 * AN_IMAGE), "each is charged for its own"


def test_runners_that_are_idle_share_what_waits():
    _, found = planned([requested() for _ in range(9)], runner("r1", bound=16), runner("r2", bound=16))
    given_to = [each.runner_id for each in found]
    assert (given_to.count("r1"), given_to.count("r2")) == (5, 4)


def test_a_job_that_comes_while_the_runner_is_busy_waits_in_the_queue():
    load = runner(bound=8)
    snapshot = folded([requested(), requested()])
    busy = RunnerLoad(load.heartbeat, 100 + AN_IMAGE, 1)
    assert plan([busy], snapshot, {"a": MODEL}, NOON, PlanPolicy()) == ()


def test_a_retry_goes_alone():
    snapshot, found = planned([requested(), requested(), requested()], runner(bound=8))
    assert len(found) == 3
    first = snapshot.jobs["job-01"]
    object.__setattr__(first, "attempt", 1)
    found = plan([runner(bound=8)], snapshot, {"a": MODEL}, NOON, PlanPolicy())
    assert names(found) == ["job-01"]


def test_why_says_with_how_many_others():
    _, found = planned([requested(), requested(), requested()], runner(bound=8))
    for each in found:
        (chosen,) = each.decision.candidates
        assert "renders up to 8 images of this size together" in chosen.reasons
        assert chosen.reasons[-1] == "together with 2 other jobs"
