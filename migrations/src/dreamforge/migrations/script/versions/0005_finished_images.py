"""Images are shown when they are finished, not when their job has succeeded."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

BEFORE, AFTER = "true once its attempt has succeeded", "false once a later attempt has stored it again"


def upgrade() -> None:
    op.alter_column("artifacts", "visible", existing_type=sa.Boolean(), comment=AFTER, existing_comment=BEFORE)
    op.execute(
        "UPDATE artifacts SET visible = true WHERE NOT visible AND NOT EXISTS (SELECT FROM artifacts AS later"
        ' WHERE later.job_id = artifacts.job_id AND later."index" = artifacts."index"'
        " AND later.attempt > artifacts.attempt)"
    )


def downgrade() -> None:
    op.alter_column("artifacts", "visible", existing_type=sa.Boolean(), comment=BEFORE, existing_comment=AFTER)
