"""A busy runner is told of a model that waits, that it has, that it can hold, and that it has to load."""

from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from dreamforge.contracts.events import JobRequested
from dreamforge.contracts.fleet import Device, Heartbeat
from dreamforge.contracts.models.descriptor import ModelDescriptor, Preset, VramProfile
from dreamforge.contracts.placement import RunnerLoad, judge, needs_of
from dreamforge.contracts.request.render_request import RenderRequest
from dreamforge.scheduler.planning.fleet_index import FleetIndex
from dreamforge.scheduler.planning.next_models import next_models
from dreamforge.scheduler.planning.snapshot import Snapshot

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
NAMES = ("a", "b", "c")
MODELS = {
    name: ModelDescriptor(
        model_id=name,
        family="f",
        digest="0" * 64,
        vram=VramProfile(resident_bytes=100 * number, denoise_bytes_per_latent=0, decode_bytes_per_px=0),
        presets=(Preset(name="p", width_px=64, height_px=64, steps=1, guidance_scale=0),),
    )
    for number, name in enumerate(NAMES, 1)
}


def request(model_id: str) -> RenderRequest:
    return RenderRequest(
        model_id=model_id, preset="p", prompt="x", width_px=64, height_px=64, guidance_scale=0, seed=0, steps=1
    )


def waiting(*jobs: tuple[str, int]) -> Snapshot:
    snapshot = Snapshot()
    for number, (model_id, priority) in enumerate(jobs, 1):
        event = JobRequested(at=NOON, tenant="t", priority=priority, request=request(model_id))
        snapshot.observe(f"job-{number:02}", event, number)
    return snapshot


def beat(name: str, has: frozenset[str], resident: frozenset[str], budget_bytes: int) -> Heartbeat:
    return Heartbeat(
        runner_id=name,
        instance_id=f"{name}-1",
        at=NOON,
        renderer="x",
        device=Device(kind="cpu", name="x", total_bytes=0),
        budget_bytes=budget_bytes,
        free_bytes=0,
        slots=1,
        model_ids=tuple(sorted(has)),
        resident_model_ids=tuple(sorted(has & resident)),
    )


def index_of(fleet: list[Heartbeat]) -> FleetIndex:
    return FleetIndex.of(map(RunnerLoad, fleet), MODELS)


SETS = st.frozensets(st.sampled_from(NAMES))
FLEETS = st.lists(st.tuples(SETS, SETS, st.sampled_from([0, 150, 1000])), max_size=4).map(
    lambda rows: [beat(f"r{number}", *row) for number, row in enumerate(rows)]
)


@settings(max_examples=200)
@given(st.lists(st.tuples(st.sampled_from(NAMES), st.integers(0, 9)), max_size=6), FLEETS)
def test_what_is_told_is_waited_for_and_can_be_loaded(jobs: list[tuple[str, int]], fleet: list[Heartbeat]) -> None:
    told = next_models(index_of(fleet), waiting(*jobs).queue)
    for heartbeat in fleet:
        able = {
            name
            for name, _ in jobs
            if name not in heartbeat.resident_model_ids
            and judge(needs_of(request(name)), MODELS, RunnerLoad(heartbeat)).score is not None
        }
        assert (told.get(heartbeat.runner_id) in able) if able else (heartbeat.runner_id not in told)


def test_the_best_job_that_needs_a_load_decides() -> None:
    runner = beat("r", frozenset(NAMES), frozenset("a"), 1000)
    assert next_models(index_of([runner]), waiting(("a", 9), ("b", 1), ("c", 5)).queue) == {"r": "c"}
