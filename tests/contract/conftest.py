"""The sandbox as the official client meets it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timezone

import pytest
from messente_api import ApiClient, Configuration

from airflow_provider_omnimessage.sandbox import Sandbox

Client = Callable[..., ApiClient]


@pytest.fixture(scope="module")
def _messente() -> Iterator[Sandbox]:
    with Sandbox("sandbox", "pa:ss") as running:
        yield running


@pytest.fixture
def messente(_messente: Sandbox) -> Sandbox:
    """A sandbox as new, its clock at noon; its credentials are such that the official client can send them."""
    _messente.reset()
    _messente.freeze()
    _messente.set_time(datetime(2026, 11, 24, 12, tzinfo=timezone.utc))
    return _messente


@pytest.fixture
def client(messente: Sandbox) -> Iterator[Client]:
    """Build the official client, led to the sandbox."""
    opened: list[ApiClient] = []

    def build(password: str = messente.password) -> ApiClient:
        configuration = Configuration(host=messente.url, username=messente.username, password=password, retries=False)
        opened.append(ApiClient(configuration))
        return opened[-1]

    yield build
    for each in opened:
        each.rest_client.pool_manager.clear()
