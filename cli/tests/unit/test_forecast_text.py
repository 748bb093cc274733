"""A forecast as a person reads it."""

import pytest

from dreamforge.cli.jobs.forecast_text import forecast_text

FORECAST = {
    "runner_id": "gpu-1",
    "tier": None,
    "load_seconds": 0,
    "starts_in_seconds": {"p50": 0.0, "p90": 0.1},
    "ends_in_seconds": {"p50": 40.0, "p90": 61.0},
    "ahead": 0,
    "idle_runner_id": None,
    "idle_ends_in_seconds": None,
}
END = "ends in about 40 s (at most 1 min 1 s, nine times of ten)"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, f"starts on gpu-1 now, {END}"),
        (
            {"starts_in_seconds": {"p50": 12.0, "p90": 18.0}, "load_seconds": 8.0, "tier": "offload", "ahead": 1},
            f"starts on gpu-1 in tier offload in about 12 s, 8.0 s of them to load the model, {END}; 1 job before it",
        ),
        (
            {"rungs": ["offload_model"]},
            f"starts on gpu-1 now, {END}; with offload model from the start, since this size ran out of memory without",
        ),
        (
            {"idle_runner_id": "cpu", "idle_ends_in_seconds": 600.0},
            f"starts on gpu-1 now, {END}; cpu could start now and would end in 10 min",
        ),
    ],
)
def test_a_forecast_says_where_and_when_and_what_else_there_was(changes: dict[str, object], text: str) -> None:
    assert forecast_text(FORECAST | changes) == text
