"""An index for pages of one model over all tenants."""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

PAGE = "ix_jobs_model_id_requested_at_job_id"


def upgrade() -> None:
    op.create_index(PAGE, "jobs", ["model_id", "requested_at", "job_id"])


def downgrade() -> None:
    op.drop_index(PAGE, "jobs")
