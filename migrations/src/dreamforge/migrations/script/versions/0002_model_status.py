"""Models can be verified and removed."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "models",
        sa.Column(
            "status",
            sa.Text(),
            server_default="registered",
            nullable=False,
            comment="registered, verified or removed",
        ),
    )


def downgrade() -> None:
    op.drop_column("models", "status")
