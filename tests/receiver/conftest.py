from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from receivers import RunningReceiver

    from airflow_provider_omnimessage.receiver.store import Store
    from airflow_provider_omnimessage.sandbox import Sandbox


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Migrate one database, which the others are copies of."""
    from airflow_provider_omnimessage.receiver.database import open_url
    from airflow_provider_omnimessage.receiver.migrate import migrate

    path = tmp_path_factory.mktemp("migrated") / "receiver.db"
    engine = open_url(f"sqlite:///{path}")
    migrate(engine)
    engine.dispose()
    return path


@pytest.fixture
def database(migrated: Path, tmp_path: Path) -> str:
    """Return the URL of a database with the receiver's tables."""
    shutil.copy(migrated, tmp_path / "receiver.db")
    return f"sqlite:///{tmp_path}/receiver.db"


@pytest.fixture
def store(database: str) -> Store:
    from airflow_provider_omnimessage.receiver.database import open_url
    from airflow_provider_omnimessage.receiver.store import Store

    return Store(open_url(database))


@pytest.fixture
def receiver(database: str) -> Iterator[RunningReceiver]:
    from receivers import RunningReceiver

    with RunningReceiver(database) as running:
        yield running


@pytest.fixture
def pushing_sandbox(sandbox: Sandbox, receiver: RunningReceiver, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    """A sandbox that posts its reports to the receiver, through the connection's push_url."""
    from receivers import CONN_ID

    connection = {**sandbox.connection, "extra": {"push_url": receiver.url}}
    monkeypatch.setenv(f"AIRFLOW_CONN_{CONN_ID.upper()}", json.dumps(connection))
    sandbox.freeze()
    return sandbox
