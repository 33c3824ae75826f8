"""Create the event log and the positions of its consumers."""

from __future__ import annotations

import uuid

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the change."""
    log = op.create_table(
        "omnimessage_log",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("log_id", sa.String(36), nullable=False),
        sa.Column("last_seq", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(log, [{"id": 1, "log_id": str(uuid.uuid4()), "last_seq": 0}])
    op.create_table(
        "omnimessage_event",
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("conn_id", sa.String(250), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("subject_id", sa.String(64), nullable=False),
        sa.Column("message_id", sa.String(128), nullable=False),
        sa.Column("status", sa.String(32), nullable=False),
        sa.Column("first_delivery", sa.Boolean(create_constraint=False), nullable=False),
        sa.Column("received_at", sa.BigInteger, nullable=False),
        sa.Column("details", sa.Text, nullable=False),
    )
    op.create_index(
        "omnimessage_event_once",
        "omnimessage_event",
        ["subject_id", "message_id", "status", "conn_id", "kind"],
        unique=True,
    )
    op.create_index("omnimessage_event_by_connection", "omnimessage_event", ["conn_id", "seq"])
    op.create_table(
        "omnimessage_consumer",
        sa.Column("conn_id", sa.String(250), primary_key=True),
        sa.Column("name", sa.String(250), primary_key=True),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("seen_at", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    """Take the change back."""
    op.drop_table("omnimessage_consumer")
    op.drop_table("omnimessage_event")
    op.drop_table("omnimessage_log")
