"""Opens the receiver's database: Airflow's own, or any that SQLAlchemy supports."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sqlalchemy import create_engine, event, exc
from sqlalchemy.engine import make_url

from airflow_provider_omnimessage.receiver.store import describe

if TYPE_CHECKING:
    import sqlite3

    from sqlalchemy.engine import URL, Engine

#: Seconds to wait for a connection to the database.
CONNECT_TIMEOUT = 5

#: A URL whose user or password contains an @: SQLAlchemy would take the rest of the password for the host.
_AMBIGUOUS = re.compile(r"[^:]+://[^:/]*:[^@]*@.*@", re.DOTALL)


class DatabaseError(Exception):
    """The database cannot be used; the message says why and what to do."""


def open_database(url: str | None) -> Engine:
    """Return an engine for a database, which need not be reachable yet.

    :param url: an SQLAlchemy URL; empty or ``None``: Airflow's metadata database.
    :raises DatabaseError: if the URL cannot be used.
    """
    return open_url(url) if url else _airflow_engine()


def open_url(url: str) -> Engine:
    """Return an engine for an SQLAlchemy URL.

    :raises DatabaseError: if it is invalid, or its driver is not installed.
    """
    try:
        if _AMBIGUOUS.match(url):
            raise ValueError
        parsed = make_url(url)
        if parsed.get_backend_name() == "sqlite" and parsed.database in (None, "", ":memory:"):
            raise DatabaseError("database: SQLite in memory keeps nothing; name a file, such as sqlite:///receiver.db")
        engine = create_engine(parsed, **_options(parsed))
    except (exc.ArgumentError, ValueError):  # SQLAlchemy's own message may contain a part of the password
        raise DatabaseError(
            "database: is not an SQLAlchemy URL; use one such as postgresql+psycopg2://user:password@host/name "
            "or sqlite:///receiver.db, and write special characters of the password as in every URL, such as %40 for @"
        ) from None
    except ImportError as error:
        raise DatabaseError(
            f"database: the driver {error.name or parsed.drivername} is not installed; install it, or name another "
            "driver in the URL (postgresql+psycopg2://, postgresql+psycopg://)"
        ) from error
    if parsed.get_backend_name() == "sqlite":
        event.listen(engine, "connect", _set_up_sqlite)
    return engine


def check_reachable(engine: Engine) -> None:
    """Raise if the database cannot be reached.

    :raises DatabaseError: the message contains the address, but no password.
    """
    try:
        with engine.connect():
            pass
    except exc.SQLAlchemyError as error:
        raise DatabaseError(
            f"database: {redacted(engine.url)} cannot be reached ({describe(error)}); check the URL, the "
            "network and the database's user"
        ) from error


def redacted(url: URL) -> str:
    """Return a database's URL without password and options, for messages."""
    return f"{url.drivername}://{url.host or ''}{f':{url.port}' if url.port else ''}/{url.database or ''}"


def _options(url: URL) -> dict[str, object]:
    options: dict[str, object] = {"future": True}
    backend, driver = url.get_backend_name(), url.get_driver_name()
    if backend == "sqlite":
        return {**options, "connect_args": {"check_same_thread": False}}
    # few connections suffice: one writes, two read, and long polls hold none
    options |= {"pool_size": 3, "max_overflow": 2, "pool_pre_ping": True, "pool_recycle": 1800, "pool_timeout": 5}
    if backend in ("postgresql", "mysql"):
        options["isolation_level"] = "READ COMMITTED"
    if driver in ("psycopg2", "psycopg"):
        options["connect_args"] = {
            name: value
            for name, value in {"connect_timeout": CONNECT_TIMEOUT, "tcp_user_timeout": 15_000}.items()
            if name not in url.query
        }
    return options


def _set_up_sqlite(connection: sqlite3.Connection, record: object) -> None:
    cursor = connection.cursor()
    # so that readers do not wait for the writer
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA busy_timeout=5000")
    cursor.close()


def _airflow_engine() -> Engine:
    from airflow import settings

    engine: Engine | None = settings.engine
    if engine is None:
        settings.configure_orm()  # type: ignore[no-untyped-call]
        engine = settings.engine
    if engine is None:
        raise DatabaseError("database: this process has no access to Airflow's database; name one with --database")
    return engine
