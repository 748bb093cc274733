"""Jobs that were requested together are a batch."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("batch_id", sa.Text(), nullable=True))
    op.add_column("jobs", sa.Column("batch_index", sa.Integer(), nullable=True))
    op.add_column("jobs", sa.Column("batch_values", JSONB(), nullable=True, comment="what its batch gave this job"))
    op.create_index(
        op.f("ix_jobs_batch_id_batch_index"),
        "jobs",
        ["batch_id", "batch_index"],
        postgresql_where=sa.text("batch_id IS NOT NULL"),
    )
    op.create_table(
        "batches",
        sa.Column("batch_id", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False, comment="its first job, whose request says what was asked for"),
        sa.Column("sequence", sa.BigInteger(), nullable=False, comment="of that request"),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("jobs", sa.Integer(), nullable=False, comment="how many it has"),
        sa.Column("template", JSONB(), nullable=False),
        sa.Column("requested_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("batch_id", name=op.f("pk_batches")),
    )
    op.create_index(op.f("ix_batches_requested_at_batch_id"), "batches", ["requested_at", "batch_id"])
    op.create_index(op.f("ix_batches_tenant_requested_at_batch_id"), "batches", ["tenant", "requested_at", "batch_id"])
    op.create_index(op.f("ix_batches_job_id"), "batches", ["job_id"])


def downgrade() -> None:
    op.drop_table("batches")
    op.drop_index(op.f("ix_jobs_batch_id_batch_index"), table_name="jobs")
    for name in ("batch_values", "batch_index", "batch_id"):
        op.drop_column("jobs", name)
