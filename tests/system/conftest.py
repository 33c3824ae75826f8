"""A sandbox in a process of its own for each module, and waiting for what a running Airflow does in its own time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest
from _airflow import AirflowHome, RunningAirflow, running_airflow, running_sandbox

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


@pytest.fixture(scope="module")
def start_airflow(
    tmp_path_factory: pytest.TempPathFactory, sandbox: SandboxClient
) -> Iterator[Callable[[Path, Mapping[str, str]], RunningAirflow]]:
    """Return a function that starts a whole Airflow with a connection to the sandbox; stop it after the module."""
    with ExitStack() as running:

        def start(dags: Path, settings: Mapping[str, str]) -> RunningAirflow:
            home = AirflowHome(
                tmp_path_factory.mktemp("airflow"),
                dags=dags,
                connections={"omnimessage_default": sandbox.airflow_conn},
                extra=dict(settings),
            )
            return running.enter_context(running_airflow(home))

        yield start
