"""Decides whether an assignment may be started here. Pure: the job as the log has it, the assignment, the runner."""

from dataclasses import dataclass

from dreamforge.contracts.events import FailureReason, JobAssigned
from dreamforge.contracts.jobs.course import Status
from dreamforge.contracts.jobs.state import JobState
from dreamforge.contracts.request.render_request import RenderRequest


@dataclass(frozen=True, slots=True)
class RunnerIdentity:
    """Which runner this is, as far as admission is concerned."""

    runner_id: str
    #: A new one for each start of the process: an older instance's attempts died with it.
    instance_id: str
    model_ids: frozenset[str]
    draining: bool = False


@dataclass(frozen=True, slots=True)
class Start:
    """Append JobStarted and render."""

    request: RenderRequest


@dataclass(frozen=True, slots=True)
class Refuse:
    """The attempt is this runner's and cannot be done here: fail it, so that another may follow at once."""

    reason: FailureReason
    message: str
    retryable: bool = True


@dataclass(frozen=True, slots=True)
class Drop:
    """The log has moved past this attempt: nothing to do but acknowledge."""

    why: str


Verdict = Start | Refuse | Drop


def admit(state: JobState, assigned: JobAssigned, identity: RunnerIdentity) -> Verdict:
    """What to do with an assignment, decided on the job's present state. Total: every state has an answer."""
    if state.attempt != assigned.attempt or state.status not in (Status.ASSIGNED, Status.RUNNING):
        return Drop(f"the job is {state.status} at attempt {state.attempt}")
    if (state.runner_id, assigned.runner_id) != (identity.runner_id, identity.runner_id):
        return Drop(f"attempt {state.attempt} belongs to runner {state.runner_id}")
    if assigned.instance_id != identity.instance_id:
        return Refuse(FailureReason.RUNNER_RESTARTED, "it was given to this runner before its last restart")
    if state.status is Status.RUNNING:
        # It was started by this process, is delivered again, and no attempt runs it: its task was lost.
        return Refuse(FailureReason.INTERNAL, "the runner lost the task of this attempt")
    return _capable(state, identity)


def _capable(state: JobState, identity: RunnerIdentity) -> Verdict:
    if identity.draining:
        return Refuse(FailureReason.RUNNER_DRAINED, "the runner is stopping")
    if state.request is None:
        return Refuse(FailureReason.INTERNAL, "the log has no request for this job", retryable=False)
    for model_id in (state.request.model_id, *state.request.assets):
        if model_id not in identity.model_ids:
            return Refuse(FailureReason.MODEL_MISSING, f"this runner does not have model {model_id!r}")
    return Start(state.request)


def is_running_here(state: JobState, attempt: int, identity: RunnerIdentity) -> bool:
    """True if the log already shows our own start of this attempt: an append whose ack was lost."""
    ours = (state.runner_id, state.instance_id) == (identity.runner_id, identity.instance_id)
    return state.status is Status.RUNNING and state.attempt == attempt and ours
