"""A clean environment for each supported Airflow, with the built wheel in it, and what was seen there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_provider_omnimessage.sandbox import Sandbox

from .environments import HERE, Environment, build_wheel, make_venv
from .expectations import VERSIONS, Version


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build what users install."""
    return build_wheel(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="session", params=VERSIONS, ids=lambda version: version.line)
def environment(
    request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Environment]:
    """Make each version's environment in turn."""
    version: Version = request.param
    python = make_venv(version, wheel)
    with Sandbox() as sandbox:
        environment = Environment(version, tmp_path_factory.mktemp("airflow"), python, sandbox)
        environment.must("-m", "airflow", "db", "migrate")
        yield environment


@pytest.fixture(scope="session")
def report(environment: Environment) -> dict:
    """Run all DAGs of the matrix in the environment, and give what was seen."""
    written = environment.folder / "report.json"
    environment.must(HERE / "inside.py", HERE / "dags", written)
    return json.loads(written.read_text())
