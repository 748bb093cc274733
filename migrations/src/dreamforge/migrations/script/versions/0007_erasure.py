"""Jobs can be erased; which job names which upload is a table, so that uploads of no job can be found."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

INPUTS = """INSERT INTO job_inputs (job_id, sha256)
SELECT DISTINCT job_id, named.sha256 FROM jobs, LATERAL (VALUES
  (request->>'init_image'), (request->>'mask_image'), (request#>>'{control,image}')) AS named (sha256)
WHERE named.sha256 IS NOT NULL"""
OF_ERASURE = "type IN ('dreamforge.job.erased.v1', 'dreamforge.job.artifact-erased.v1')"


def upgrade() -> None:
    hidden = "set while the job is hidden: from when on it is erased"
    op.add_column("jobs", sa.Column("erase_at", sa.DateTime(timezone=True), nullable=True, comment=hidden))
    op.create_index("ix_jobs_erase_at", "jobs", ["erase_at"], postgresql_where=sa.text("erase_at IS NOT NULL"))
    op.create_index("ix_jobs_finished_at", "jobs", ["finished_at"])
    op.create_index("ix_events_erasures", "events", ["sequence"], postgresql_where=sa.text(OF_ERASURE))
    op.create_table(
        "job_inputs",
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False, comment="an upload that the request names"),
        sa.PrimaryKeyConstraint("job_id", "sha256", name="pk_job_inputs"),
    )
    op.create_index("ix_job_inputs_sha256", "job_inputs", ["sha256"])
    op.execute(INPUTS)


def downgrade() -> None:
    op.drop_table("job_inputs")
    op.drop_index("ix_events_erasures", "events")
    op.drop_index("ix_jobs_finished_at", "jobs")
    op.drop_index("ix_jobs_erase_at", "jobs")
    op.drop_column("jobs", "erase_at")
