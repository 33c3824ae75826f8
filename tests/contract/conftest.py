"""A sandbox, and official clients that are connected to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import pytest

from airflow_provider_omnimessage.sandbox import Sandbox

if TYPE_CHECKING:
    from messente_api import ApiClient

    Client = Callable[..., ApiClient]


@pytest.fixture(scope="module")
def _messente() -> Iterator[Sandbox]:
    with Sandbox("sandbox", "pa:ss") as running:
        yield running


@pytest.fixture
def messente(_messente: Sandbox) -> Sandbox:
    """Return an empty sandbox with its clock at noon, and credentials that the official client can send."""
    _messente.reset()
    _messente.freeze()
    _messente.set_time(datetime(2026, 11, 24, 12, tzinfo=timezone.utc))
    return _messente


@pytest.fixture
def client(messente: Sandbox) -> Iterator[Client]:
    """Return a function that builds an official client for the sandbox."""
    from messente_api import ApiClient, Configuration

    opened: list[ApiClient] = []

    def build(password: str = messente.password) -> ApiClient:
        configuration = Configuration(host=messente.url, username=messente.username, password=password, retries=False)
        opened.append(ApiClient(configuration))
        return opened[-1]

    yield build
    for each in opened:
        each.rest_client.pool_manager.clear()
