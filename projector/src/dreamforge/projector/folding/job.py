"""One job as its rows hold it, folded event by event with what the shared fold says of each."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

from pydantic_core import to_json

from dreamforge.contracts.events import (
    AttemptFailed,
    JobArchived,
    JobAssigned,
    JobCancelled,
    JobEvent,
    JobFailed,
    JobRequested,
    JobStarted,
    JobSucceeded,
)
from dreamforge.contracts.jobs.course import copied, overwrite
from dreamforge.contracts.jobs.state import INITIAL, JobState, changes_of

OPEN_ATTEMPT = ("assigned", "running")


@dataclass(slots=True)
class AttemptRow:
    """A row of `attempts`, without its job's id."""

    attempt: int
    runner_id: str
    instance_id: str
    status: str
    estimated_vram_bytes: int
    decision_json: str
    assigned_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    reason: str | None = None
    message: str | None = None
    retryable: bool | None = None


@dataclass(slots=True)
class JobRow:
    """A row of `jobs` with the row of its current attempt: all that the next event can change.

    What `state` has is not repeated here, except the request, which is kept as JSON: the fold does not read it. The
    state is this row's own: its fields are overwritten by each event.
    """

    job_id: str
    version: int = 0
    state: JobState = field(default_factory=lambda: copied(INITIAL))
    model_id: str = ""
    preset: str = ""
    request_json: str = ""
    idempotency_key: str | None = None
    failure_message: str | None = None
    assigned_at: datetime | None = None
    finished_at: datetime | None = None
    render_seconds: float | None = None
    batch_id: str | None = None
    batch_index: int | None = None
    batch_values_json: str | None = None
    workflow_json: str | None = None
    archived_at: datetime | None = None
    current: AttemptRow | None = None

    def working_copy(self) -> Self:
        """A copy that can be folded further without changing this one."""
        made = copied(self)
        made.state = copied(self.state)
        made.current = copied(self.current) if self.current is not None else None
        return made

    def apply(self, event: JobEvent, sequence: int) -> None:
        """Fold one more event, which is not refused (see `contracts.jobs.refusal`)."""
        state = self.state
        self.version, was_over = sequence, state.terminal
        overwrite(state, changes_of(state, event))
        if was_over:
            if isinstance(event, JobArchived):
                self.archived_at = event.at
            return
        if (change := _CHANGES.get(type(event))) is not None:
            change(self, event)
        if state.terminal:
            self.finished_at = event.at

    def end_attempt(self, status: str, event: JobEvent, reason: str | None = None, message: str | None = None) -> None:
        """End the current attempt, unless it has ended before."""
        current = self.current
        if current is not None and current.status in OPEN_ATTEMPT:
            current.status, current.ended_at, current.reason, current.message = status, event.at, reason, message


def _requested(job: JobRow, event: JobRequested) -> None:
    job.request_json = event.request.model_dump_json()
    job.model_id, job.preset = event.request.model_id, event.request.preset
    job.idempotency_key = event.idempotency_key
    if event.batch is not None:
        job.batch_id, job.batch_index = event.batch.batch_id, event.batch.index
        job.batch_values_json = to_json(event.batch.chosen).decode()
    if event.workflow is not None:
        job.workflow_json = event.workflow.model_dump_json()


def _assigned(job: JobRow, event: JobAssigned) -> None:
    job.assigned_at = event.at
    job.current = AttemptRow(
        attempt=event.attempt,
        runner_id=event.runner_id,
        instance_id=event.instance_id,
        status="assigned",
        estimated_vram_bytes=event.estimated_vram_bytes,
        decision_json=event.decision.model_dump_json(),
        assigned_at=event.at,
    )


def _started(job: JobRow, event: JobStarted) -> None:
    if job.current is not None and job.current.status == "assigned":
        job.current.status, job.current.started_at = "running", event.at


def _attempt_failed(job: JobRow, event: AttemptFailed) -> None:
    job.failure_message = event.message
    if job.current is not None and job.current.status in OPEN_ATTEMPT:
        job.current.retryable = event.retryable
    job.end_attempt("failed", event, event.reason.value, event.message)


def _succeeded(job: JobRow, event: JobSucceeded) -> None:
    job.render_seconds = event.render_seconds
    job.end_attempt("succeeded", event)


def _failed(job: JobRow, event: JobFailed) -> None:
    job.failure_message = event.message
    job.end_attempt("failed", event, event.reason.value, event.message)


def _cancelled(job: JobRow, event: JobCancelled) -> None:
    job.end_attempt("cancelled", event)


# Any: each function takes the event class that is its key. Classes without a function change `state` only.
_CHANGES: dict[type[JobEvent], Callable[[JobRow, Any], None]] = {
    JobRequested: _requested,
    JobAssigned: _assigned,
    JobStarted: _started,
    AttemptFailed: _attempt_failed,
    JobSucceeded: _succeeded,
    JobFailed: _failed,
    JobCancelled: _cancelled,
}
