"""Give the tests an Airflow of their own: a home in a temporary folder, with an empty database."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

DAGS = Path(__file__).parent.parent

# Airflow reads its settings once, when it is first imported.
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="airflow-tests-")
os.environ["AIRFLOW__CORE__DAGS_FOLDER"] = str(DAGS)
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"


@pytest.fixture(scope="session")
def database() -> None:
    """Make the tables, once."""
    from airflow.utils.db import initdb

    initdb()


@pytest.fixture
def dags(database: None) -> dict:
    """Your DAGs, by their ids, read anew for each test; one that cannot be imported fails here."""
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(str(DAGS))
    assert bag.import_errors == {}
    return bag.dags
