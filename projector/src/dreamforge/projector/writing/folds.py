"""How each stream becomes rows: which rows to read first, what to fold, which rows to write."""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from typing import Any, Protocol

from psycopg.rows import dict_row

from dreamforge.contracts.events import FailureReason, StepProgressed
from dreamforge.contracts.jobs.course import Status
from dreamforge.contracts.jobs.refusal import step_refusal
from dreamforge.contracts.jobs.state import JobState
from dreamforge.contracts.log import streams
from dreamforge.projector.folding.fleet import ModelRow, RunnerRow, project_models, project_runners
from dreamforge.projector.folding.job import AttemptRow, JobRow
from dreamforge.projector.folding.project import Entry, JobChanges, Refused, Row, project_jobs
from dreamforge.projector.writing import statements
from dreamforge.projector.writing.jobs_cache import JobsCache
from dreamforge.projector.writing.session import COPY_FROM_ROWS, Cursor, copy_rows, upsert_rows
from dreamforge.runtime.storage.postgres import Connection


def _nothing() -> None:
    return None


def _always() -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Folded:
    """A batch, folded and not yet written. `committed` must be called once it is.

    `fits`: whether the tables still are what it was folded over; if not, it must be folded again.
    """

    write: Callable[[Cursor], Awaitable[None]]
    refused: Sequence[Refused] = ()
    committed: Callable[[], None] = _nothing
    fits: Callable[[], bool] = _always


class Fold(Protocol):
    """How the events of one stream become rows."""

    stream: str

    async def fold(self, connection: Connection, entries: Sequence[Entry]) -> Folded:
        """Read the rows concerned and fold the entries over them; writes nothing."""
        ...


class JobsFold:
    """JOBS: jobs, attempts, artifacts, events."""

    stream = streams.JOBS.name

    def __init__(self) -> None:
        self._cache = JobsCache()
        self._newest = JobChanges()  # that is committed

    async def fold(self, connection: Connection, entries: Sequence[Entry]) -> Folded:
        over = self._newest
        changes = project_jobs(await self._jobs(connection, entries), entries)

        async def write(cursor: Cursor) -> None:
            await write_jobs(cursor, changes)

        return Folded(write, changes.refused, lambda: self._committed(changes), lambda: self._newest is over)

    def _committed(self, changes: JobChanges) -> None:
        self._newest = changes
        self._cache.keep(changes.jobs, changes.erased)

    def refold(self, job_id: str, entries: Sequence[Entry]) -> Folded:
        """Fold one job from its beginning, ignoring its rows; `entries` are all of its events up to the checkpoint."""
        changes = project_jobs({}, entries)

        async def write(cursor: Cursor) -> None:
            gone = await _delete_jobs(cursor, [job_id])
            await _add_usage(cursor, Counter({tenant: -size_bytes for tenant, size_bytes in gone.items()}))
            await write_jobs(cursor, changes)

        return Folded(write, changes.refused, lambda: self._committed(changes))

    async def _jobs(self, connection: Connection, entries: Sequence[Entry]) -> dict[str, JobRow]:
        concerned = {entry.recorded.entity_id for entry in entries}
        jobs = self._cache.known(concerned)
        missing = list(concerned - jobs.keys())
        if missing:
            cursor = connection.cursor(row_factory=dict_row)
            await cursor.execute(statements.LOAD_JOBS, (missing,))
            jobs |= {job.job_id: job for job in map(job_of_row, await cursor.fetchall())}
        return jobs


async def write_jobs(cursor: Cursor, changes: JobChanges) -> None:
    """Write every row that a batch of job events changed."""
    if not changes.events:
        return
    usage = Counter(changes.stored_bytes())
    if changes.deleted:
        usage.subtract(await _delete_jobs(cursor, changes.deleted))
    if len(changes.events) < COPY_FROM_ROWS:
        await cursor.executemany(statements.INSERT_EVENT, changes.events)
    else:
        await copy_rows(cursor, statements.COPY_EVENTS, changes.events)
    await upsert_rows(cursor, statements.JOBS, changes.job_rows())
    await upsert_rows(cursor, statements.ATTEMPTS, changes.attempt_rows())
    await upsert_rows(cursor, statements.ARTIFACTS, changes.artifact_rows())
    await upsert_rows(cursor, statements.BATCHES, list(changes.batches.values()))
    await upsert_rows(cursor, statements.INPUTS, changes.inputs)
    if changes.stored_by_retries:
        usage.subtract(await _gone(cursor, statements.HIDE_REPLACED_ARTIFACTS, list(changes.stored_by_retries)))
    if changes.erased_artifacts:
        job_ids, indexes = zip(*changes.erased_artifacts, strict=True)
        usage.subtract(await _gone(cursor, statements.DELETE_ARTIFACTS, list(job_ids), list(indexes)))
    await _add_usage(cursor, usage)
    if changes.ended:
        await cursor.execute(statements.DELETE_STEPS, (changes.ended,))


async def _delete_jobs(cursor: Cursor, job_ids: list[str]) -> dict[str, int]:
    """Delete their rows; the bytes of their images, by tenant."""
    gone = await _gone(cursor, statements.DELETE_ALL_ARTIFACTS, job_ids)
    for statement in statements.DELETE_JOBS:
        await cursor.execute(statement, (job_ids,))
    return gone


async def _gone(cursor: Cursor, statement: bytes, *values: object) -> dict[str, int]:
    """What a statement has hidden or deleted, in bytes by tenant."""
    await cursor.execute(statement, values)
    return {str(tenant): int(str(size_bytes)) for tenant, size_bytes in await cursor.fetchall()}


async def _add_usage(cursor: Cursor, usage: Counter[str]) -> None:
    """Add what is stored more, or less, to the usage of each tenant."""
    # In order, so that of processes that fold ranges beside each other none waits for another in a circle.
    changed = {tenant: size_bytes for tenant, size_bytes in sorted(usage.items()) if size_bytes}
    if changed:
        await cursor.execute(statements.ADD_USAGE, (list(changed), list(changed.values())))
    if any(size_bytes < 0 for size_bytes in changed.values()):
        await cursor.execute(statements.FORGET_UNUSED, (list(changed),))


JOB_FIELDS = tuple(each.name for each in fields(JobRow) if each.name not in ("state", "current"))
ATTEMPT_FIELDS = tuple(each.name for each in fields(AttemptRow))


def job_of_row(row: Mapping[str, Any]) -> JobRow:  # Any: a row of LOAD_JOBS
    """The job whose `job_row` and `attempt_row` are this row."""
    state = JobState(
        status=Status(row["status"]),
        tenant=row["tenant"],
        priority=row["priority"],
        requested_at=row["requested_at"],
        attempt=row["attempt"],
        runner_id=row["runner_id"] or "",
        instance_id=row["current_instance_id"] if row["runner_id"] else "",
        assigned_to=row["current_runner_id"] or "",
        retry_at=row["retry_at"],
        cancel_requested=row["cancel_requested"],
        failure=FailureReason(row["failure_reason"]) if row["failure_reason"] else None,
        started_at=row["started_at"],
        held_since=row["held_since"],
        erase_at=row["erase_at"],
    )
    job = JobRow(state=state, **{name: row[name] for name in JOB_FIELDS})
    if row["current_attempt"] is not None:
        job.current = AttemptRow(**{name: row[f"current_{name}"] for name in ATTEMPT_FIELDS})
    return job


class StepsFold:
    """STEPS: the newest step of each unfinished job, of a runner that has its attempt.

    An attempt that the tables do not have yet is not forged: its steps are passed over, and the next one is shown.
    """

    stream = streams.STEPS.name

    async def fold(self, connection: Connection, entries: Sequence[Entry]) -> Folded:
        rows = await _load(connection, statements.LOAD_ASSIGNMENTS, entries)
        latest, refused = newest_steps({(row[0], row[1]): row[2] for row in rows}, entries)

        async def write(cursor: Cursor) -> None:
            await upsert_rows(cursor, statements.STEPS, [step_row(entry) for entry in latest.values()])

        return Folded(write, refused)


def newest_steps(
    runners: Mapping[tuple[str, int], str], entries: Sequence[Entry]
) -> tuple[dict[str, Entry], list[Refused]]:
    """The newest step of each job, and those that another runner wrote; `runners` by job and attempt."""
    latest: dict[str, Entry] = {}
    refused: list[Refused] = []
    for entry in entries:
        job_id, step = entry.recorded.entity_id, entry.recorded.event
        assert isinstance(step, StepProgressed)
        runner_id = runners.get((job_id, step.attempt))
        if (reason := step_refusal(runner_id, step)) is None:
            latest[job_id] = entry
        elif runner_id is not None:
            refused.append(Refused(entry.recorded.sequence, f"{step.TYPE} is refused: {reason}"))
    return latest, refused


def step_row(entry: Entry) -> Row:
    """A row of `steps`."""
    event = entry.recorded.event
    assert isinstance(event, StepProgressed)
    return (
        entry.recorded.entity_id,
        entry.recorded.sequence,
        event.attempt,
        event.image_index,
        event.images,
        event.step,
        event.steps,
        event.elapsed_seconds,
        event.eta_seconds,
        event.at,
    )


class RunnersFold:
    """FLEET: runners."""

    stream = streams.FLEET.name

    async def fold(self, connection: Connection, entries: Sequence[Entry]) -> Folded:
        rows = await _load(connection, statements.LOAD_RUNNERS, entries)
        before = {runner.runner_id: runner for runner in (RunnerRow(*row) for row in rows)}
        changed = project_runners(before, (entry.recorded for entry in entries))

        async def write(cursor: Cursor) -> None:
            await upsert_rows(cursor, statements.RUNNERS, [astuple(runner) for runner in changed.values()])

        return Folded(write)


class ModelsFold:
    """MODELS: models."""

    stream = streams.MODELS.name

    async def fold(self, connection: Connection, entries: Sequence[Entry]) -> Folded:
        rows = await _load(connection, statements.LOAD_MODELS, entries)
        before = {model.model_id: model for model in (ModelRow(*row) for row in rows)}
        changed = project_models(before, (entry.recorded for entry in entries))

        async def write(cursor: Cursor) -> None:
            await upsert_rows(cursor, statements.MODELS, [astuple(model) for model in changed.values()])

        return Folded(write)


async def _load(connection: Connection, query: bytes, entries: Sequence[Entry]) -> list[Any]:  # Any: database rows
    ids = list({entry.recorded.entity_id for entry in entries})
    return await (await connection.execute(query, (ids,))).fetchall()


def all_folds() -> tuple[Fold, ...]:
    """One of each, JOBS first. Made for each session, because their caches must start empty."""
    return (JobsFold(), StepsFold(), RunnersFold(), ModelsFold())
