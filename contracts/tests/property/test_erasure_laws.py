"""The laws of erasing jobs and images, whatever else happened to them before and after."""

from datetime import timedelta
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamforge.contracts.errors import JobNotFound, JobWasErased
from dreamforge.contracts.events import ArtifactErased, ArtifactStored, JobErased, JobEvent
from dreamforge.contracts.jobs.course import Status
from dreamforge.contracts.jobs.decisions import Command, RequestCancel, RequestJob, decide
from dreamforge.contracts.jobs.erasure import EraseArtifact, EraseJob, RequestErasure, UndoErasure
from dreamforge.contracts.jobs.state import INITIAL, JobState, fold

from .test_job_laws import REQUEST, T0, commands, step, times

erasures: st.SearchStrategy[Command] = st.one_of(
    st.builds(lambda now, grace: RequestErasure(now, now + timedelta(seconds=grace)), times, st.integers(0, 100)),
    st.builds(UndoErasure, now=times),
    st.builds(EraseJob, now=times),
    st.builds(EraseArtifact, now=times, attempt=st.integers(1, 3), index=st.integers(0, REQUEST.images - 1)),
)
histories = st.lists(commands | erasures, max_size=50)


def run(history: list[Command]) -> tuple[JobState, list[JobEvent]]:
    state, log = INITIAL, list[JobEvent]()
    for command in history:
        state, events = step(state, command)
        log += events
    return state, log


@given(histories)
def test_a_job_is_erased_only_when_it_is_over_asked_for_and_due(history: list[Command]) -> None:
    state = INITIAL
    for command in history:
        before = state
        state, events = step(state, command)
        for event in events:
            if isinstance(event, JobErased):
                assert before.terminal
                assert before.erase_at is not None
                assert before.erase_at <= event.at


@given(histories, histories)
def test_nothing_follows_the_erasure(history: list[Command], later: list[Command]) -> None:
    state, _ = run(history)
    if state.status is Status.ERASED:
        for command in later:
            assert step(state, command) == (state, ())


@given(histories, st.randoms())
def test_the_state_of_an_erased_job_is_that_of_its_last_event_whatever_was_removed_before_it(
    history: list[Command], random: Random
) -> None:
    state, log = run([*history, RequestErasure(T0, T0), EraseJob(T0 + timedelta(days=9))])
    if state.status is not Status.ERASED:
        return
    assert isinstance(log[-1], JobErased)
    assert fold(log[-1:]) == state == JobState(status=Status.ERASED)
    left = [event for event in log[:-1] if random.random() < 0.5]
    assert fold([*left, log[-1]]) == state


@given(st.lists(commands, max_size=50), st.integers(0, 100))
def test_what_is_undone_changes_nothing_of_a_finished_job(history: list[Command], grace: int) -> None:
    state, _ = run(history)
    if not state.terminal:
        return
    hidden, _ = step(state, RequestErasure(T0, T0 + timedelta(seconds=grace)))
    assert hidden.hidden
    shown, _ = step(hidden, UndoErasure(T0))
    assert not shown.hidden
    assert {**_fields(shown), "erasures": 0} == {**_fields(state), "erasures": 0}


@given(st.lists(commands, max_size=50))
def test_an_open_job_is_cancelled_first(history: list[Command]) -> None:
    state, _ = run(history)
    if state.status is not Status.NONE:
        hidden, _ = step(state, RequestErasure(T0, T0))
        assert hidden.terminal or hidden.cancel_requested


@given(histories)
def test_a_hidden_job_is_answered_as_one_that_does_not_exist_and_never_rendered_again(history: list[Command]) -> None:
    state, _ = run(history)
    if state.hidden:
        with pytest.raises(JobNotFound):
            decide(state, RequestCancel(T0))
        with pytest.raises(JobWasErased):
            decide(state, RequestJob("J", T0, "t", 5, REQUEST))


@given(histories)
def test_an_erased_image_is_not_missing_and_never_stored_again(history: list[Command]) -> None:
    state, gone = INITIAL, set[int]()
    for command in history:
        state, events = step(state, command)
        gone |= {event.index for event in events if isinstance(event, ArtifactErased)}
        assert gone.isdisjoint(state.missing_images) or state.status is Status.ERASED
        assert not any(isinstance(event, ArtifactStored) and event.index in gone for event in events)


def _fields(state: JobState) -> dict[str, object]:
    return {name: getattr(state, name) for name in JobState.__dataclass_fields__}
