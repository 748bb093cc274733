"""A job that ran out of memory on a runner goes to another one first."""

from datetime import UTC, datetime, timedelta

from dreamforge.contracts.events import AttemptFailed, Decision, FailureReason, JobAssigned, JobRequested
from dreamforge.contracts.fleet import Device, Heartbeat
from dreamforge.contracts.measured_times import MeasuredTimes
from dreamforge.contracts.models.descriptor import ModelDescriptor, Preset, VramProfile
from dreamforge.contracts.observed_memory import ObservedMemory
from dreamforge.contracts.placement import RunnerLoad
from dreamforge.contracts.request.render_request import RenderRequest
from dreamforge.scheduler.planning.open_job import evolved, opened
from dreamforge.scheduler.planning.plan import PlanPolicy, plan
from dreamforge.scheduler.planning.snapshot import Snapshot

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
MODEL = ModelDescriptor(
    model_id="m",
    family="f",
    digest="0" * 64,
    vram=VramProfile(resident_bytes=1, denoise_bytes_per_latent=0, decode_bytes_per_px=0),
    presets=(Preset(name="p", width_px=64, height_px=64, steps=1, guidance_scale=0),),
)
REQUEST = RenderRequest(
    model_id="m", preset="p", prompt="x", width_px=64, height_px=64, steps=1, guidance_scale=0, seed=0
)
DECISION = Decision(waited_seconds=0, effective_priority=5, queue_length=0, required_bytes=0, candidates=())


def runner(name, *, resident=False, exhausted=(), step_seconds=None):
    steps = {} if step_seconds is None else {"m 64x64": {1: step_seconds}}
    return RunnerLoad(
        Heartbeat(
            runner_id=name,
            instance_id="i",
            at=NOON,
            renderer="x",
            device=Device(kind="cpu", name="x", total_bytes=0),
            budget_bytes=1000,
            free_bytes=0,
            slots=1,
            model_ids=("m",),
            resident_model_ids=("m",) if resident else (),
            memory=ObservedMemory(exhausted=exhausted),
            times=MeasuredTimes(steps=steps),
        )
    )


def events(reason):
    return (
        JobRequested(at=NOON, tenant="t", priority=5, request=REQUEST),
        JobAssigned(
            at=NOON, attempt=1, runner_id="small", instance_id="i", preset="p", estimated_vram_bytes=1,
            decision=DECISION,
        ),
        AttemptFailed(at=NOON, attempt=1, runner_id="small", reason=reason, retryable=True, message="x",
            retry_at=NOON + timedelta(seconds=1),
        ),
    )  # fmt: skip


def planned(reason, *runners):
    """Where the job goes once its wait is over."""
    snapshot = Snapshot()
    for sequence, event in enumerate(events(reason), 1):
        snapshot.observe("job", event, sequence)
    snapshot.wake(NOON + timedelta(seconds=1))
    return [each.runner_id for each in plan(runners, snapshot, {"m": MODEL}, NOON, PlanPolicy())]


def test_a_runner_that_had_nothing_left_to_try_is_the_last_to_be_asked_again() -> None:
    # It would be the best one: it has the model.
    small, other = runner("small", resident=True), runner("other")
    assert planned(FailureReason.OUT_OF_MEMORY, small, other) == ["other"]
    assert planned(FailureReason.INTERNAL, small, other) == ["small"]
    # Alone it is asked again, until the attempts are used up and the job fails with its numbers.
    assert planned(FailureReason.OUT_OF_MEMORY, small) == ["small"]


def test_every_runner_that_ran_out_of_memory_is_remembered() -> None:
    requested, assigned, failed = events(FailureReason.OUT_OF_MEMORY)
    job = evolved(evolved(opened("job", requested, 1), assigned, 2), failed, 3)
    again = assigned.model_copy(update={"attempt": 2, "runner_id": "other"})
    job = evolved(evolved(job, again, 4), failed.model_copy(update={"attempt": 2, "runner_id": "other"}), 5)
    assert job.out_of_memory_on == {"small", "other"}


def test_other_jobs_of_the_shape_prefer_other_runners_and_are_not_left_waiting() -> None:
    full = runner("full", resident=True, exhausted=("m 64x64",))
    snapshot = Snapshot()
    snapshot.observe("another job", events(FailureReason.INTERNAL)[0], 1)

    def goes_to(*runners):
        return [each.runner_id for each in plan(runners, snapshot, {"m": MODEL}, NOON, PlanPolicy())]

    assert goes_to(full, runner("other")) == ["other"]
    assert goes_to(full) == ["full"]
    assert goes_to(runner("elsewhere", resident=True, exhausted=("m 128x64",)), runner("other")) == ["elsewhere"]


def test_a_runner_that_ran_out_of_memory_is_asked_again_where_times_are_known_too() -> None:
    full = runner("full", exhausted=("m 64x64",), step_seconds=1.0)
    snapshot = Snapshot()
    snapshot.observe("another job", events(FailureReason.INTERNAL)[0], 1)
    assert [each.runner_id for each in plan([full], snapshot, {"m": MODEL}, NOON, PlanPolicy())] == ["full"]
