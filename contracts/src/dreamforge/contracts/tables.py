"""The read tables, declared once: the projector writes them, the gateway reads them, migrations make them.

Every row is a fold of the log and can be rebuilt from it. Times are UTC; sequences are places in a stream.
Needs the extra `sql`.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Float,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from dreamforge.contracts.events import ArtifactErased, JobErased

# The events after which something has to be removed from the log and the object store.
OF_ERASURE = f"type IN ('{JobErased.TYPE}', '{ArtifactErased.TYPE}')"
metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)
_TIME = DateTime(timezone=True)

jobs = Table(
    "jobs",
    metadata,
    Column("job_id", Text, primary_key=True),
    Column("version", BigInteger, nullable=False, comment="sequence of the last event folded"),
    Column("tenant", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("model_id", Text, nullable=False),
    Column("preset", Text, nullable=False),
    Column("request", JSONB, nullable=False),
    Column("idempotency_key", Text),
    Column("attempt", Integer, nullable=False),
    Column("runner_id", Text),
    Column("cancel_requested", Boolean, nullable=False),
    Column("failure_reason", Text),
    Column("failure_message", Text),
    Column("retry_at", _TIME),
    Column("requested_at", _TIME, nullable=False),
    Column("assigned_at", _TIME),
    Column("started_at", _TIME),
    Column("finished_at", _TIME),
    Column("render_seconds", Float),
    Column("held_since", _TIME),
    Column("batch_id", Text),
    Column("batch_index", Integer),
    Column("batch_values", JSONB, comment="what its batch gave this job"),
    Column("workflow", JSONB, comment="the ComfyUI workflow that it was translated from"),
    Column("erase_at", _TIME, comment="set while the job is hidden: from when on it is erased"),
    Column("archived_at", _TIME, comment="since when its events are in the archive, and not in the log"),
)
Index(None, jobs.c.requested_at, jobs.c.job_id)
Index(None, jobs.c.tenant, jobs.c.requested_at, jobs.c.job_id)
Index(None, jobs.c.model_id, jobs.c.requested_at, jobs.c.job_id)
Index(None, jobs.c.tenant, jobs.c.model_id, jobs.c.requested_at, jobs.c.job_id)
Index(None, jobs.c.status, jobs.c.requested_at, jobs.c.job_id)
Index(None, jobs.c.batch_id, jobs.c.batch_index, postgresql_where=jobs.c.batch_id.is_not(None))
Index(
    "ix_jobs_workflows",
    jobs.c.tenant,
    jobs.c.requested_at,
    jobs.c.job_id,
    postgresql_where=jobs.c.workflow.is_not(None),
)

batches = Table(
    "batches",
    metadata,
    Column("batch_id", Text, primary_key=True),
    Column("job_id", Text, nullable=False, comment="its first job, whose request says what was asked for"),
    Column("sequence", BigInteger, nullable=False, comment="of that request"),
    Column("tenant", Text, nullable=False),
    Column("jobs", Integer, nullable=False, comment="how many it has"),
    Column("template", JSONB, nullable=False),
    Column("requested_at", _TIME, nullable=False),
)
Index(None, batches.c.requested_at, batches.c.batch_id)
Index(None, batches.c.tenant, batches.c.requested_at, batches.c.batch_id)
Index(None, batches.c.job_id)
Index(None, jobs.c.erase_at, postgresql_where=jobs.c.erase_at.is_not(None))
Index(None, jobs.c.finished_at)
Index("ix_jobs_not_archived", jobs.c.finished_at, postgresql_where=jobs.c.archived_at.is_(None))

job_inputs = Table(
    "job_inputs",
    metadata,
    Column("job_id", Text, primary_key=True),
    Column("sha256", Text, primary_key=True, comment="an upload that the request names"),
)
Index(None, job_inputs.c.sha256)

attempts = Table(
    "attempts",
    metadata,
    Column("job_id", Text, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("runner_id", Text, nullable=False),
    Column("instance_id", Text, nullable=False),
    Column("status", Text, nullable=False, comment="assigned, running, succeeded, failed or cancelled"),
    Column("estimated_vram_bytes", BigInteger, nullable=False),
    Column("decision", JSONB, nullable=False),
    Column("assigned_at", _TIME, nullable=False),
    Column("started_at", _TIME),
    Column("ended_at", _TIME),
    Column("reason", Text),
    Column("message", Text),
    Column("retryable", Boolean),
)

steps = Table(
    "steps",
    metadata,
    Column("job_id", Text, primary_key=True, comment="the latest step of each job only"),
    Column("sequence", BigInteger, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("image_index", Integer, nullable=False),
    Column("images", Integer, nullable=False),
    Column("step", Integer, nullable=False),
    Column("steps", Integer, nullable=False),
    Column("elapsed_seconds", Float, nullable=False),
    Column("eta_seconds", Float, nullable=False),
    Column("at", _TIME, nullable=False),
)

events = Table(
    "events",
    metadata,
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("job_id", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("type", Text, nullable=False),
    Column("event_id", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("at", _TIME, nullable=False),
    Column("payload", JSONB, nullable=False),
)
Index(None, events.c.job_id, events.c.sequence)
Index("ix_events_erasures", events.c.sequence, postgresql_where=text(OF_ERASURE))

artifacts = Table(
    "artifacts",
    metadata,
    Column("artifact_id", Text, primary_key=True, comment="{job_id}-{attempt}-{index}"),
    Column("job_id", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("index", Integer, nullable=False),
    Column("visible", Boolean, nullable=False, comment="false once a later attempt has stored it again"),
    Column("sha256", Text, nullable=False),
    Column("object_key", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("content_type", Text, nullable=False),
    Column("width_px", Integer, nullable=False),
    Column("height_px", Integer, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("recipe", JSONB, nullable=False),
    Column("stored_at", _TIME, nullable=False),
)
Index(None, artifacts.c.job_id)
Index(None, artifacts.c.sha256)

tenant_usage = Table(
    "tenant_usage",
    metadata,
    Column("tenant", Text, primary_key=True, comment="the empty one says that all others were counted"),
    Column("stored_bytes", BigInteger, nullable=False, comment="of the images that its jobs show"),
)
# A tenant's name is never empty.
USAGE_COUNTED = ""

models = Table(
    "models",
    metadata,
    Column("model_id", Text, primary_key=True),
    Column("sequence", BigInteger, nullable=False),
    Column("first_sequence", BigInteger, nullable=False, comment="the order in which models were registered"),
    Column("family", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("descriptor", JSONB, nullable=False),
    Column("status", Text, nullable=False, server_default="registered", comment="registered, verified or removed"),
    Column("registered_at", _TIME, nullable=False),
)

runners = Table(
    "runners",
    metadata,
    Column("runner_id", Text, primary_key=True),
    Column("sequence", BigInteger, nullable=False),
    Column("instance_id", Text, nullable=False),
    Column("status", Text, nullable=False, comment="online, stopped or lost"),
    Column("renderer", Text, nullable=False),
    Column("device", JSONB, nullable=False),
    Column("slots", Integer, nullable=False),
    Column("model_ids", JSONB, nullable=False),
    Column("registered_at", _TIME, nullable=False),
    Column("changed_at", _TIME, nullable=False),
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("stream", Text, primary_key=True),
    Column("sequence", BigInteger, nullable=False, comment="everything up to here is in the tables"),
    Column("at", _TIME, nullable=False),
    Column("log_id", Text, comment="identity of the stream that the sequence counts in; null: not compared yet"),
)

# PostgreSQL NOTIFY channel: the projector says "JOBS 1234" in the transaction that moves a checkpoint.
# Channels and advisory locks are those of a whole database, so in another schema than `public` they have its name.
CHECKPOINT_CHANNEL = "forge_checkpoint"
DEFAULT_SCHEMA = "public"
CHANNEL_BYTES = 63  # of a name in Postgres


def checkpoint_channel(schema: str) -> str:
    """The channel of the tables in a schema.

    >>> checkpoint_channel("public"), checkpoint_channel("acme")
    ('forge_checkpoint', 'forge_checkpoint_acme')
    """
    if schema == DEFAULT_SCHEMA:
        return CHECKPOINT_CHANNEL
    return f"{CHECKPOINT_CHANNEL}_{schema}".encode()[:CHANNEL_BYTES].decode("utf-8", "ignore")
