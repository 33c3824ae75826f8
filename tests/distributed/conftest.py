"""One cluster for all tests of this folder, and a sandbox in place of Messente."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from _airflow import ROOT, running_sandbox
from _cluster import Cluster, running_cluster
from client import ClusterClient

from airflow_provider_omnimessage.sandbox import SandboxClient

BUNDLES = {
    "cluster": Path(__file__).parent / "dags",
    "examples": ROOT / "example_dags",
    "matrix": ROOT / "tests" / "matrix" / "dags",
    "system": ROOT / "tests" / "system" / "dags",
    "alerts": ROOT / "tests" / "system" / "alert_dags",
}


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxClient]:
    with running_sandbox(tmp_path_factory.mktemp("sandbox"), "--port", "0") as announced:
        yield SandboxClient(announced["url"])


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory, sandbox: SandboxClient) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    with running_cluster(
        Cluster(folder, bundles=BUNDLES, connections={"omnimessage_default": sandbox.connection})
    ) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def airflow(cluster: Cluster) -> ClusterClient:
    client = ClusterClient(cluster)
    for dag_id in ("cluster_deadline", "matrix_by_hand", "omnimessage_bulk", "many_waits", "omnimessage_outage"):
        client.await_dag(dag_id)
    return client


@pytest.fixture(autouse=True)
def _clean(sandbox: SandboxClient, cluster: Cluster) -> Iterator[None]:
    yield
    sandbox.clear_faults()
    sandbox.resume()
    cluster.check()


@pytest.fixture
def eventually() -> Callable[..., Any]:
    def wait(condition: Callable[[], Any], what: str, seconds: float = 120) -> Any:
        """Poll until a condition holds, and return its value."""
        deadline = time.monotonic() + seconds
        while not (value := condition()):
            assert time.monotonic() < deadline, f"still not: {what}"
            time.sleep(0.2)
        return value

    return wait
