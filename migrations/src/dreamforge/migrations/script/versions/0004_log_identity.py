"""A checkpoint says which log it counts in."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "checkpoints",
        sa.Column(
            "log_id",
            sa.Text(),
            nullable=True,
            comment="identity of the stream that the sequence counts in; null: not compared yet",
        ),
    )


def downgrade() -> None:
    op.drop_column("checkpoints", "log_id")
