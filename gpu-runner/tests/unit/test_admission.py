"""What may be started here: only a current attempt, of this very instance, that this runner can paint."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamforge.contracts.events import Decision, FailureReason, JobAssigned
from dreamforge.contracts.jobs.course import Status
from dreamforge.contracts.jobs.state import JobState
from dreamforge.contracts.request.render_request import RenderRequest
from dreamforge.gpu_runner.supervisor.admission import Drop, Refuse, RunnerIdentity, Start, admit, is_running_here

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ME = RunnerIdentity("gpu-1", "this-life", frozenset({"tiny"}))
REQUEST = RenderRequest(
    model_id="tiny", preset="p", prompt="x", width_px=64, height_px=64, steps=1, guidance_scale=1, seed=1
)
ASSIGNED = JobAssigned(
    at=NOW,
    attempt=2,
    runner_id="gpu-1",
    instance_id="this-life",
    preset="p",
    estimated_vram_bytes=0,
    decision=Decision(waited_seconds=0, effective_priority=5, queue_length=0, required_bytes=0, candidates=()),
)
STATE = JobState(status=Status.ASSIGNED, request=REQUEST, attempt=2, runner_id="gpu-1", instance_id="this-life")


def test_a_current_assignment_is_started() -> None:
    assert admit(STATE, ASSIGNED, ME) == Start(REQUEST)


@pytest.mark.parametrize(
    ("state", "assigned", "me", "reason"),
    [
        (STATE, ASSIGNED, replace(ME, draining=True), FailureReason.RUNNER_DRAINED),
        (STATE, ASSIGNED, replace(ME, model_ids=frozenset()), FailureReason.MODEL_MISSING),
        (STATE, ASSIGNED.model_copy(update={"instance_id": "past"}), ME, FailureReason.RUNNER_RESTARTED),
        (replace(STATE, status=Status.RUNNING), ASSIGNED, ME, FailureReason.INTERNAL),
    ],
)
def test_what_cannot_be_done_here_is_handed_back(
    state: JobState, assigned: JobAssigned, me: RunnerIdentity, reason: FailureReason
) -> None:
    verdict = admit(state, assigned, me)
    assert isinstance(verdict, Refuse)
    assert (verdict.reason, verdict.retryable) == (reason, True)


@given(
    st.sampled_from(Status),
    st.integers(0, 4),
    st.sampled_from(["", "gpu-1", "gpu-2"]),
    st.sampled_from(["this-life", "past"]),
    st.booleans(),
)
def test_every_state_has_an_answer_and_a_past_attempt_is_never_started(
    status: Status, attempt: int, runner_id: str, instance_id: str, draining: bool
) -> None:
    state = replace(STATE, status=status, attempt=attempt, runner_id=runner_id, instance_id=instance_id)
    verdict = admit(state, ASSIGNED, replace(ME, draining=draining))
    current = attempt == 2 and runner_id == "gpu-1" and status in (Status.ASSIGNED, Status.RUNNING)
    assert isinstance(verdict, Drop) is not current
    if isinstance(verdict, Start):
        assert status is Status.ASSIGNED
        assert not draining


def test_a_start_whose_ack_was_lost_is_recognised() -> None:
    running = replace(STATE, status=Status.RUNNING)
    assert is_running_here(running, 2, ME)
    assert not is_running_here(running, 3, ME)
    assert not is_running_here(running, 2, replace(ME, instance_id="another"))
    assert not is_running_here(STATE, 2, ME)
