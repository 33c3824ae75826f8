"""A sandbox in a process of its own for each module, and waiting for what a running Airflow does in its own time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from _airflow import running_sandbox

from airflow_provider_omnimessage.sandbox import SandboxClient


@pytest.fixture(scope="module")
def sandbox_password() -> str:
    """The API password; a module with a fixture of this name chooses its own."""
    return "sandbox"


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory, sandbox_password: str) -> Iterator[SandboxClient]:
    """Run a sandbox on a port of its own."""
    options = ("--port", "0", "--password", sandbox_password)
    with running_sandbox(tmp_path_factory.mktemp("sandbox"), *options) as announced:
        yield SandboxClient(announced["url"], password=sandbox_password)
