"""The receiver's tables. All of them start with ``omnimessage_``, so that they can share Airflow's database."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, MetaData, String, Table, Text

#: Alembic's version table: not Airflow's own.
VERSION_TABLE = "omnimessage_alembic_version"

metadata = MetaData()

#: One row. Its lock orders all writers, so a sequence number never becomes visible after a higher one.
log_table = Table(
    "omnimessage_log",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("log_id", String(36), nullable=False),
    Column("last_seq", BigInteger, nullable=False),
)

#: ``subject_id`` and ``message_id`` are a report's ``omnimessage_id`` and ``message_id``, or a reply's ``msg_id`` and
#: ``sub_msg_id``. No phone number and no text is stored.
event_table = Table(
    "omnimessage_event",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("conn_id", String(250), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("subject_id", String(64), nullable=False),
    Column("message_id", String(128), nullable=False),
    Column("status", String(32), nullable=False),
    Column("first_delivery", Boolean(create_constraint=False), nullable=False),
    Column("received_at", BigInteger, nullable=False),
    Column("details", Text, nullable=False),
    Index(
        "omnimessage_event_once",
        "subject_id",
        "message_id",
        "status",
        "conn_id",
        "kind",
        unique=True,
    ),
    Index("omnimessage_event_by_connection", "conn_id", "seq"),
)

#: Of several processes that would do the same, the one that may. ``until`` is Unix time.
claim_table = Table(
    "omnimessage_claim",
    metadata,
    Column("conn_id", String(250), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("holder", String(64), nullable=False),
    Column("until", BigInteger, nullable=False),
    Column("is_done", Boolean(create_constraint=False), nullable=False),
)

consumer_table = Table(
    "omnimessage_consumer",
    metadata,
    Column("conn_id", String(250), primary_key=True),
    Column("name", String(250), primary_key=True),
    Column("position", BigInteger, nullable=False),
    Column("seen_at", BigInteger, nullable=False),
)
