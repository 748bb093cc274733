"""What a runner tells of its speed: medians of the last runs, bounded, and free of what is no step."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamforge.contracts.measured_times import SHAPES_MAX
from dreamforge.contracts.request.render_request import RenderRequest
from dreamforge.contracts.request.values import Upscale
from dreamforge.gpu_runner.protocol.messages import StepDone, Timings
from dreamforge.gpu_runner.supervisor.attempt_times import AttemptTimes
from dreamforge.gpu_runner.supervisor.run_times import RUNS_KEPT, RunTimes

SECONDS = st.floats(0.001, 100)
REQUEST = RenderRequest(
    model_id="m", preset="p", prompt="x", width_px=64, height_px=32, steps=4, guidance_scale=0, seed=0
)


def step(number: int, elapsed_seconds: float, *, steps: int = 4, run_size: int = 1) -> StepDone:
    return StepDone(
        task_id="t", image_index=0, step=number, steps=steps, elapsed_seconds=elapsed_seconds, run_size=run_size
    )


@given(st.lists(SECONDS, min_size=1, max_size=20), st.floats(1000, 10_000))
def test_one_slow_run_does_not_count(seconds: list[float], slow: float) -> None:
    times = RunTimes()
    for each in [*seconds, *seconds, slow]:
        times.stepped("s", 1, each)
    assert times.measured.steps["s"][1] <= max(seconds) * 1.001


def test_a_lasting_change_is_followed_within_half_of_the_runs_that_are_kept() -> None:
    times = RunTimes()
    for each in [1.0] * 50 + [3.0] * (RUNS_KEPT // 2 + 1):
        times.stepped("s", 1, each)
    assert times.measured.steps == {"s": {1: 3.0}}


def test_what_was_used_longest_ago_is_forgotten_first() -> None:
    times = RunTimes()
    for number in range(SHAPES_MAX + 5):
        times.stepped("always", 1, 1.0)
        times.stepped(f"s{number}", 1, 1.0)
        times.finished(f"s{number}", 1.0, 1.0)
        times.loaded(f"m{number}", 1.0, 1)
    measured = times.measured
    assert len(measured.steps) == len(measured.beside) == len(measured.loads) == SHAPES_MAX
    assert "always" in measured.steps
    assert "s0" not in measured.steps
    assert len(measured.model_dump_json()) < 4096


def test_what_was_measured_before_a_restart_counts_as_one_run_of_each() -> None:
    before, times = RunTimes(), RunTimes()
    for seconds in (1.0, 1.0, 1.0, 9.0):
        before.stepped("s", 2, seconds)
        before.finished("s", seconds, seconds)
        before.loaded("m", seconds, 1000)
    times.resume(before.measured)
    assert times.measured == before.measured
    for _ in range(2):
        times.stepped("s", 2, 3.0)
        times.finished("s", 3.0, 3.0)
        times.loaded("m", 3.0, 1000)
    assert (times.measured.steps, times.measured.beside, times.measured.loads) == (
        {"s": {2: 3.0}},
        {"s": 3.0},
        {"m": 3.0},
    )


def test_large_models_decide_how_fast_weights_are_read() -> None:
    times = RunTimes()
    assert times.measured.load_bytes_per_second is None
    times.loaded("tiny", 0.5, 1000)
    times.loaded("large", 9.5, 9_999_000)
    assert times.measured.load_bytes_per_second == 1_000_000
    assert times.measured.loads == {"tiny": 0.5, "large": 9.5}


@pytest.mark.parametrize("run_size", [1, 2, 8])
def test_the_first_step_and_what_comes_after_the_last_are_no_steps(run_size: int) -> None:
    """A run of 1 s of text encoding, 4 steps of 0.5 s, 1 s of decoding, its file and its upload."""
    times = RunTimes()
    attempt = AttemptTimes(times, REQUEST)
    for number in range(1, 5):
        attempt.step(step(number, 1.0 + 0.5 * number, run_size=run_size))
    attempt.image(Timings(render_seconds=4.0 / run_size, encode_seconds=0.1), attempt.steps_seconds, 0.2)
    assert times.measured.steps == {"m 64x32": {run_size: 0.5 / run_size}}
    assert times.measured.beside["m 64x32"] == pytest.approx(2.0 / run_size)
    assert times.measured.after["m 64x32"] == pytest.approx(0.3)


def test_passes_of_two_sizes_count_at_the_larger_one() -> None:
    """4 steps of a quarter of the pixels and half of 4 at full size are 3 of them."""
    request = REQUEST.model_copy(update={"upscale": Upscale(width_px=128, height_px=64, strength=0.5)})
    assert request.steps_at_full_size == 3.0
    times = RunTimes()
    attempt = AttemptTimes(times, request)
    attempt.step(step(6, 3.0, steps=6))
    assert times.measured.steps == {"m 128x64": {1: 1.0}}
