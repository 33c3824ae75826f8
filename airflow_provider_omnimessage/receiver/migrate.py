"""Migrates the receiver's tables. Processes that start at the same time wait for each other."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import column, exc, inspect, select, table, text

from airflow_provider_omnimessage.receiver.database import DatabaseError, redacted
from airflow_provider_omnimessage.receiver.store import describe
from airflow_provider_omnimessage.receiver.tables import VERSION_TABLE

if TYPE_CHECKING:
    from alembic.config import Config
    from alembic.script import ScriptDirectory
    from sqlalchemy.engine import Connection, Engine

FOLDER = Path(__file__).parent
ALEMBIC_FILE = FOLDER / "alembic.ini"
MIGRATIONS = FOLDER / "migrations"

#: PostgreSQL's advisory lock: "omnimsg" in ASCII, so that no other program uses it.
LOCK = int.from_bytes(b"omnimsg", "big")
#: Seconds to wait for another process to finish migrating.
LOCK_TIMEOUT = 60

log = logging.getLogger(__name__)

# Alembic keeps its state in globals
_one_at_a_time = threading.Lock()


def migrate(engine: Engine) -> str:
    """Migrate the tables, if necessary.

    :return: the revision of the database.
    :raises DatabaseError: if the schema is newer than this program, or cannot be changed.
    """
    try:
        with engine.connect() as connection:
            current = _revision(connection)
        if current == head():
            return current
        _require_known(current, engine)
        with _one_at_a_time, _locked(engine) as connection:
            current = _revision(connection)
            _require_known(current, engine)
            if current != head():
                log.info("Migrating the receiver's tables from %s to %s", current or "nothing", head())
                _upgrade(connection)
    except exc.SQLAlchemyError as error:
        raise DatabaseError(
            f"database: the receiver's tables in {redacted(engine.url)} could not be migrated ({describe(error)}); "
            "check that its user may create tables, or run 'airflow db migrate' as one who may"
        ) from error
    return head()


def current_revision(engine: Engine) -> str | None:
    """Return the revision of the database; ``None`` if it does not have the receiver's tables."""
    with engine.connect() as connection:
        return _revision(connection)


@cache
def head() -> str:
    """Return the newest revision that this program knows."""
    revision = _scripts().get_current_head()
    assert revision is not None
    return revision


def alembic_config() -> Config:
    """Return Alembic's configuration, without a database."""
    from alembic.config import Config

    config = Config(str(ALEMBIC_FILE))
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config


def _scripts() -> ScriptDirectory:
    from alembic.script import ScriptDirectory

    return ScriptDirectory.from_config(alembic_config())


def _revision(connection: Connection) -> str | None:
    # without Alembic, which logs two lines each time
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    revision: str | None = connection.execute(select(column("version_num")).select_from(table(VERSION_TABLE))).scalar()
    return revision


def _require_known(revision: str | None, engine: Engine) -> None:
    if revision is None or revision in {script.revision for script in _scripts().walk_revisions()}:
        return
    raise DatabaseError(
        f"database: the receiver's tables in {redacted(engine.url)} have revision {revision}, which is newer than this "
        f"program ({head()}); update airflow-provider-omnimessage here"
    )


def _upgrade(connection: Connection) -> None:
    from alembic import command

    config = alembic_config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


@contextmanager
def _locked(engine: Engine) -> Iterator[Connection]:
    """Open a connection with a transaction, and lock out other processes that migrate."""
    if engine.dialect.name == "sqlite":
        # AUTOCOMMIT, because Python's sqlite3 would commit before each CREATE TABLE otherwise
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.exec_driver_sql("ROLLBACK")
                raise
            connection.exec_driver_sql("COMMIT")
        return
    with engine.connect() as connection, connection.begin():
        if engine.dialect.name == "postgresql":
            connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}s'"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
            yield connection
        elif engine.dialect.name in ("mysql", "mariadb"):
            # MySQL commits with each CREATE TABLE, so its lock is the session's
            connection.execute(text("SELECT GET_LOCK('omnimessage_migration', :timeout)"), {"timeout": LOCK_TIMEOUT})
            try:
                yield connection
            finally:
                connection.execute(text("SELECT RELEASE_LOCK('omnimessage_migration')"))
        else:
            yield connection
