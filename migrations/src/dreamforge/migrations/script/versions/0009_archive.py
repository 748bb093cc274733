"""Jobs say since when their events are in the archive."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    since = "since when its events are in the archive, and not in the log"
    op.add_column("jobs", sa.Column("archived_at", sa.DateTime(timezone=True), nullable=True, comment=since))
    op.create_index("ix_jobs_not_archived", "jobs", ["finished_at"], postgresql_where=sa.text("archived_at IS NULL"))


def downgrade() -> None:
    op.drop_index("ix_jobs_not_archived", "jobs")
    op.drop_column("jobs", "archived_at")
