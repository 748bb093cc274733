"""Progress never goes back, and its estimate reaches nothing exactly at the last step."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from dreamforge.gpu_runner.protocol.messages import StepDone
from dreamforge.gpu_runner.supervisor.progress import ProgressEstimate

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@given(st.integers(1, 4), st.integers(1, 6), st.floats(0.001, 10))
def test_elapsed_grows_and_eta_ends_at_zero(images: int, steps: int, step_seconds: float) -> None:
    progress = ProgressEstimate(attempt=1, images=images, to_render=tuple(range(images)))
    events = [
        progress.event(
            StepDone(task_id="t", image_index=image, step=step, steps=steps, elapsed_seconds=step * step_seconds),
            NOW,
        )
        for image in range(images)
        for step in range(1, steps + 1)
    ]
    elapsed = [event.elapsed_seconds for event in events]
    assert elapsed == sorted(elapsed)
    assert events[-1].eta_seconds == 0
    assert all(event.eta_seconds > 0 for event in events[:-1])
    first_estimate = events[0].elapsed_seconds + events[0].eta_seconds
    assert abs(first_estimate - images * steps * step_seconds) < 1e-6 * images * steps * step_seconds


def test_a_preview_goes_along_with_its_step_and_is_left_out_where_there_is_none() -> None:
    progress = ProgressEstimate(attempt=1, images=1, to_render=(0,))
    step = StepDone(task_id="t", image_index=0, step=1, steps=2, elapsed_seconds=1.0)
    seen = progress.event(step.model_copy(update={"preview": "data:image/jpeg;base64,AA"}), NOW)
    assert seen.preview == "data:image/jpeg;base64,AA"
    assert "preview" not in progress.event(step, NOW).model_dump_json()


def test_images_that_are_stored_already_count_neither_as_done_nor_as_left() -> None:
    progress = ProgressEstimate(attempt=2, images=4, to_render=(1, 3))
    first = progress.event(StepDone(task_id="t", image_index=1, step=1, steps=2, elapsed_seconds=1.0), NOW)
    assert (first.image_index, first.images, first.eta_seconds) == (1, 4, 3.0)
    last = progress.event(StepDone(task_id="t", image_index=3, step=2, steps=2, elapsed_seconds=2.0), NOW)
    assert (last.image_index, last.elapsed_seconds, last.eta_seconds) == (3, 3.0, 0.0)
