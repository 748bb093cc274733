"""No read of the gateway looks at more rows because the installation, or another tenant, has more jobs."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from sqlalchemy.dialects import postgresql

from dreamforge.contracts.jobs.course import Status
from dreamforge.gateway.http.cursor import PageCursor
from dreamforge.gateway.read import batches, queries, workflows
from dreamforge.gateway.read.queries import Statement

# A tenant with many jobs, of one model but for three; one with three; and a thousand, so many that a search over
# all of them cannot ask one by one. One event of each job is the newest.
JOBS, RARE, OTHERS = 30_000, 3, 1_000
NOW = datetime(2026, 11, 28, tzinfo=UTC)
FILL = f"""
INSERT INTO jobs (job_id, version, tenant, status, priority, model_id, preset, request, idempotency_key, attempt,
                  cancel_requested, requested_at, finished_at, batch_id, batch_index)
SELECT 'job-' || n, n, CASE WHEN n <= {RARE} THEN 'small' WHEN n % 2 > 0 THEN 'large' ELSE 't' || n / 2 % {OTHERS} END,
       'succeeded', 5,
       CASE WHEN n % ({JOBS} / {RARE}) = 7 THEN 'rare' ELSE 'common' END, 'p', '{{"prompt": "x", "steps": 1}}',
       'key-' || n, 1, false, timestamptz '{NOW.isoformat()}' - interval '10 days' + n * interval '1 second',
       timestamptz '{NOW.isoformat()}', CASE WHEN n % 10 = 0 THEN 'batch-' || n END, 0
FROM generate_series(1, {JOBS}) AS n;
INSERT INTO artifacts SELECT job_id || '-1-0', job_id, 1, 0, true, md5(job_id), 'k', 10, 'image/png', 64, 64, 1, '{{}}',
       requested_at FROM jobs;
INSERT INTO events SELECT version, job_id, 1, 'dreamforge.job.requested.v1', job_id, '/test', requested_at, '{{}}'
       FROM jobs;
INSERT INTO batches SELECT batch_id, job_id, version, tenant, 1, '{{}}', requested_at FROM jobs
       WHERE batch_id IS NOT NULL;
INSERT INTO tenant_usage VALUES ('small', 30), ('large', 10 * {JOBS});
INSERT INTO checkpoints VALUES ('JOBS', {JOBS}, now(), 'log');
ANALYZE;
"""
EXPLAIN = "EXPLAIN (ANALYZE, FORMAT JSON) "


def page(**wanted: Any) -> Statement:
    every: dict[str, Any] = {
        "status": None,
        "tenant": None,
        "model_id": None,
        "after": None,
        "limit": 50,
        "steps": True,
    }
    return queries.page(**every | wanted)


STATEMENTS: dict[str, Statement] = {
    "newest": page(),
    "a page in the middle": page(tenant="large", after=PageCursor(NOW - timedelta(days=9), "job-3")),
    "of a small tenant": page(tenant="small"),
    "of a rare model": page(tenant="large", model_id="rare"),
    "of a model without jobs": page(tenant="large", model_id="none"),
    "of a rare model, all tenants": page(model_id="rare"),
    "of a model without jobs, all tenants": page(model_id="none"),
    "of a rare model in a status, all tenants": page(model_id="rare", status=Status.SUCCEEDED),
    "of a common model, all tenants": page(model_id="common"),
    "of a common model, in the middle": page(model_id="common", after=PageCursor(NOW - timedelta(days=9), "job-3")),
    "of a rare status": page(tenant="large", status=Status.FAILED),
    "a job": queries.job("job-77"),
    "its decisions": queries.job_decisions("job-77"),
    "before it": queries.ahead_of("job-77"),
    "open jobs": queries.open_jobs(),
    "open jobs of a client": queries.open_jobs_of("large", "key-"),
    "placed jobs": queries.placed_jobs("large"),
    "commitments": queries.commitments(),
    "pixel-steps": queries.pixel_steps_by_minute(NOW, None),
    "stored bytes": queries.stored_bytes(None),
    "an artifact": queries.artifact("job-77-1-0"),
    "who has an image": queries.rendered_for("none", None),
    "erasures": queries.erasures(None, 50),
    "jobs to delete": queries.shown_jobs("small", 50),
    "batches": batches.page(tenant="large", after=None, limit=20),
    "batches, all tenants": batches.page(tenant=None, after=None, limit=20),
    "a batch": batches.batch("batch-100"),
    "its images": batches.stored_images("batch-100"),
    "workflows": workflows.workflow_jobs("large", statuses=[Status.SUCCEEDED], limit=20),
    "open workflows": workflows.open_workflows("large"),
}


@pytest.fixture
def filled(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(FILL.encode())
        yield connection


def rows_read(plan: dict[str, Any]) -> float:
    """Of a plan: the rows of its scans, those that a filter took away too."""
    own = 0.0
    if plan["Node Type"].endswith("Scan") and "Alias" in plan:
        removed = sum(plan.get(f"Rows Removed by {what}", 0) for what in ("Filter", "Index Recheck"))
        own = (plan["Actual Rows"] + removed) * plan["Actual Loops"]
    return own + sum(map(rows_read, plan.get("Plans", ())))


def explained(connection: psycopg.Connection[Any], statement: Statement) -> float:
    dialect = postgresql.psycopg.dialect()  # type: ignore[no-untyped-call]
    compiled = statement.compile(dialect=dialect, compile_kwargs={"render_postcompile": True})
    values = {name: str(value) if isinstance(value, Status) else value for name, value in compiled.params.items()}
    ((found,),) = connection.execute((EXPLAIN + str(compiled)).encode(), values).fetchall()
    return rows_read(found[0]["Plan"])


def test_no_read_looks_at_the_jobs_of_others(filled: psycopg.Connection[Any]) -> None:
    read = {name: explained(filled, statement) for name, statement in STATEMENTS.items()}
    assert {name: rows for name, rows in read.items() if rows > 500} == {}


def test_a_read_of_a_tenants_events_looks_at_a_part_of_the_log(
    filled: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "EVENTS_LOOKED_AT", 100)
    assert explained(filled, queries.events_after(("small",), 1_000, frozenset(), 500)) < 500
