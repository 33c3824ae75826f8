"""Set up an Airflow for the tests: a home in a temporary folder, with an empty database."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

DAGS = Path(__file__).parent.parent

# Airflow reads its settings when it is first imported, so they are set before.
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="airflow-tests-")
os.environ["AIRFLOW__CORE__DAGS_FOLDER"] = str(DAGS)
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"


@pytest.fixture(scope="session")
def database() -> None:
    """Create the database, once."""
    from airflow.utils.db import initdb

    initdb()


@pytest.fixture
def dags(database: None) -> dict:
    """Parse your DAGs for each test, and return them by id. Fails if one cannot be imported."""
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(str(DAGS))
    assert bag.import_errors == {}
    return bag.dags
