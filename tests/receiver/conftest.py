from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from running import RunningReceiver

from airflow_provider_omnimessage.receiver.database import open_url
from airflow_provider_omnimessage.receiver.migrate import migrate
from airflow_provider_omnimessage.receiver.store import Store


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
