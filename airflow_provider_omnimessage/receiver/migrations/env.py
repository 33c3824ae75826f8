"""Alembic's entry point: migrates the database behind the connection that ``migrate`` passes in."""

from __future__ import annotations

from alembic import context

from airflow_provider_omnimessage.receiver.tables import VERSION_TABLE, metadata

connection = context.config.attributes.get("connection")
if connection is None:
    raise RuntimeError("The receiver's migrations run through airflow_provider_omnimessage.receiver.migrate only")
context.configure(connection=connection, target_metadata=metadata, version_table=VERSION_TABLE)
with context.begin_transaction():
    context.run_migrations()
