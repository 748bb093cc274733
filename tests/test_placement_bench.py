"""`bench.placement`: the fleet that it has on file, and that each runner of it is simulated as it was recorded."""

import sys
from pathlib import Path

import pytest

from dreamforge.contracts.placement import Needs
from dreamforge.scheduler.planning.planning_input import PlanningInput

REPOSITORY = Path(__file__).parents[1]
sys.path.append(str(REPOSITORY))  # benchmarks belong to no distribution
from bench.placement import RECORDED, compare  # noqa: E402
from bench.simulated_fleet import Arrival, RunnerModel  # noqa: E402
from bench.simulated_work import recorded  # noqa: E402

sys.path.remove(str(REPOSITORY))

JOBS = 12


@pytest.fixture(scope="module")
def captured() -> PlanningInput:
    return PlanningInput.model_validate_json(RECORDED.read_text())


@pytest.fixture(scope="module")
def work() -> tuple[list[RunnerModel], list[Arrival]]:
    return recorded(RECORDED, JOBS, seed=1)


def test_the_recorded_fleet_has_models_of_several_costs_on_runners_that_differ(captured: PlanningInput) -> None:
    assert len({model.vram.resident_bytes for model in captured.models}) == len(captured.models) >= 3
    assert len({beat.model_ids for beat in captured.fleet}) > 1, "not every runner has every model"
    assert len({beat.resident_model_ids for beat in captured.fleet}) > 1
    for beat in captured.fleet:
        assert {shape.split()[0] for shape in beat.times.steps} == set(beat.model_ids), "all of its models are measured"
        assert set(beat.times.loads) == set(beat.model_ids)


def test_a_recorded_runner_is_simulated_with_its_own_models_and_times(
    captured: PlanningInput, work: tuple[list[RunnerModel], list[Arrival]]
) -> None:
    for beat, runner in zip(captured.fleet, work[0], strict=True):
        assert set(runner.models) == set(beat.model_ids)
        for shape, by_size in beat.times.steps.items():
            name, size = shape.split()
            width_px, height_px = map(int, size.split("x"))
            assert runner.step_seconds(Needs(name, height_px, width_px)) == by_size[1]
        assert {name: runner.load_seconds(name) for name in runner.models} == beat.times.loads


def test_every_job_of_the_recorded_fleet_ends_under_both_rules(work: tuple[list[RunnerModel], list[Arrival]]) -> None:
    found = compare(*work, seed=1)  # it asserts that every job ends
    assert 0 < found.by_time.mean_seconds <= found.by_time.p95_seconds
    assert 0 < found.by_score.mean_seconds <= found.by_score.p95_seconds
