"""Usage of each tenant as a row, and an index for pages of one model.

A projector of the release before may write until it stops: the next writer counts once more, as no row says that all
was counted.
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

PAGE = "ix_jobs_tenant_model_id_requested_at_job_id"


def upgrade() -> None:
    tenant = sa.Column("tenant", sa.Text(), nullable=False, comment="the empty one says that all others were counted")
    stored = sa.Column("stored_bytes", sa.BigInteger(), nullable=False, comment="of the images that its jobs show")
    op.create_table("tenant_usage", tenant, stored, sa.PrimaryKeyConstraint("tenant", name="pk_tenant_usage"))
    op.execute(
        "INSERT INTO tenant_usage SELECT tenant, sum(size_bytes) FROM artifacts JOIN jobs USING (job_id) WHERE visible"
        " GROUP BY tenant"
    )
    op.create_index(PAGE, "jobs", ["tenant", "model_id", "requested_at", "job_id"])


def downgrade() -> None:
    op.drop_index(PAGE, "jobs")
    op.drop_table("tenant_usage")
