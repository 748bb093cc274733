"""Batches: their reads, as statements, and from rows to replies. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import RowMapping, exists, func, literal, literal_column, select, tuple_
from sqlalchemy.dialects.postgresql import JSONB, aggregate_order_by

from dreamforge.contracts.batch_replies import BatchImage, BatchJob, BatchLinks, BatchReply, BatchSummary
from dreamforge.contracts.jobs.course import TERMINAL, Status
from dreamforge.contracts.replies import Links
from dreamforge.contracts.tables import artifacts, batches, jobs
from dreamforge.gateway.http.cursor import PageCursor
from dreamforge.gateway.read.queries import SHOWN, Statement

_STATUSES = tuple(status for status in Status if status is not Status.NONE)
_BATCH = ("batch_id", "tenant", "jobs", "template", "requested_at")
_IMAGE = tuple(name for name in BatchImage.model_fields if name not in ("url", "thumbnail_url"))


def _images() -> Any:  # Any: SQLAlchemy's expression types do not survive to_jsonb
    row = func.to_jsonb(artifacts.table_valued(), type_=JSONB).op("-")(literal_column("'recipe'::text"))
    gathered = func.jsonb_agg(aggregate_order_by(row, artifacts.c.index), type_=JSONB)
    mine = (artifacts.c.job_id == jobs.c.job_id, artifacts.c.visible)
    return select(gathered).where(*mine).scalar_subquery().label("images")


def batch(batch_id: str) -> Statement:
    """A row for each job of a batch, in their order, with its visible images, and the batch in each row."""
    job = (
        jobs.c.batch_index,
        jobs.c.job_id,
        jobs.c.status,
        jobs.c.batch_values,
        jobs.c.request["prompt"].astext.label("prompt"),
        jobs.c.request["seed"].label("seed"),
        jobs.c.failure_reason,
        jobs.c.failure_message,
    )
    of_batch = (batches.c[name].label(f"batch_{name}") for name in _BATCH)
    return (
        select(*of_batch, *job, _images())
        .join(jobs, (jobs.c.batch_id == batches.c.batch_id) & (jobs.c.tenant == batches.c.tenant))
        .where(batches.c.batch_id == batch_id, SHOWN)
        .order_by(jobs.c.batch_index)
    )


def stored_images(batch_id: str) -> Statement:
    """Where the bytes of the visible images of a batch are."""
    a = artifacts.c
    return (
        select(a.artifact_id, a.sha256, a.size_bytes, a.stored_at)
        .join(jobs, jobs.c.job_id == a.job_id)
        .where(jobs.c.batch_id == batch_id, a.visible, SHOWN)
    )


def page(*, tenant: str | None, after: PageCursor | None, limit: int) -> Statement:
    """One page of batches, newest first, with the number of jobs in each status, and one row more."""
    hidden = jobs.alias("hidden")
    conditions = [~exists().where(hidden.c.job_id == batches.c.job_id, hidden.c.erase_at.is_not(None))]
    if tenant is not None:
        conditions.append(batches.c.tenant == tenant)
    if after is not None:
        place = tuple_(batches.c.requested_at, batches.c.batch_id)
        conditions.append(place < tuple_(literal(after.requested_at), literal(after.job_id)))
    newest = (batches.c.requested_at.desc(), batches.c.batch_id.desc())
    found = select(batches).where(*conditions).order_by(*newest).limit(limit + 1).subquery("found")
    counts = (func.count().filter(jobs.c.status == status).label(f"count_{status}") for status in _STATUSES)
    columns = [found.c[name] for name in _BATCH]
    return (
        select(*columns, *counts)
        .join(jobs, (jobs.c.batch_id == found.c.batch_id) & (jobs.c.tenant == found.c.tenant) & SHOWN)
        .group_by(*columns)
        .order_by(found.c.requested_at.desc(), found.c.batch_id.desc())
    )


def status_of(counts: Mapping[Status, int]) -> Status:
    """Where a batch stands, from how many of its jobs have each status.

    >>> status_of({Status.SUCCEEDED: 3, Status.QUEUED: 1}), status_of({Status.SUCCEEDED: 3, Status.CANCELLED: 1})
    (<Status.RUNNING: 'running'>, <Status.CANCELLED: 'cancelled'>)
    """
    present = {status for status, number in counts.items() if number}
    if present <= {Status.QUEUED}:
        return Status.QUEUED
    if present - TERMINAL:
        return Status.RUNNING
    return next(each for each in (Status.FAILED, Status.CANCELLED, Status.SUCCEEDED) if each in present)


def batch_summary(row: RowMapping, root: str) -> BatchSummary:
    """A row of `page`; `root` is the prefix of every link."""
    counts: dict[Status, int] = {status: row[f"count_{status}"] for status in _STATUSES if row[f"count_{status}"]}
    return BatchSummary.model_validate(_fields({name: row[name] for name in _BATCH}, counts, root))


def batch_reply(rows: Sequence[RowMapping], root: str) -> BatchReply:
    """The rows of `batch`; `root` is the prefix of every link."""
    counts: dict[Status, int] = {}
    for row in rows:
        counts[Status(row["status"])] = counts.get(Status(row["status"]), 0) + 1
    own = {name: rows[0][f"batch_{name}"] for name in _BATCH}
    return BatchReply.model_validate(_fields(own, counts, root) | {"members": [_job(row, root) for row in rows]})


def _fields(own: Mapping[str, Any], counts: Mapping[Status, int], root: str) -> dict[str, Any]:  # Any: columns
    links = BatchLinks.of(own["batch_id"], root)
    return {**own, "status": status_of(counts), "counts": counts, "links": links}


def _job(row: RowMapping, root: str) -> BatchJob:
    return BatchJob(
        index=row["batch_index"],
        job_id=row["job_id"],
        status=Status(row["status"]),
        values=row["batch_values"] or {},
        prompt=row["prompt"],
        seed=row["seed"],
        failure_reason=row["failure_reason"],
        failure_message=row["failure_message"],
        images=tuple(_image(each, root) for each in row["images"] or ()),
        links=Links.of(row["job_id"], root),
    )


def _image(row: Mapping[str, Any], root: str) -> BatchImage:  # Any: columns
    url = f"{root}/v1/artifacts/{row['artifact_id']}"
    own = {name: row[name] for name in _IMAGE}
    return BatchImage.model_validate(own | {"url": url, "thumbnail_url": f"{url}/thumbnail"})
