"""The reads, as statements: pure SQL values, each consistent by being one statement."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Select,
    and_,
    cast,
    exists,
    func,
    literal,
    literal_column,
    or_,
    select,
    true,
    tuple_,
)
from sqlalchemy.dialects.postgresql import JSONB, aggregate_order_by

from dreamforge.contracts.events import JobWarned
from dreamforge.contracts.jobs.course import Status
from dreamforge.contracts.log.streams import JOBS
from dreamforge.contracts.tables import (
    USAGE_COUNTED,
    artifacts,
    attempts,
    checkpoints,
    events,
    jobs,
    runners,
    steps,
    tenant_usage,
)
from dreamforge.gateway.http.cursor import PageCursor

Statement = Select[*tuple[Any, ...]]  # Any: rows are validated by the replies they become
WAITING = (Status.QUEUED,)
PLACED = (Status.ASSIGNED, Status.RUNNING)
OPEN = (*WAITING, *PLACED)
SHOWN = jobs.c.erase_at.is_(None)
# Of the log, by one read of a tenant's events: each is compared with the tenant of its job.
EVENTS_LOOKED_AT = 20_000


def latest_step() -> Any:  # Any: SQLAlchemy's expression types do not survive to_jsonb
    """The latest step of a job, as JSON."""
    latest = steps.alias("latest")  # `steps` alone would be the column of that name
    row = func.to_jsonb(latest.table_valued(), type_=JSONB)
    bare = row.op("-")(literal_column("'job_id'::text")).op("-")(literal_column("'sequence'::text"))
    return select(bare).where(latest.c.job_id == jobs.c.job_id).scalar_subquery().label("step")


def _attempts(without: str) -> Any:
    row = func.to_jsonb(attempts.table_valued(), type_=JSONB)
    bare = row.op("-")(literal_column("'job_id'::text")).op("-")(literal_column(f"'{without}'::text"))
    gathered = func.jsonb_agg(aggregate_order_by(bare, attempts.c.attempt), type_=JSONB)
    return select(gathered).where(attempts.c.job_id == jobs.c.job_id).scalar_subquery().label("attempts")


def shown_artifacts() -> Any:  # Any: as `_step`
    """The visible artifacts of a job, by index, as JSON."""
    row = func.to_jsonb(artifacts.table_valued(), type_=JSONB)
    gathered = func.jsonb_agg(aggregate_order_by(row, artifacts.c.index), type_=JSONB)
    mine = and_(artifacts.c.job_id == jobs.c.job_id, artifacts.c.visible)
    return select(gathered).where(mine).scalar_subquery().label("artifacts")


def _warnings() -> Any:
    """Of the current attempt, and those about a picture that an earlier one has stored."""
    gathered = func.jsonb_agg(aggregate_order_by(events.c.payload, events.c.sequence), type_=JSONB)
    shown = exists().where(
        artifacts.c.job_id == events.c.job_id,
        artifacts.c.attempt == events.c.attempt,
        artifacts.c.visible,
        func.to_jsonb(artifacts.c.index) == events.c.payload["image_index"],
    )
    current = events.c.attempt == jobs.c.attempt
    mine = and_(events.c.job_id == jobs.c.job_id, events.c.type == JobWarned.TYPE, or_(current, shown))
    return select(gathered).where(mine).scalar_subquery().label("warnings")


def job(job_id: str) -> Statement:
    """A job with its latest step, attempts (without decisions), warnings and visible artifacts, in one row."""
    columns = (jobs, latest_step(), _attempts("decision"), _warnings(), shown_artifacts())
    return select(*columns).where(jobs.c.job_id == job_id, SHOWN)


def job_decisions(job_id: str) -> Statement:
    """A job and all its attempts with their decisions, in one row."""
    return select(jobs, _attempts("nothing")).where(jobs.c.job_id == job_id, SHOWN)


def page(
    *,
    status: Status | None,
    tenant: str | None,
    model_id: str | None,
    after: PageCursor | None,
    limit: int,
    steps: bool,
) -> Statement:
    """One page of jobs, newest first, and one row more, which says whether there is another page."""
    conditions: list[ColumnElement[bool]] = [SHOWN]
    conditions += [
        column == value
        for column, value in ((jobs.c.status, status), (jobs.c.tenant, tenant), (jobs.c.model_id, model_id))
        if value is not None
    ]
    if after is not None:
        place = tuple_(jobs.c.requested_at, jobs.c.job_id)
        conditions.append(place < tuple_(literal(after.requested_at), literal(after.job_id)))
    newest = (jobs.c.requested_at.desc(), jobs.c.job_id.desc())
    columns = (jobs, latest_step()) if steps else (jobs,)
    return select(*columns).where(*conditions).order_by(*newest).limit(limit + 1)


def events_after(tenants: Iterable[str], sequence: int, types: frozenset[str], limit: int) -> Statement:
    """The events of jobs of tenants after a sequence, in the order of the log; of these types, where some are named.

    It looks at so many events of all tenants (EVENTS_LOOKED_AT), so that a tenant with few waits no longer than others.
    Each row has `reached`, the sequence up to which the tables hold the log, and `looked`, up to which that was looked
    at. Without an event there is one row, of these.
    """
    last = sequence + EVENTS_LOOKED_AT
    shown = and_(jobs.c.tenant.in_(tenants), SHOWN, events.c.sequence > sequence, events.c.sequence <= last)
    columns = (events.c.sequence, jobs.c.tenant, events.c.job_id, events.c.type, events.c.payload)
    found = select(*columns).join(jobs, jobs.c.job_id == events.c.job_id).where(shown)
    if types:
        found = found.where(events.c.type.in_(types))
    page = found.order_by(events.c.sequence).limit(limit).subquery("page")
    looked = func.least(checkpoints.c.sequence, last).label("looked")
    reached = select(checkpoints.c.sequence.label("reached"), looked, page).select_from(checkpoints)
    return reached.outerjoin(page, true()).where(checkpoints.c.stream == JOBS.name).order_by(page.c.sequence)


def placed_jobs(tenant: str) -> Statement:
    """The jobs of a tenant that a runner has."""
    mine = and_(jobs.c.tenant == tenant, jobs.c.status.in_(PLACED), SHOWN)
    return select(jobs.c.job_id, jobs.c.attempt, jobs.c.runner_id).where(mine)


def open_jobs() -> Statement:
    """How many jobs of each tenant are not finished."""
    number = func.count().label("number")
    return _with_sequence(select(jobs.c.tenant, number).where(jobs.c.status.in_(OPEN)).group_by(jobs.c.tenant))


def open_jobs_of(tenant: str, key_prefix: str) -> Statement:
    """The jobs of a tenant that are not finished and whose idempotency key begins so, the oldest first."""
    mine = and_(jobs.c.tenant == tenant, jobs.c.idempotency_key.startswith(key_prefix, autoescape=True))
    columns = (jobs.c.job_id, jobs.c.started_at, jobs.c.request, jobs.c.requested_at)
    oldest = (jobs.c.requested_at, jobs.c.job_id)
    return select(*columns).where(mine, jobs.c.status.in_(OPEN), SHOWN).order_by(*oldest)


def pixel_steps_by_minute(since: datetime, tenants: frozenset[str] | None) -> Statement:
    """`RenderRequest.pixel_steps` of the jobs requested since then, by tenant and minute; of all tenants: None."""
    upscale = jobs.c.request["upscale"]
    steps = _whole(jobs.c.request, "steps")
    first = steps * _whole(jobs.c.request, "width_px") * _whole(jobs.c.request, "height_px")
    second_px = func.coalesce(_whole(upscale, "tiled_px"), _whole(upscale, "width_px") * _whole(upscale, "height_px"))
    second = func.coalesce(_whole(upscale, "steps"), steps) * second_px
    work = func.coalesce(_whole(jobs.c.request, "images"), 1) * (first + func.coalesce(second, 0))
    minute = cast(func.floor(func.extract("epoch", jobs.c.requested_at) / 60), BigInteger).label("minute")
    counted = select(jobs.c.tenant, minute, func.sum(work).label("number")).where(jobs.c.requested_at > since)
    return _with_sequence(_of_tenants(counted, jobs.c.tenant, tenants).group_by(jobs.c.tenant, minute))


def stored_bytes(tenants: frozenset[str] | None) -> Statement:
    """How many bytes the images have that each tenant's jobs show; of all tenants: None."""
    tenant = tenant_usage.c.tenant
    counted = select(tenant, tenant_usage.c.stored_bytes.label("number")).where(tenant != USAGE_COUNTED)
    return _with_sequence(_of_tenants(counted, tenant, tenants))


def _of_tenants(statement: Statement, tenant: Column[str], tenants: frozenset[str] | None) -> Statement:
    return statement if tenants is None else statement.where(tenant.in_(sorted(tenants)))


def _whole(document: Any, name: str) -> Any:  # Any: SQLAlchemy's expressions of JSON
    return cast(document[name].astext, BigInteger)


def _with_sequence(counted: Statement) -> Statement:
    """Rows of a count with the sequence up to which it is; one row without a tenant, if there are none."""
    reached = select(func.max(checkpoints.c.sequence).label("sequence")).where(checkpoints.c.stream == JOBS.name)
    place, found = reached.subquery("place"), counted.subquery("counted")
    return select(place, found).select_from(place.outerjoin(found, true()))


def ahead_of(job_id: str) -> Statement:
    """How many waiting jobs are before this one: with a higher priority, or the same and older."""
    mine = jobs.alias("mine")
    older = tuple_(jobs.c.requested_at, jobs.c.job_id) < tuple_(mine.c.requested_at, mine.c.job_id)
    before = or_(jobs.c.priority > mine.c.priority, and_(jobs.c.priority == mine.c.priority, older))
    waiting = and_(jobs.c.status.in_(WAITING), jobs.c.held_since.is_(None))
    return select(func.count().label("number")).select_from(jobs).where(mine.c.job_id == job_id, waiting, before)


def commitments() -> Statement:
    """What is already assigned to each runner: attempts and bytes. Found through the jobs that are placed now."""
    return (
        select(
            attempts.c.runner_id, func.count().label("slots"), func.sum(attempts.c.estimated_vram_bytes).label("bytes")
        )
        .join(jobs, and_(jobs.c.job_id == attempts.c.job_id, jobs.c.attempt == attempts.c.attempt))
        .where(jobs.c.status.in_(PLACED))
        .group_by(attempts.c.runner_id)
    )


def artifact(artifact_id: str) -> Statement:
    """A visible artifact: the hash of its bytes, from which follows where they are, whose it is, and what names it."""
    a, prompt = artifacts.c, jobs.c.request["prompt"].astext.label("prompt")
    return (
        select(a.sha256, a.job_id, a.index, a.content_type, jobs.c.tenant, prompt)
        .outerjoin(jobs, jobs.c.job_id == a.job_id)
        .where(a.artifact_id == artifact_id, a.visible, SHOWN)
    )


def rendered_for(sha256: str, tenant: str | None) -> Statement:
    """A job of a tenant, or of any, that shows an image with these bytes, if there is one."""
    mine = jobs.c.tenant == tenant if tenant is not None else true()
    return (
        select(jobs.c.job_id)
        .join(artifacts, artifacts.c.job_id == jobs.c.job_id)
        .where(artifacts.c.sha256 == sha256, artifacts.c.visible, SHOWN, mine)
        .limit(1)
    )


def erasures(tenant: str | None, limit: int) -> Statement:
    """The jobs of a tenant, or of all, that are hidden and not erased yet, the soonest first."""
    mine = jobs.c.tenant == tenant if tenant is not None else true()
    hidden = select(jobs.c.job_id, jobs.c.tenant, jobs.c.requested_at, jobs.c.erase_at)
    return hidden.where(jobs.c.erase_at.is_not(None), mine).order_by(jobs.c.erase_at, jobs.c.job_id).limit(limit)


def shown_jobs(tenant: str, limit: int) -> Statement:
    """Jobs of a tenant that are not deleted."""
    return select(jobs.c.job_id).where(jobs.c.tenant == tenant, SHOWN).order_by(jobs.c.job_id).limit(limit)


def all_runners() -> Statement:
    """Every runner that ever registered."""
    return select(runners).order_by(runners.c.runner_id)
