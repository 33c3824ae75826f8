from __future__ import annotations

import json
import subprocess
import sys
import traceback
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from full_size import full_size
from receivers import report
from sqlalchemy import inspect, text

from airflow_provider_omnimessage.receiver.database import DatabaseError, open_url
from airflow_provider_omnimessage.receiver.events import read_report
from airflow_provider_omnimessage.receiver.migrate import MIGRATIONS, alembic_config, current_revision, head, migrate
from airflow_provider_omnimessage.receiver.store import Store
from airflow_provider_omnimessage.receiver.tables import VERSION_TABLE, metadata

MIGRATE = """
import sys
from airflow_provider_omnimessage.receiver.database import open_url
from airflow_provider_omnimessage.receiver.migrate import migrate
print(migrate(open_url(sys.argv[1])))
"""


@pytest.fixture
def database(tmp_path: Path) -> str:
    """Return the URL of a database without tables."""
    return f"sqlite:///{tmp_path}/empty.db"


def test_the_migrations_make_what_the_tables_say(database: str) -> None:
    engine = open_url(database)
    migrate(engine)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        assert compare_metadata(context, metadata) == []
    assert set(inspect(engine).get_table_names()) == {*metadata.tables, VERSION_TABLE}


def test_a_second_start_changes_nothing(database: str) -> None:
    engine = open_url(database)
    assert migrate(engine) == migrate(engine) == current_revision(engine) == head()
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM omnimessage_log")).scalar() == 1


@pytest.mark.parametrize("revision", sorted(path.stem[:4] for path in (MIGRATIONS / "versions").glob("0*.py"))[:-1])
def test_an_earlier_schema_is_migrated_and_keeps_its_events(database: str, revision: str) -> None:
    engine = open_url(database)
    migrate(engine)
    Store(engine).append([read_report("omnimessage_default", json.dumps(report("a")).encode())])
    with engine.begin() as connection:
        config = alembic_config()
        config.attributes["connection"] = connection
        command.downgrade(config, revision)
    assert current_revision(engine) == revision
    assert migrate(engine) == current_revision(engine) == head()
    assert list(Store(engine).stored("omnimessage_default", ["a"])) == ["a"]


@full_size
def test_processes_that_start_at_once_do_not_get_in_each_others_way(database: str) -> None:
    processes = [
        subprocess.Popen([sys.executable, "-c", MIGRATE, database], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    outcomes = [(process.communicate()[0].decode().split(), process.returncode) for process in processes]
    assert outcomes == [([head()], 0)] * 3


def test_a_schema_newer_than_the_program_is_left_alone(database: str) -> None:
    engine = open_url(database)
    migrate(engine)
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
    with pytest.raises(DatabaseError, match=r"revision 9999, which is newer than this program .*; update"):
        migrate(engine)
    assert current_revision(engine) == "9999"


def test_a_failed_migration_leaves_nothing_behind(database: str) -> None:
    engine = open_url(database)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE omnimessage_consumer (something_else INTEGER)"))
    with pytest.raises(DatabaseError, match="could not be migrated"):
        migrate(engine)
    assert set(inspect(engine).get_table_names()) == {"omnimessage_consumer"}


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", "is not an SQLAlchemy URL"),
        ("sqlite://", "in memory keeps nothing"),
        ("postgresql+nosuchdriver://u:secret@127.0.0.1/x", "is not an SQLAlchemy URL"),
        ("postgresql+pg8000://u:secret@127.0.0.1/x", "the driver pg8000 is not installed"),
        # a password with special characters that are not quoted
        ("postgresql+psycopg2://u:s3cr@et:secret@127.0.0.1/x", "such as %40 for @"),
        ("postgresql+psycopg2://u:s3cr@secret/x@127.0.0.1/x", "such as %40 for @"),
        ("postgresql+psycopg2://u:s3cr@secret?@127.0.0.1/x", "such as %40 for @"),
        ("postgresql+psycopg2://secret:secret/x", "is not an SQLAlchemy URL"),
    ],
)
def test_a_url_that_cannot_be_used_is_rejected_with_the_way_out(url: str, message: str) -> None:
    with pytest.raises(DatabaseError, match=message) as raised:
        open_url(url)
    assert "secret" not in "".join(traceback.format_exception(raised.value))


def test_a_url_with_a_quoted_password_is_used_as_it_is(tmp_path: Path) -> None:
    engine = open_url("postgresql+psycopg2://u@server:s%40cr%3Aet@127.0.0.1/x")
    assert (engine.url.username, engine.url.password, engine.url.host) == ("u@server", "s@cr:et", "127.0.0.1")
    assert open_url(f"sqlite:///{tmp_path}/a:b@c@d.db").url.database == f"{tmp_path}/a:b@c@d.db"
