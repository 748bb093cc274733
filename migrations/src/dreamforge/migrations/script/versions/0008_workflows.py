"""Jobs remember the ComfyUI workflow that they were translated from."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    said = "the ComfyUI workflow that it was translated from"
    op.add_column("jobs", sa.Column("workflow", JSONB(), nullable=True, comment=said))
    op.create_index(
        "ix_jobs_workflows",
        "jobs",
        ["tenant", "requested_at", "job_id"],
        postgresql_where=sa.text("workflow IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index("ix_jobs_workflows", "jobs")
    op.drop_column("jobs", "workflow")
