"""
Fixtures for the tests of DAGs, which pytest finds by itself wherever this package is installed.

Nothing but pytest is imported before a test asks for one of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from airflow_provider_omnimessage.sandbox import Sandbox


@pytest.fixture(scope="session")
def omnimessage_sandbox_options() -> Mapping[str, Any]:
    """Parameters of the sandbox; redefine it in the topmost ``conftest.py`` to have others."""
    return {}


@pytest.fixture(scope="session")
def omnimessage_conn_ids() -> Sequence[str]:
    """Airflow connections that lead to the sandbox; redefine it in the topmost ``conftest.py`` to have others."""
    return ("omnimessage_default",)


@pytest.fixture(scope="session")
def omnimessage_sandbox_server(omnimessage_sandbox_options: Mapping[str, Any]) -> Iterator[Sandbox]:
    """One sandbox for all tests of this process, on a free port of this machine. Tests ask for the one below."""
    from airflow_provider_omnimessage.sandbox import Sandbox

    with Sandbox(**omnimessage_sandbox_options) as running:
        yield running


@pytest.fixture
def omnimessage_sandbox(
    omnimessage_sandbox_server: Sandbox, omnimessage_conn_ids: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> Sandbox:
    """A sandbox as new (no messages, no faults, a clock that runs), and Airflow connections that lead to it."""
    omnimessage_sandbox_server.reset()
    for conn_id in omnimessage_conn_ids:
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", omnimessage_sandbox_server.airflow_conn)
    return omnimessage_sandbox_server
