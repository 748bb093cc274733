"""The projector's SQL, built from the declared tables. Names are unqualified: the session's search path decides."""

from dataclasses import dataclass

from psycopg import sql
from sqlalchemy import Dialect, Table
from sqlalchemy.dialects import postgresql

from dreamforge.contracts import tables
from dreamforge.contracts.events import JobErased, JobRequested

MOVE_CHECKPOINT = b"UPDATE checkpoints SET sequence = %s, at = %s WHERE stream = %s AND sequence = %s"
NEW_CHECKPOINT = (
    b"INSERT INTO checkpoints (stream, sequence, at, log_id) VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING"
)
DROP_CHECKPOINTS = b"DELETE FROM checkpoints WHERE stream = ANY(%s)"
CHECKPOINT = b"SELECT sequence, log_id FROM checkpoints WHERE stream = %s"
NEWEST_EVENT = b"SELECT sequence, event_id FROM events WHERE sequence <= %s ORDER BY sequence DESC LIMIT 1"
IDENTIFY_CHECKPOINT = b"UPDATE checkpoints SET log_id = %s WHERE stream = %s AND log_id IS NULL"
REWIND_CHECKPOINT = b"UPDATE checkpoints SET sequence = %s, at = %s, log_id = %s WHERE stream = %s AND sequence = %s"
NOTIFY = b"SELECT pg_notify(%s, %s)"
# The log refuses it. Each of several processes that fold ranges takes such a request for the first one.
REQUESTED_TWICE = (
    f"SELECT job_id FROM events WHERE type = '{JobRequested.TYPE}' GROUP BY 1 HAVING count(*) > 1".encode()
)
# What leaves the usage of tenants with artifacts that are hidden or removed; their jobs' rows are still there.
BYTES_OF_GONE = " SELECT tenant, sum(size_bytes)::bigint FROM gone JOIN jobs USING (job_id) WHERE shown GROUP BY tenant"
HIDE_REPLACED_ARTIFACTS = f"""WITH gone AS (UPDATE artifacts SET visible = false FROM artifacts AS later
WHERE artifacts.job_id = ANY(%s) AND later.job_id = artifacts.job_id AND later."index" = artifacts."index"
  AND later.attempt > artifacts.attempt AND artifacts.visible
RETURNING artifacts.job_id, artifacts.size_bytes, true AS shown){BYTES_OF_GONE}""".encode()
DELETE_STEPS = b"DELETE FROM steps WHERE job_id = ANY(%s)"


_DIALECT: Dialect = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it untyped


@dataclass(frozen=True, slots=True)
class Upsert:
    """Statements that write rows into one table: one by one, or many through a temporary table of the same columns."""

    one: bytes
    make_staging: bytes
    fill_staging: bytes
    from_staging: bytes


def copy_into(table: str, columns: tuple[str, ...]) -> bytes:
    """COPY of whole rows, in the order of the declared columns."""
    return sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(table), _names(columns)).as_bytes()


def columns_of(table: Table) -> tuple[str, ...]:
    """Declared order, which is the order of our row tuples."""
    return tuple(column.name for column in table.columns)


def upsert(table: Table, newer_by: str | None = None, unless: str | None = None) -> Upsert:
    """Insert or replace by primary key; `newer_by` names the column that must increase, `unless` a condition on the
    incoming row (as `new`) under which it is not written."""
    staging, columns = f"new_{table.name}", columns_of(table)
    names, target, conflict = _names(columns), sql.Identifier(table.name), _on_conflict(table, newer_by)
    kept = sql.SQL(f" WHERE NOT ({unless})") if unless else sql.SQL("")
    into = sql.SQL("INSERT INTO {} ({}) SELECT {} FROM ").format(target, names, names)
    values = sql.SQL("(VALUES ({})) AS new ({})").format(_typed_placeholders(table), names)
    return Upsert(
        one=(into + values + kept + conflict).as_bytes(),
        make_staging=sql.SQL("CREATE TEMPORARY TABLE {} (LIKE {}) ON COMMIT DELETE ROWS")
        .format(sql.Identifier(staging), target)
        .as_bytes(),
        fill_staging=copy_into(staging, columns),
        from_staging=(into + sql.SQL("{} AS new").format(sql.Identifier(staging)) + kept + conflict).as_bytes(),
    )


def insert(table: Table) -> bytes:
    """Insert one row whose key cannot exist yet."""
    columns = columns_of(table)
    form = sql.SQL("INSERT INTO {} ({}) VALUES ({})")
    return form.format(sql.Identifier(table.name), _names(columns), _typed_placeholders(table)).as_bytes()


def _on_conflict(table: Table, newer_by: str | None) -> sql.Composed:
    keys = tuple(column.name for column in table.primary_key.columns)
    replaced = sql.SQL(", ").join(
        sql.SQL("{0} = EXCLUDED.{0}").format(sql.Identifier(name)) for name in columns_of(table) if name not in keys
    )
    if len(keys) == len(columns_of(table)):
        return sql.SQL(" ON CONFLICT DO NOTHING").format()
    clause = sql.SQL(" ON CONFLICT ({}) DO UPDATE SET {}").format(_names(keys), replaced)
    if newer_by is None:
        return clause
    newer = sql.SQL(" WHERE {0}.{1} < EXCLUDED.{1}").format(sql.Identifier(table.name), sql.Identifier(newer_by))
    return clause + newer


def _names(columns: tuple[str, ...]) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(name) for name in columns)


def _typed_placeholders(table: Table) -> sql.Composed:
    """Placeholders with a cast each: inside VALUES, Postgres would take JSON and nulls for text."""
    casts = (column.type.compile(_DIALECT) for column in table.columns)
    return sql.SQL(", ").join(sql.SQL(f"%s::{cast}") for cast in casts)


JOBS = upsert(tables.jobs, newer_by="version")
ATTEMPTS = upsert(tables.attempts)
ARTIFACTS = upsert(tables.artifacts)
BATCHES = upsert(tables.batches, newer_by="sequence")
INPUTS = upsert(tables.job_inputs)
RUNNERS = upsert(tables.runners, newer_by="sequence")
MODELS = upsert(tables.models, newer_by="sequence")
# The progress of a finished or erased job is of no use, and a late step must not create its row again.
STEPS = upsert(
    tables.steps,
    newer_by="sequence",
    unless="EXISTS (SELECT 1 FROM jobs WHERE jobs.job_id = new.job_id AND jobs.finished_at IS NOT NULL)"
    f" OR EXISTS (SELECT 1 FROM events WHERE events.job_id = new.job_id AND events.type = '{JobErased.TYPE}')",
)
COPY_EVENTS = copy_into("events", columns_of(tables.events))
INSERT_EVENT = insert(tables.events)
STAGED = (JOBS, ATTEMPTS, ARTIFACTS, BATCHES, INPUTS, STEPS, RUNNERS, MODELS)

# Columns have the names of the fields of JobRow and JobState; those of the current attempt begin with `current_`.
LOAD_JOBS = b"""SELECT j.job_id, j.version, j.status, j.tenant, j.priority, j.requested_at, j.attempt, j.runner_id,
       j.retry_at, j.cancel_requested, j.failure_reason, j.started_at, j.model_id, j.preset,
       j.request::text AS request_json, j.idempotency_key, j.failure_message, j.assigned_at, j.finished_at,
       j.render_seconds, j.held_since, j.batch_id, j.batch_index, j.batch_values::text AS batch_values_json,
       j.workflow::text AS workflow_json, j.erase_at, j.archived_at,
       a.attempt AS current_attempt, a.runner_id AS current_runner_id, a.instance_id AS current_instance_id,
       a.status AS current_status, a.estimated_vram_bytes AS current_estimated_vram_bytes,
       a.decision::text AS current_decision_json, a.assigned_at AS current_assigned_at,
       a.started_at AS current_started_at, a.ended_at AS current_ended_at, a.reason AS current_reason,
       a.message AS current_message, a.retryable AS current_retryable
FROM jobs AS j LEFT JOIN attempts AS a ON a.job_id = j.job_id AND a.attempt = j.attempt
WHERE j.job_id = ANY(%s)"""
LOAD_ASSIGNMENTS = b"SELECT job_id, attempt, runner_id FROM attempts WHERE job_id = ANY(%s)"
LOAD_RUNNERS = b"""SELECT runner_id, sequence, instance_id, status, renderer, device::text, slots, model_ids::text,
       registered_at, changed_at FROM runners WHERE runner_id = ANY(%s)"""
LOAD_MODELS = b"""SELECT model_id, sequence, first_sequence, family, digest, descriptor::text, status, registered_at
FROM models WHERE model_id = ANY(%s)"""

# Every row that the fold of a job's events writes, and its latest step, for many jobs; the artifacts are first.
DELETE_ALL_ARTIFACTS = (
    "WITH gone AS (DELETE FROM artifacts WHERE job_id = ANY(%s) RETURNING job_id, size_bytes, visible AS shown)"
    f"{BYTES_OF_GONE}"
).encode()
DELETE_JOBS = tuple(
    f"DELETE FROM {table} WHERE job_id = ANY(%s)".encode()
    for table in ("events", "attempts", "batches", "job_inputs", "jobs", "steps")
)
DELETE_ARTIFACTS = f"""WITH gone AS (
DELETE FROM artifacts USING unnest(%s::text[], %s::int[]) AS erased (job_id, "index")
WHERE artifacts.job_id = erased.job_id AND artifacts."index" = erased."index"
RETURNING artifacts.job_id, artifacts.size_bytes, artifacts.visible AS shown){BYTES_OF_GONE}""".encode()

ADD_USAGE = b"""INSERT INTO tenant_usage (tenant, stored_bytes) SELECT * FROM unnest(%s::text[], %s::bigint[])
ON CONFLICT (tenant) DO UPDATE SET stored_bytes = tenant_usage.stored_bytes + EXCLUDED.stored_bytes"""
# A tenant without images has no row, as if it had never had any.
FORGET_UNUSED = b"DELETE FROM tenant_usage WHERE tenant = ANY(%s) AND stored_bytes = 0"
IS_USAGE_COUNTED = f"SELECT 1 FROM tenant_usage WHERE tenant = '{tables.USAGE_COUNTED}'".encode()
COUNT_USAGE = (
    b"DELETE FROM tenant_usage",
    b"INSERT INTO tenant_usage SELECT tenant, sum(size_bytes) FROM artifacts JOIN jobs USING (job_id) WHERE visible"
    b" GROUP BY tenant",
    f"INSERT INTO tenant_usage VALUES ('{tables.USAGE_COUNTED}', 0)".encode(),
)
