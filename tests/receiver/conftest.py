from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from receivers import CONN_ID, RunningReceiver

from airflow_provider_omnimessage.receiver.database import open_url
from airflow_provider_omnimessage.receiver.migrate import migrate
from airflow_provider_omnimessage.receiver.store import Store

if TYPE_CHECKING:
    from airflow_provider_omnimessage.sandbox import Sandbox


@pytest.fixture
def database(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/receiver.db"


@pytest.fixture
def store(database: str) -> Store:
    engine = open_url(database)
    migrate(engine)
    return Store(engine)


@pytest.fixture
def receiver(database: str) -> Iterator[RunningReceiver]:
    with RunningReceiver(database) as running:
        yield running


@pytest.fixture
def pushing_sandbox(sandbox: Sandbox, receiver: RunningReceiver, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    """A sandbox that posts its reports to the receiver, through the connection's push_url."""
    connection = {**sandbox.connection, "extra": {"push_url": receiver.url}}
    monkeypatch.setenv(f"AIRFLOW_CONN_{CONN_ID.upper()}", json.dumps(connection))
    sandbox.freeze()
    return sandbox
