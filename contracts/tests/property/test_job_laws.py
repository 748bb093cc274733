"""The laws of decide / evolve, driven with random commands in random order."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from dreamforge.contracts.errors import Conflict, ForgeError, NotFound
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
    WarnAttempt,
    decide,
)
from dreamforge.contracts.jobs.owner import ChangePriority, HoldJob, ReleaseJob, overdue
from dreamforge.contracts.jobs.retry_policy import RetryPolicy
from dreamforge.contracts.jobs.state import INITIAL, JobState, UnknownEvent, evolve
from dreamforge.contracts.request.render_request import Deadlines, RenderRequest

T0 = datetime(2026, 11, 23, tzinfo=UTC)
REQUEST = RenderRequest(
    model_id="m", preset="p", prompt="a red circle", width_px=64, height_px=64, steps=4, guidance_scale=1, seed=1
)
OTHER = REQUEST.model_copy(update={"prompt": "a blue square"})
DECISION = Decision(waited_seconds=0, effective_priority=5, queue_length=1, required_bytes=1, candidates=())


def warning(attempt: int, now: datetime) -> JobWarned:
    return JobWarned(at=now, attempt=attempt, code=WarningCode.PROMPT_CUT, message="cut")


def artifact(attempt: int, now: datetime) -> ArtifactStored:
    return ArtifactStored(
        at=now,
        attempt=attempt,
        index=0,
        sha256="a" * 64,
        object_key="images/aa",
        size_bytes=1,
        content_type="image/png",
        width_px=64,
        height_px=64,
        seed=1,
        recipe={"seed": 1},
    )


times = st.integers(0, 10_000).map(lambda seconds: T0 + timedelta(seconds=seconds))
attempts = st.integers(1, 5)
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
    st.builds(lambda now, n: FinishAttempt(now, n, (artifact(n, now),), 1.0), times, attempts),
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
