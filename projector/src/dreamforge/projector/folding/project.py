"""Events in, row changes out. Pure: the same events give the same rows, however they are cut into batches."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from pydantic_core import to_json

from dreamforge.contracts.events import ArtifactErased, ArtifactStored, JobErased, JobEvent, JobRequested
from dreamforge.contracts.jobs.refusal import refusal
from dreamforge.contracts.log.envelope import Recorded
from dreamforge.contracts.request.batch import BatchPlace
from dreamforge.projector.folding.job import AttemptRow, JobRow

Row = tuple[object, ...]


class Entry(NamedTuple):
    """An event with its payload as JSON text, as the log holds it."""

    recorded: Recorded
    payload: str


@dataclass(frozen=True, slots=True)
class Refused:
    """An event that can be read but not folded, and why."""

    sequence: int
    reason: str


@dataclass(slots=True)
class JobChanges:
    """What a batch changes: the newest version of every row, each once."""

    jobs: dict[str, JobRow] = field(default_factory=dict)
    attempts: dict[tuple[str, int], AttemptRow] = field(default_factory=dict)
    artifacts: dict[tuple[str, int, int], ArtifactStored] = field(default_factory=dict)
    batches: dict[str, Row] = field(default_factory=dict)
    inputs: list[Row] = field(default_factory=list)
    stored_by_retries: dict[str, None] = field(default_factory=dict)
    erased: dict[str, int] = field(default_factory=dict)
    """Jobs that were erased, and the sequence of that."""
    deleted: list[str] = field(default_factory=list)
    """Those of them that have rows: all of these are deleted before others are written."""
    erased_artifacts: dict[tuple[str, int], None] = field(default_factory=dict)
    """Job and index of images that were erased."""
    ended: list[str] = field(default_factory=list)
    events: list[Row] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)

    def erase(self, job_id: str, sequence: int) -> None:
        """Forget what the batch has of a job."""
        self.jobs.pop(job_id, None)
        self.stored_by_retries.pop(job_id, None)
        for kept in (self.attempts, self.artifacts, self.erased_artifacts):
            for key in [key for key in kept if key[0] == job_id]:
                del kept[key]  # type: ignore[arg-type]  # each key is one of its own
        self.batches = {batch_id: row for batch_id, row in self.batches.items() if row[1] != job_id}
        self.inputs = [row for row in self.inputs if row[0] != job_id]
        self.events = [row for row in self.events if row[1] != job_id]
        self.erased[job_id] = sequence

    def stored_bytes(self) -> dict[str, int]:
        """Bytes of the images that the batch adds, by tenant; what it hides or removes is not taken off."""
        found: dict[str, int] = {}
        for (job_id, _, _), event in self.artifacts.items():
            tenant = self.jobs[job_id].state.tenant
            found[tenant] = found.get(tenant, 0) + event.size_bytes
        return found

    def job_rows(self) -> list[Row]:
        return [job_row(job) for job in self.jobs.values()]

    def attempt_rows(self) -> list[Row]:
        return [attempt_row(job_id, attempt) for (job_id, _), attempt in self.attempts.items()]

    def artifact_rows(self) -> list[Row]:
        """All visible; an image that a later attempt has replaced is hidden afterwards (`stored_by_retries`)."""
        return [artifact_row(job_id, event) for (job_id, _, _), event in self.artifacts.items()]


def project_jobs(jobs: Mapping[str, JobRow], entries: Iterable[Entry]) -> JobChanges:
    """Fold events of JOBS, in stream order, over the current jobs (absent: no such job yet).

    Events at or before a job's version change nothing, and neither do those that every fold refuses: forged ones, or
    those of a job whose request was parked. `JobErased` needs no request before it: the log may not have it any more;
    of an erased job only that event has a row.
    """
    changes = JobChanges()
    for entry in entries:
        recorded, event = entry.recorded, entry.recorded.event
        assert isinstance(event, JobEvent)
        if recorded.sequence <= changes.erased.get(recorded.entity_id, 0):
            continue
        job = changes.jobs.get(recorded.entity_id) or _working_copy(jobs, recorded.entity_id)
        if recorded.entity_id in changes.erased:
            changes.refused.append(Refused(recorded.sequence, f"{event.TYPE} is refused: the job was erased"))
        elif recorded.sequence <= job.version:
            continue
        elif (reason := refusal(job.state, event)) is not None:
            changes.refused.append(Refused(recorded.sequence, f"{event.TYPE} is refused: {reason}"))
        elif isinstance(event, JobErased):
            changes.erase(recorded.entity_id, recorded.sequence)
            changes.deleted += [recorded.entity_id] if recorded.entity_id in jobs else []
            changes.events.append(event_row(recorded, event, entry.payload))
        else:
            changes.jobs[job.job_id] = job
            changes.events.append(event_row(recorded, event, entry.payload))
            job.apply(event, recorded.sequence)
            _collect(changes, job, event)
            if isinstance(event, JobRequested) and event.batch is not None and event.batch.batch is not None:
                changes.batches[event.batch.batch_id] = batch_row(job.job_id, recorded.sequence, event, event.batch)
    return changes


def _working_copy(jobs: Mapping[str, JobRow], job_id: str) -> JobRow:
    known = jobs.get(job_id)
    return JobRow(job_id) if known is None else known.working_copy()


def _collect(changes: JobChanges, job: JobRow, event: JobEvent) -> None:
    if job.current is not None:
        changes.attempts[job.job_id, job.current.attempt] = job.current
    if isinstance(event, JobRequested):
        changes.inputs += [(job.job_id, sha256) for sha256 in event.request.uploads]
    if isinstance(event, ArtifactErased):
        changes.erased_artifacts[job.job_id, event.index] = None
        for key in [key for key in changes.artifacts if (key[0], key[2]) == (job.job_id, event.index)]:
            del changes.artifacts[key]
    if isinstance(event, ArtifactStored):
        changes.artifacts[job.job_id, event.attempt, event.index] = event
        if job.state.attempt > 1:
            changes.stored_by_retries[job.job_id] = None
    if job.state.terminal:
        changes.ended.append(job.job_id)


def event_row(recorded: Recorded, event: JobEvent, payload: str) -> Row:
    """A row of `events`."""
    return (
        recorded.sequence,
        recorded.entity_id,
        event.attempt,
        event.TYPE,
        recorded.event_id,
        recorded.source,
        event.at,
        payload,
    )


def job_row(job: JobRow) -> Row:
    """A row of `jobs`."""
    state = job.state
    return (
        job.job_id,
        job.version,
        state.tenant,
        state.status.value,
        state.priority,
        job.model_id,
        job.preset,
        job.request_json,
        job.idempotency_key,
        state.attempt,
        state.runner_id or None,
        state.cancel_requested,
        state.failure.value if state.failure else None,
        job.failure_message,
        state.retry_at,
        state.requested_at,
        job.assigned_at,
        state.started_at,
        job.finished_at,
        job.render_seconds,
        state.held_since,
        job.batch_id,
        job.batch_index,
        job.batch_values_json,
        job.workflow_json,
        state.erase_at,
        job.archived_at,
    )


def batch_row(job_id: str, sequence: int, event: JobRequested, place: BatchPlace) -> Row:
    """A row of `batches`, from the request of its first job."""
    template = place.batch.model_dump_json() if place.batch is not None else "{}"
    return (place.batch_id, job_id, sequence, event.tenant, place.jobs, template, event.at)


def attempt_row(job_id: str, attempt: AttemptRow) -> Row:
    """A row of `attempts`."""
    return (
        job_id,
        attempt.attempt,
        attempt.runner_id,
        attempt.instance_id,
        attempt.status,
        attempt.estimated_vram_bytes,
        attempt.decision_json,
        attempt.assigned_at,
        attempt.started_at,
        attempt.ended_at,
        attempt.reason,
        attempt.message,
        attempt.retryable,
    )


def artifact_row(job_id: str, event: ArtifactStored) -> Row:
    """A row of `artifacts`."""
    return (
        f"{job_id}-{event.attempt}-{event.index}",
        job_id,
        event.attempt,
        event.index,
        True,
        event.sha256,
        event.object_key,
        event.size_bytes,
        event.content_type,
        event.width_px,
        event.height_px,
        event.seed,
        to_json(event.recipe).decode(),
        event.at,
    )
