"""The laws of decide / evolve, driven with random commands in random order."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from dreamforge.contracts.errors import Conflict, ForgeError, ImagesMissing, NotFound
from dreamforge.contracts.events import (
    TERMINAL_EVENTS,
    ArtifactStored,
    CancelRequested,
    Decision,
    FailureReason,
    JobEvent,
    JobSucceeded,
    JobWarned,
    StepProgressed,
    WarningCode,
)
from dreamforge.contracts.jobs.course import Status
from dreamforge.contracts.jobs.decisions import (
    AssignJob,
    Command,
    ConfirmCancel,
    Expire,
    FailAttempt,
    FinishAttempt,
    RequestCancel,
    RequestJob,
    StartAttempt,
    StoreImages,
    WarnAttempt,
    decide,
)
from dreamforge.contracts.jobs.owner import ChangePriority, HoldJob, ReleaseJob, overdue
from dreamforge.contracts.jobs.retry_policy import RetryPolicy
from dreamforge.contracts.jobs.state import INITIAL, JobState, UnknownEvent, evolve
from dreamforge.contracts.request.render_request import Deadlines, RenderRequest

T0 = datetime(2026, 11, 23, tzinfo=UTC)
REQUEST = RenderRequest(
    model_id="m",
    preset="p",
    prompt="a red circle",
    width_px=64,
    height_px=64,
    steps=4,
    guidance_scale=1,
    seed=1,
    images=2,
)
OTHER = REQUEST.model_copy(update={"prompt": "a blue square"})
DECISION = Decision(waited_seconds=0, effective_priority=5, queue_length=1, required_bytes=1, candidates=())


def warning(attempt: int, now: datetime) -> JobWarned:
    return JobWarned(at=now, attempt=attempt, code=WarningCode.PROMPT_CUT, message="cut")


def artifact(attempt: int, now: datetime, index: int = 0) -> ArtifactStored:
    return ArtifactStored(
        at=now,
        attempt=attempt,
        index=index,
        sha256=f"{attempt * 16 + index:064x}",
        size_bytes=1,
        content_type="image/png",
        width_px=64,
        height_px=64,
        seed=1,
        recipe={"seed": 1},
    )


def artifacts(attempt: int, now: datetime, indexes: set[int]) -> tuple[ArtifactStored, ...]:
    return tuple(artifact(attempt, now, index) for index in sorted(indexes))


times = st.integers(0, 10_000).map(lambda seconds: T0 + timedelta(seconds=seconds))
attempts = st.integers(1, 5)
indexes = st.sets(st.integers(0, REQUEST.images - 1))
runners = st.sampled_from(["r1", "r2"])
instances = st.sampled_from(["i1", "i2"])
policies = st.builds(RetryPolicy, max_attempts=st.integers(1, 4))
commands: st.SearchStrategy[Command] = st.one_of(
    st.builds(
        RequestJob,
        job_id=st.just("J"),
        now=times,
        tenant=st.just("t"),
        priority=st.integers(0, 9),
        request=st.sampled_from([REQUEST, OTHER]),
        deadlines=st.sampled_from([None, Deadlines(start_within_seconds=50.0, run_within_seconds=5.0)]),
    ),
    st.builds(
        AssignJob,
        now=times,
        attempt=attempts,
        runner_id=runners,
        instance_id=instances,
        estimated_vram_bytes=st.just(1),
        decision=st.just(DECISION),
    ),
    st.builds(StartAttempt, now=times, attempt=attempts, runner_id=runners, instance_id=instances),
    st.builds(lambda now, n: WarnAttempt(now, n, (warning(n, now),)), times, attempts),
    st.builds(lambda now, n, which: StoreImages(now, n, artifacts(n, now, which)), times, attempts, indexes),
    st.builds(lambda now, n, which: FinishAttempt(now, n, artifacts(n, now, which), 1.0), times, attempts, indexes),
    st.builds(
        FailAttempt,
        now=times,
        attempt=attempts,
        reason=st.sampled_from(FailureReason),
        retryable=st.booleans(),
        message=st.just("because"),
        policy=policies,
    ),
    st.builds(RequestCancel, now=times),
    st.builds(Expire, now=times),
    st.builds(ConfirmCancel, now=times, attempt=attempts),
    st.builds(HoldJob, now=times),
    st.builds(ReleaseJob, now=times),
    st.builds(ChangePriority, now=times, priority=st.integers(0, 9)),
)


def step(state: JobState, command: Command) -> tuple[JobState, tuple[JobEvent, ...]]:
    try:
        events = decide(state, command)
    except (Conflict, NotFound):
        return state, ()
    for event in events:
        state = evolve(state, event)
    return state, events


@given(st.lists(commands, max_size=40))
@settings(max_examples=500)
def test_decide_is_total_and_every_decided_event_evolves(history: list[Command]) -> None:
    state = INITIAL
    for command in history:
        state, events = step(state, command)
        assert not events or state.status is not Status.NONE


@given(st.lists(commands, max_size=60))
@settings(max_examples=500)
def test_a_job_has_at_most_one_terminal_event(history: list[Command]) -> None:
    state, terminal = INITIAL, 0
    for command in history:
        state, events = step(state, command)
        terminal += sum(isinstance(event, TERMINAL_EVENTS) for event in events)
    assert terminal == (1 if state.terminal else 0)


@given(st.lists(commands, max_size=60), st.lists(commands, max_size=10))
def test_terminal_states_absorb(history: list[Command], later: list[Command]) -> None:
    state = INITIAL
    for command in history:
        state, _ = step(state, command)
    if not state.terminal:
        return
    for command in later:
        after, events = step(state, command)
        assert after == state
        assert events == ()


@given(st.lists(commands, max_size=60))
def test_attempts_count_up_by_one_and_never_repeat(history: list[Command]) -> None:
    state, assigned = INITIAL, []
    for command in history:
        state, events = step(state, command)
        assigned += [event.attempt for event in events if event.TOKEN == "assigned"]
    assert assigned == list(range(1, len(assigned) + 1))


@given(st.lists(commands, max_size=60))
def test_a_cancel_that_came_before_the_finish_wins(history: list[Command]) -> None:
    state, asked = INITIAL, False
    for command in history:
        state, events = step(state, command)
        assert not (asked and any(isinstance(event, JobSucceeded) for event in events))
        asked = asked or any(isinstance(event, CancelRequested) for event in events)


@given(st.lists(commands, max_size=60))
def test_only_the_runner_of_the_current_attempt_can_finish(history: list[Command]) -> None:
    state = INITIAL
    for command in history:
        before = state
        state, events = step(state, command)
        for event in events:
            if isinstance(event, JobSucceeded):
                assert event.attempt == before.attempt
                assert before.status is Status.RUNNING


@given(st.lists(commands, max_size=60))
@settings(max_examples=300)
def test_a_stored_image_stays_and_no_index_is_stored_twice(history: list[Command]) -> None:
    state, stored = INITIAL, dict[int, str]()
    for command in history:
        state, events = step(state, command)
        for event in events:
            if isinstance(event, ArtifactStored):
                assert event.index not in stored
                stored[event.index] = event.sha256
        assert {each.index: each.sha256 for each in state.artifacts} == stored


@given(st.lists(commands, max_size=60))
@settings(max_examples=300)
def test_a_job_succeeds_with_each_of_its_images_once_whichever_attempts_stored_them(history: list[Command]) -> None:
    state = INITIAL
    for command in history:
        state, events = step(state, command)
        for event in events:
            if isinstance(event, JobSucceeded):
                assert state.missing_images == ()
                assert event.artifacts == tuple(each.sha256 for each in state.artifacts)
                assert [each.index for each in state.artifacts] == list(range(REQUEST.images))


def running(attempt: int = 1, state: JobState = INITIAL) -> JobState:
    if state is INITIAL:
        state, _ = step(state, RequestJob("J", T0, "t", 5, REQUEST))
    state, _ = step(state, AssignJob(T0, attempt, "r1", "i1", 0, DECISION))
    state, _ = step(state, StartAttempt(T0, attempt, "r1", "i1"))
    assert state.status is Status.RUNNING
    return state


def test_an_attempt_after_a_lost_one_has_only_the_missing_images_to_render() -> None:
    state, _ = step(running(), StoreImages(T0, 1, artifacts(1, T0, {1})))
    state, _ = step(state, FailAttempt(T0, 1, FailureReason.RUNNER_LOST, True, "silent", RetryPolicy()))
    state = running(2, state)
    assert state.missing_images == (0,)
    with pytest.raises(ImagesMissing):
        decide(state, FinishAttempt(T0, 2, (), 1.0))
    state, events = step(state, FinishAttempt(T0, 2, artifacts(2, T0, {0, 1}), 1.0))
    assert [type(event).__name__ for event in events] == ["ArtifactStored", "JobSucceeded"]
    assert [(each.index, each.attempt) for each in state.artifacts] == [(0, 2), (1, 1)]


@pytest.mark.parametrize("end", ["cancel", "fail", "expire"])
def test_a_job_that_ends_without_success_keeps_what_it_has_stored(end: str) -> None:
    state, _ = step(INITIAL, RequestJob("J", T0, "t", 5, REQUEST, deadlines=Deadlines(run_within_seconds=1.0)))
    state, _ = step(running(1, state), StoreImages(T0, 1, artifacts(1, T0, {0})))
    ends: dict[str, tuple[Command, ...]] = {
        "cancel": (RequestCancel(T0), ConfirmCancel(T0, 1)),
        "fail": (FailAttempt(T0, 1, FailureReason.OUT_OF_MEMORY, False, "m", RetryPolicy()),),
        "expire": (Expire(T0 + timedelta(seconds=2)),),
    }
    for command in ends[end]:
        state, _ = step(state, command)
    assert state.terminal
    assert [each.index for each in state.artifacts] == [0]


def test_an_image_that_is_finished_after_a_cancel_request_is_kept_too() -> None:
    state, _ = step(running(), RequestCancel(T0))
    state, _ = step(state, StoreImages(T0, 1, artifacts(1, T0, {0})))
    state, events = step(state, FinishAttempt(T0, 1, artifacts(1, T0, {1}), 1.0))
    assert [type(event).__name__ for event in events] == ["ArtifactStored", "JobCancelled"]
    assert [each.index for each in state.artifacts] == [0, 1]


def test_in_a_log_of_an_older_version_the_image_of_the_later_attempt_counts() -> None:
    state = evolve(running(), artifact(1, T0))
    state, _ = step(state, FailAttempt(T0, 1, FailureReason.RUNNER_LOST, True, "silent", RetryPolicy()))
    state = evolve(running(2, state), artifact(2, T0))
    assert [(each.index, each.attempt) for each in state.artifacts] == [(0, 2)]


def test_warnings_of_a_stored_image_outlive_its_attempt_and_others_do_not() -> None:
    def about(index: int | None) -> JobWarned:
        return JobWarned(at=T0, attempt=1, code=WarningCode.IMAGE_BLACK, message="m", image_index=index)

    state, _ = step(running(), WarnAttempt(T0, 1, (about(None), about(0), about(1))))
    state, _ = step(state, StoreImages(T0, 1, artifacts(1, T0, {0})))
    state, _ = step(state, FailAttempt(T0, 1, FailureReason.RUNNER_LOST, True, "silent", RetryPolicy()))
    assert [each.image_index for each in running(2, state).warnings] == [0]


@given(commands, st.lists(commands, max_size=20))
def test_deciding_twice_on_what_was_decided_adds_nothing_or_conflicts(command: Command, before: list[Command]) -> None:
    state = INITIAL
    for earlier in before:
        state, _ = step(state, earlier)
    after, events = step(state, command)
    if events:
        again, repeated = step(after, command)
        assert (again, repeated) == (after, ())


def test_an_unknown_event_raises() -> None:
    progress = StepProgressed(
        at=T0, attempt=1, image_index=0, images=1, step=1, steps=2, elapsed_seconds=0, eta_seconds=0
    )
    with pytest.raises(UnknownEvent):
        evolve(INITIAL, progress)
    with pytest.raises(UnknownEvent):
        evolve(JobState(status=Status.SUCCEEDED), progress)


@given(st.integers(1, 100))
def test_backoff_grows_and_is_capped(attempt: int) -> None:
    policy = RetryPolicy(base_seconds=1.0, cap_seconds=60.0)
    assert policy.delay(attempt) <= policy.delay(attempt + 1) <= timedelta(seconds=60)


@given(st.lists(commands, max_size=40), times)
def test_an_expired_job_is_over_and_one_in_time_goes_on(history: list[Command], now: datetime) -> None:
    state = INITIAL
    for command in history:
        state, _ = step(state, command)
    missed = overdue(state, now)
    after, events = step(state, Expire(now))
    assert after.terminal if missed else (after, events) == (state, ())


@given(st.lists(commands, max_size=60))
@settings(max_examples=300)
def test_a_held_job_is_never_assigned_and_what_runs_goes_on(history: list[Command]) -> None:
    state = INITIAL
    for command in history:
        before = state
        state, events = step(state, command)
        if before.held_since is not None:
            assert not any(event.TOKEN == "assigned" for event in events)
        if isinstance(command, HoldJob | ReleaseJob):
            assert (state.status, state.attempt, state.runner_id) == (before.status, before.attempt, before.runner_id)


@given(st.lists(commands, max_size=40), times)
def test_holding_loses_nothing(history: list[Command], now: datetime) -> None:
    state = INITIAL
    for command in history:
        state, _ = step(state, command)
    if state.terminal or state.held_since is not None:
        return
    held, _ = step(state, HoldJob(now))
    released, _ = step(held, ReleaseJob(now))
    assert released == replace(state, holds=released.holds)


class RacingWriters(RuleBasedStateMachine):
    """Writers that decide on what they last read, and a log that takes an append only at its own version."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[JobEvent] = []
        self.read: dict[str, tuple[JobState, int]] = dict.fromkeys(("gateway", "scheduler", "runner"), (INITIAL, 0))

    @rule(who=st.sampled_from(["gateway", "scheduler", "runner"]))
    def reads(self, who: str) -> None:
        state = INITIAL
        for event in self.log:
            state = evolve(state, event)
        self.read[who] = (state, len(self.log))

    @rule(who=st.sampled_from(["gateway", "scheduler", "runner"]), command=commands)
    def decides(self, who: str, command: Command) -> None:
        state, version = self.read[who]
        try:
            events = decide(state, command)
        except ForgeError:
            return
        if version == len(self.log):
            self.log.extend(events)

    @invariant()
    def one_terminal_event_and_it_is_last(self) -> None:
        terminal = [index for index, event in enumerate(self.log) if isinstance(event, TERMINAL_EVENTS)]
        assert terminal in ([], [len(self.log) - 1])

    @invariant()
    def every_event_of_a_job_has_a_subject_of_its_own(self) -> None:
        from dreamforge.contracts.log.subjects import subject_of

        subjects = [subject_of(event, "J") for event in self.log]
        assert len(subjects) == len(set(subjects))


RacingWriters.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestRacingWriters = RacingWriters.TestCase
