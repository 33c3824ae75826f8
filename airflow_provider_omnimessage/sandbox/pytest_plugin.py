"""Fixtures for tests of DAGs. pytest finds them by itself if this package is installed.

Nothing but pytest is imported until a test uses one of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from airflow_provider_omnimessage.sandbox import Sandbox


@pytest.fixture(scope="session")
def omnimessage_sandbox_options() -> Mapping[str, Any]:
    """Return the parameters of the sandbox. Override it in the topmost ``conftest.py`` to change them."""
    return {}


@pytest.fixture(scope="session")
def omnimessage_conn_ids() -> Sequence[str]:
    """Return the Airflow connections that point at the sandbox. Override it in the topmost ``conftest.py``."""
    return ("omnimessage_default",)


@pytest.fixture(scope="session")
def omnimessage_sandbox_server(omnimessage_sandbox_options: Mapping[str, Any]) -> Iterator[Sandbox]:
    """Run one sandbox for all tests of this process, on a free port. Tests use ``omnimessage_sandbox``."""
    from airflow_provider_omnimessage.sandbox import Sandbox

    with Sandbox(**omnimessage_sandbox_options) as running:
        yield running


@pytest.fixture
def omnimessage_sandbox(
    omnimessage_sandbox_server: Sandbox, omnimessage_conn_ids: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> Sandbox:
    """Return an empty sandbox (no messages, no faults, a running clock), with Airflow connections to it."""
    omnimessage_sandbox_server.reset()
    for conn_id in omnimessage_conn_ids:
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", omnimessage_sandbox_server.airflow_conn)
    return omnimessage_sandbox_server
