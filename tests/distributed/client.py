"""The cluster's Airflow, as the tests see it: runs, task instances and logs, through outages too."""

from __future__ import annotations

import http.client
import time
import urllib.error
import uuid
from collections.abc import Mapping
from typing import Any

from _airflow import Airflow
from _cluster import Cluster


class ClusterClient(Airflow):
    """The cluster's Airflow, seen through its REST API, and the logs of all its hosts."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        super().__init__(cluster.home)

    def persist(self, method: str, path: str, body: object = None, seconds: float = 120) -> Any:
        """Call the API until it responds: repeat the call while a server is down.

        :raises urllib.error.HTTPError: for a 4xx response.
        """
        deadline = time.monotonic() + seconds
        while True:
            try:
                return self.call(method, path, body)
            except (OSError, http.client.HTTPException) as error:
                if time.monotonic() > deadline or (
                    isinstance(error, urllib.error.HTTPError) and 400 <= error.code < 500
                ):
                    raise
                time.sleep(0.5)

    def trigger(self, dag_id: str, **conf: object) -> str:
        """Start a run, and return its id."""
        run_id = f"run-{uuid.uuid4().hex}"
        body = {"dag_run_id": run_id, "conf": conf, "logical_date": None}
        try:
            self.persist("POST", f"/api/v2/dags/{dag_id}/dagRuns", body)
        except urllib.error.HTTPError as error:
            if error.code != 409:  # an earlier request was carried out although its response was lost
                raise
        return run_id

    def instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return all task instances of a run."""
        found: list[dict[str, Any]] = []
        while True:
            path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances?limit=100&offset={len(found)}"
            page = self.persist("GET", path)
            found += page["task_instances"]
            if len(found) >= page["total_entries"] or not page["task_instances"]:
                return found

    def await_runs(self, runs: Mapping[str, str], seconds: float = 600) -> dict[str, str]:
        """Wait until runs have ended, and return their states.

        :param runs: the DAG of each run id.
        """
        deadline = time.monotonic() + seconds
        ended: dict[str, str] = {}
        while len(ended) < len(runs):
            for run_id, dag_id in runs.items():
                if run_id not in ended:
                    state = self.persist("GET", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}")["state"]
                    if state in ("success", "failed"):
                        ended[run_id] = state
            if time.monotonic() > deadline:
                late = {
                    dag_id: self.instances_in_words(dag_id, run) for run, dag_id in runs.items() if run not in ended
                }
                raise AssertionError(f"not ended: {late}")
            time.sleep(0.5)
        return ended

    def in_words(self, dag_id: str, run_id: str) -> dict[str, str]:
        """Return the state, host and try of each task of a run."""
        return {
            f"{one['task_id']}[{one['map_index']}]": f"{one['state']} on {one['hostname']} (try {one['try_number']})"
            for one in self.instances(dag_id, run_id)
        }

    def log(self, run_id: str, task_id: str = "") -> str:
        """Return the logs of a run, of all hosts."""
        marks = (f"run_id={run_id}/", f"task_id={task_id}/" if task_id else "")
        paths = sorted((self.cluster.folder / "hosts").rglob("*.log*"))
        return "".join(path.read_text(errors="replace") for path in paths if all(mark in str(path) for mark in marks))
