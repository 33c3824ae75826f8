"""One cluster for all tests of this folder, and a sandbox in place of Messente."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

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
def bulk_sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxClient]:
    """For thousands of messages, which would make each look at the other sandbox's messages slow."""
    with running_sandbox(tmp_path_factory.mktemp("bulk_sandbox"), "--port", "0") as announced:
        yield SandboxClient(announced["url"])


@pytest.fixture(scope="session")
def pushing_sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxClient]:
    """For the DAG that relies on reports: its clock stands still until a test moves it."""
    with running_sandbox(tmp_path_factory.mktemp("pushing_sandbox"), "--port", "0") as announced:
        sandbox = SandboxClient(announced["url"])
        sandbox.freeze()
        yield sandbox


@pytest.fixture(scope="session")
def cluster(
    tmp_path_factory: pytest.TempPathFactory,
    sandbox: SandboxClient,
    bulk_sandbox: SandboxClient,
    pushing_sandbox: SandboxClient,
) -> Iterator[Cluster]:
    # Messente's own limit would make the tests of thousands of messages two minutes longer
    for_bulk = {**bulk_sandbox.connection, "extra": {"rate_limit": 1000}}
    cluster = Cluster(
        tmp_path_factory.mktemp("cluster"),
        bundles=BUNDLES,
        connections={"omnimessage_default": sandbox.connection, "omnimessage_bulk": for_bulk},
        extra={"AIRFLOW__OMNIMESSAGE__RECEIVER": "True"},
        edge="OMNIMESSAGE_EDGE" in os.environ,
    )
    push_url = f"{cluster.home.url}/omnimessage"
    cluster.connections["omnimessage_pushed"] = {**pushing_sandbox.connection, "extra": {"push_url": push_url}}
    with running_cluster(cluster):
        yield cluster


@pytest.fixture(scope="session")
def airflow(cluster: Cluster) -> ClusterClient:
    client = ClusterClient(cluster)
    for dag_id in ("cluster_waits", "matrix_by_hand", "omnimessage_bulk", "every_mode", "failing_work"):
        client.await_dag(dag_id, 300)
    client.call("POST", "/api/v2/pools", {"name": "one_at_a_time", "slots": 1, "include_deferred": True})
    return client


@pytest.fixture(autouse=True)
def _clean(
    sandbox: SandboxClient, bulk_sandbox: SandboxClient, pushing_sandbox: SandboxClient, cluster: Cluster
) -> Iterator[None]:
    yield
    for each in (sandbox, bulk_sandbox, pushing_sandbox):
        each.clear_faults()
    sandbox.resume()
    cluster.check()
