"""A client's view of a job follows its events, and only them."""

import io
from datetime import UTC, datetime

from httpx_sse import ServerSentEvent
from rich.console import Console

from dreamforge.cli.jobs.progress import JobView, fold
from dreamforge.cli.jobs.watch import PlainDisplay, speed_of
from dreamforge.contracts.events import (
    ArtifactStored,
    AttemptFailed,
    Decision,
    Event,
    FailureReason,
    JobAssigned,
    JobCancelled,
    JobFailed,
    JobRequested,
    JobStarted,
    JobSucceeded,
    JobWarned,
    StepProgressed,
    WarningCode,
)
from dreamforge.contracts.request.render_request import RenderRequest

AT = datetime(2026, 1, 1, tzinfo=UTC)
REQUEST = RenderRequest(
    model_id="tiny", preset="p", prompt="a", width_px=64, height_px=64, steps=10, guidance_scale=1, seed=1, images=2
)
DECISION = Decision(waited_seconds=0, effective_priority=5, queue_length=1, required_bytes=1, candidates=())


def loading() -> StepProgressed:
    return StepProgressed(
        at=AT, attempt=1, image_index=0, images=2, step=0, steps=10, elapsed_seconds=0, eta_seconds=0, loading="tiny"
    )


def view_of(*events: Event) -> JobView:
    view = JobView()
    for event in events:
        view = fold(view, event)
    return view


def requested() -> JobRequested:
    return JobRequested(at=AT, tenant="t", request=REQUEST)


def assigned(attempt: int = 1) -> JobAssigned:
    return JobAssigned(
        at=AT,
        attempt=attempt,
        runner_id=f"r{attempt}",
        instance_id="i",
        preset="p",
        estimated_vram_bytes=1,
        decision=DECISION,
    )


def started(attempt: int = 1) -> JobStarted:
    return JobStarted(at=AT, attempt=attempt, runner_id=f"r{attempt}", instance_id="i")


def lost() -> AttemptFailed:
    return AttemptFailed(
        at=AT, attempt=1, runner_id="r1", reason=FailureReason.RUNNER_LOST, retryable=True, message="m", retry_at=AT
    )


def step(number: int, *, image: int = 0, attempt: int = 1) -> StepProgressed:
    done = image * 10 + number
    return StepProgressed(
        at=AT,
        attempt=attempt,
        image_index=image,
        images=2,
        step=number,
        steps=10,
        elapsed_seconds=done / 4,
        eta_seconds=(20 - done) / 4,
    )


def test_steps_count_over_all_images() -> None:
    view = view_of(requested(), assigned(), started(), step(10), step(3, image=1))
    assert (view.status, view.steps_done, view.steps_all) == ("running", 13, 20)
    assert view.steps_per_second == 4.0
    assert view.eta_seconds == 7 / 4


def test_a_step_of_an_attempt_that_lost_changes_nothing() -> None:
    before = view_of(requested(), assigned(), started(), step(4), lost(), assigned(2), started(2), step(1, attempt=2))
    assert fold(before, step(9, attempt=1)) == before


def test_progress_never_goes_back_within_an_attempt() -> None:
    view = view_of(requested(), assigned(), started(), step(5))
    assert fold(view, step(5)) == fold(view, step(2)) == view


def test_a_new_attempt_starts_from_nothing_and_remembers_why() -> None:
    failed = AttemptFailed(
        at=AT, attempt=1, runner_id="r1", reason=FailureReason.STALLED, retryable=True, message="no step", retry_at=AT
    )
    view = view_of(requested(), assigned(), started(), step(5), failed, assigned(2))
    assert (view.steps_done, view.attempt, view.runner_id) == (0, 2, "r2")
    assert view.message == "stalled: no step"


def test_a_model_that_is_loading_is_shown_until_the_first_step() -> None:
    view = view_of(requested(), assigned(), started(), loading())
    assert (view.status, view.loading, speed_of(view)) == ("running", "tiny", "loading tiny")
    assert fold(view, step(1)).loading == ""
    assert view_of(requested(), assigned(), lost(), assigned(2), loading()).loading == "", "an earlier attempt's"


def test_each_end_is_terminal_and_shown() -> None:
    done = JobSucceeded(at=AT, attempt=1, artifacts=("0" * 64,), render_seconds=1)
    failed = JobFailed(at=AT, attempt=1, reason=FailureReason.MODEL_BROKEN, message="no weights")
    cancelled = JobCancelled(at=AT, attempt=1, stage="running")
    ends = [view_of(requested(), assigned(), started(), step(5), end) for end in (done, failed, cancelled)]
    assert [end.status for end in ends] == ["succeeded", "failed", "cancelled"]
    assert all(end.terminal for end in ends)
    assert ends[0].steps_done == 20
    assert ends[1].message == "model_broken: no weights"


def warned(image_index: int | None = None) -> JobWarned:
    return JobWarned(
        at=AT,
        attempt=1,
        code=WarningCode.UNKNOWN_WORDS,
        message="the model does not know: giraffe",
        image_index=image_index,
    )


def test_a_warning_is_kept_and_the_job_goes_on() -> None:
    view = view_of(requested(), assigned(), started(), step(3), warned(), step(4), warned(1))
    assert view.warnings == ("the model does not know: giraffe", "image 2: the model does not know: giraffe")
    assert (view.status, view.steps_done) == ("running", 4)
    assert fold(fold(view, lost()), assigned(2)).warnings == ()


def test_a_warning_has_a_line_of_its_own_in_a_log() -> None:
    console = Console(record=True, width=80, force_terminal=False, file=io.StringIO())
    view = view_of(requested(), assigned(), started(), warned())
    PlainDisplay(console).show(ServerSentEvent(id="1", event=JobWarned.TOKEN, data="{}"), view)
    assert console.export_text().startswith("warning: the model does not know: giraffe\n")


def stored(index: int, attempt: int = 1) -> ArtifactStored:
    return ArtifactStored(
        at=AT,
        attempt=attempt,
        index=index,
        sha256="a" * 64,
        size_bytes=1,
        content_type="image/png",
        width_px=64,
        height_px=64,
        seed=1,
        recipe={},
    )


def test_finished_images_stay_over_attempts_and_do_not_count_as_speed() -> None:
    failed = AttemptFailed(
        at=AT, attempt=1, runner_id="r1", reason=FailureReason.STALLED, retryable=True, message="m", retry_at=AT
    )
    before = (requested(), assigned(), started(), step(10), stored(0), step(4, image=1))
    view = view_of(*before, failed, assigned(2), started(2))
    assert (view.images_stored, view.steps_kept, view.steps_done) == ((0,), 10, 0)
    second = step(4, image=1, attempt=2).model_copy(update={"elapsed_seconds": 2.0})
    assert fold(view, second).steps_per_second == 2.0
