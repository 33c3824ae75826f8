"""Create the claims: of several processes that would do the same, one does it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the change."""
    op.create_table(
        "omnimessage_claim",
        sa.Column("conn_id", sa.String(250), primary_key=True),
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("holder", sa.String(64), nullable=False),
        sa.Column("until", sa.BigInteger, nullable=False),
        sa.Column("is_done", sa.Boolean(create_constraint=False), nullable=False),
    )


def downgrade() -> None:
    """Take the change back."""
    op.drop_table("omnimessage_claim")
