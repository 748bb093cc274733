"""A grid becomes jobs: as many as the product, each combination once, in an order that says which is which."""

from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamforge.contracts.request.batch import GridAxis, expand
from dreamforge.contracts.request.errors import BatchTooLarge

NAMES = ("steps", "guidance_scale", "sampler", "seed")
AXES = st.lists(
    st.tuples(st.sampled_from(NAMES), st.lists(st.integers(0, 9), min_size=1, max_size=4, unique=True)),
    max_size=4,
    unique_by=lambda axis: axis[0],
)
PROMPTS = st.lists(st.text("ab", min_size=1), max_size=3, unique=True).map(
    lambda texts: [{"prompt": text} for text in texts] or [{}]
)


def axes_of(axes: list[tuple[str, list[int]]]) -> list[GridAxis]:
    return [GridAxis(parameter=name, values=tuple(values)) for name, values in axes]


@given(PROMPTS, AXES)
def test_there_is_a_job_for_each_combination_and_none_twice(
    prompts: list[dict[str, str]], axes: list[tuple[str, list[int]]]
) -> None:
    jobs = expand(prompts, axes_of(axes), 1000)
    assert len(jobs) == len(prompts) * prod(len(values) for _, values in axes)
    assert len({tuple(sorted(job.items())) for job in jobs}) == len(jobs)
    assert all(job[name] in values for job in jobs for name, values in axes)


@given(AXES)
def test_the_order_of_the_parameters_changes_only_the_order_of_the_jobs(axes: list[tuple[str, list[int]]]) -> None:
    forward, backward = expand([{}], axes_of(axes), 1000), expand([{}], axes_of(axes[::-1]), 1000)
    assert sorted(sorted(job.items()) for job in forward) == sorted(sorted(job.items()) for job in backward)


@given(PROMPTS, AXES, st.integers(1, 300))
def test_a_batch_never_has_more_jobs_than_it_may(
    prompts: list[dict[str, str]], axes: list[tuple[str, list[int]]], maximum: int
) -> None:
    jobs = len(prompts) * prod(len(values) for _, values in axes)
    if jobs <= maximum:
        assert len(expand(prompts, axes_of(axes), maximum)) == jobs
        return
    with pytest.raises(BatchTooLarge, match=f"{jobs} jobs"):
        expand(prompts, axes_of(axes), maximum)


def test_a_huge_grid_is_refused_without_being_made() -> None:
    axes = [GridAxis(parameter=str(number), values=tuple(range(500))) for number in range(8)]
    with pytest.raises(BatchTooLarge):
        expand([{}], axes, 100)
