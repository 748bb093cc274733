"""An attempt that its runner no longer counts makes room for one more, once, and an idle runner is still preferred."""

from dataclasses import replace
from datetime import UTC, datetime

from dreamforge.contracts.events import Decision, JobAssigned, JobRequested, JobStarted
from dreamforge.contracts.fleet import ActiveAttempt, Device, Heartbeat
from dreamforge.contracts.models.descriptor import ModelDescriptor, Preset, VramProfile
from dreamforge.contracts.placement import RunnerLoad, judge, needs_of
from dreamforge.contracts.request.render_request import RenderRequest
from dreamforge.scheduler.planning.plan import plan
from dreamforge.scheduler.planning.planning_input import loads_of
from dreamforge.scheduler.planning.snapshot import Snapshot

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
DECISION = Decision(waited_seconds=0, effective_priority=5, queue_length=0, required_bytes=0, candidates=())
MODELS = {
    "a": ModelDescriptor(
        model_id="a",
        family="f",
        digest="0" * 64,
        vram=VramProfile(resident_bytes=100, denoise_bytes_per_latent=0, decode_bytes_per_px=0),
        presets=(Preset(name="p", width_px=64, height_px=64, steps=1, guidance_scale=0),),
    )
}
REQUEST = RenderRequest(
    model_id="a", preset="p", prompt="x", width_px=64, height_px=64, guidance_scale=0, seed=0, steps=1
)


def beat(name: str, *ending: str) -> Heartbeat:
    return Heartbeat(
        runner_id=name,
        instance_id=f"{name}-1",
        at=NOON,
        renderer="x",
        device=Device(kind="cpu", name="x", total_bytes=0),
        budget_bytes=150,  # of one model, and not of two
        free_bytes=0,
        slots=1,
        model_ids=("a",),
        ending=tuple(ActiveAttempt(job_id=job_id, attempt=1) for job_id in ending),
    )


def running_on_r1() -> Snapshot:
    """Two jobs; the first runs."""
    snapshot = Snapshot()
    for number in (1, 2):
        event = JobRequested(at=NOON, tenant="t", priority=5, request=REQUEST)
        snapshot.observe(f"job-{number}", event, number)
    here = {"at": NOON, "attempt": 1, "runner_id": "r1", "instance_id": "r1-1"}
    snapshot.observe("job-1", JobAssigned(**here, preset="p", estimated_vram_bytes=100, decision=DECISION), 3)
    snapshot.observe("job-1", JobStarted(**here), 4)
    return snapshot


def planned(snapshot: Snapshot, *fleet: Heartbeat) -> dict[str, str]:
    found = plan(loads_of(fleet, snapshot), snapshot, MODELS, NOON)
    for each in found:
        snapshot.promise(each.job.job_id, each.runner_id, each.instance_id, each.required_bytes)
    return {each.job.job_id: each.runner_id for each in found}


def test_a_running_attempt_keeps_its_slot_and_its_memory_until_it_ends() -> None:
    assert planned(running_on_r1(), beat("r1")) == {}


def test_one_that_ends_makes_room_for_one_job_and_not_for_two() -> None:
    snapshot = running_on_r1()
    snapshot.observe("job-3", JobRequested(at=NOON, tenant="t", priority=5, request=REQUEST), 5)
    assert planned(snapshot, beat("r1", "job-1")) == {"job-2": "r1"}
    assert planned(snapshot, beat("r1", "job-1")) == {}, "the same heartbeat, seen again"


def test_what_an_earlier_attempt_said_frees_no_slot() -> None:
    other = beat("r1").model_copy(update={"ending": (ActiveAttempt(job_id="job-1", attempt=7),)})
    assert planned(running_on_r1(), other) == {}


def test_of_two_runners_the_idle_one_is_preferred() -> None:
    assert planned(running_on_r1(), beat("r1", "job-1"), beat("r2")) == {"job-2": "r2"}
    idle = RunnerLoad(beat("r1"))
    scores = [judge(needs_of(REQUEST), MODELS, each).score or 0 for each in (idle, replace(idle, ending=1))]
    assert scores[0] > scores[1]
