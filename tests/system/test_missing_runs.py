"""The run that never starts, on a whole Airflow: a paused DAG, a broken file, a full pool, a killed scheduler.

``OMNIMESSAGE_RUNS`` says how many runs of a DAG come in time, with killed workers between; ``--soak``
makes it 50.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from _airflow import Airflow, RunningAirflow
from waiting import eventually
from whole_airflow import DETECTS_DEAD_WORKERS

from airflow_provider_omnimessage.sandbox import Sandbox

DAG_FILE = '''
from datetime import datetime, timedelta, timezone

from airflow.sdk import DAG, task

from airflow_provider_omnimessage.alerts import DeadMansSwitch

with (
    DAG(
        "{name}", schedule="* * * * *", start_date=datetime(2026, 1, 1, tzinfo=timezone.utc), catchup=False,
        max_active_runs=1,
    ),
    DeadMansSwitch(
        "switch", to="{to}", text="late {{{{ run_id }}}}", within=timedelta(minutes=30), pool="{name}",
        next_run_within=timedelta(minutes=2),
    ),
):

    @task(retries=2, retry_delay=timedelta(seconds=1))
    def work():
        """Take long enough to be killed."""
        import time

        time.sleep(2)

    work()
'''
#: The DAGs and their recipients: one for each way in which a next run does not start.
RECIPIENTS = {"in_time": "+37255558001", "paused": "+37255558002", "broken": "+37255558003", "full": "+37255558004"}
RUNS = int(os.environ.get("OMNIMESSAGE_RUNS", "2"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    dags = tmp_path_factory.mktemp("dags")
    for name, to in RECIPIENTS.items():
        (dags / f"{name}.py").write_text(DAG_FILE.format(name=name, to=to))
    return dags


@pytest.fixture(scope="module")
def processes(start_airflow: Callable[..., RunningAirflow], folder: Path) -> RunningAirflow:
    settings = {"AIRFLOW__CORE__PARALLELISM": "8", "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "True"}
    return start_airflow(folder, {**settings, **DETECTS_DEAD_WORKERS})


@pytest.fixture(scope="module")
def airflow(processes: RunningAirflow) -> Airflow:
    running = Airflow(processes.home)
    for name in RECIPIENTS:
        running.call("POST", "/api/v2/pools", {"name": name, "slots": 1})
        running.await_dag(name)
    return running


class Runs:
    """Runs of the DAGs, and the alerts for their next runs."""

    def __init__(self, airflow: Airflow, scheduler: int, sandbox: Sandbox) -> None:
        self._airflow = airflow
        self._scheduler = scheduler
        self._sandbox = sandbox

    def ended(self, dag_id: str) -> int:
        """Return how many runs have succeeded."""
        path = f"/api/v2/dags/{dag_id}/dagRuns?state=success&limit=100"
        return int(self._airflow.call("GET", path)["total_entries"])

    def alerts(self, dag_id: str) -> list[str]:
        """List the states of the alerts for next runs."""
        mine = [message for message in self._sandbox.messages if message["to"] == RECIPIENTS[dag_id]]
        return [m["state"] for m in mine if "no run has started" in m["body"]["messages"][0]["text"]]

    def assert_silent(self, dag_id: str) -> None:
        """Assert that no alert has gone out."""
        assert set(self.alerts(dag_id)) <= {"cancelled", "scheduled"}

    def await_pause(self, dag_id: str) -> None:
        """Wait until no run is active: within a run, its own alert would go out, which is not what is tested here."""
        active = f"/api/v2/dags/{dag_id}/dagRuns?state=running&state=queued&limit=1"
        eventually(
            lambda: (
                self.alerts(dag_id)[-1:] == ["scheduled"]
                and not self._airflow.call("GET", active)["total_entries"]
                and time.time() % 60 < 50
            ),
            f"{dag_id} awaits its next run",
            seconds=180,
        )

    def await_alert(self, dag_id: str) -> None:
        """Wait until an alert has gone out."""
        eventually(lambda: "delivered" in self.alerts(dag_id), f"{dag_id}: the alert goes out", seconds=480)

    def run_for(self, dag_ids: list[str], runs: int, *, kill: bool) -> None:
        """Let DAGs run until each has so many runs."""
        for dag_id in dag_ids:
            self._airflow.call("PATCH", f"/api/v2/dags/{dag_id}", {"is_paused": False})
        deadline = time.monotonic() + 90 * (runs + 2)
        while min(map(self.ended, dag_ids)) < runs:
            assert time.monotonic() < deadline, {dag_id: self.ended(dag_id) for dag_id in dag_ids}
            self.assert_silent(dag_ids[0])
            if kill and random.random() < 0.05:
                self._kill_a_worker()
            time.sleep(1)

    def _kill_a_worker(self) -> None:
        """Kill one of the processes in which tasks run, if there is one."""
        tasks = [
            int(stat.parent.name)
            for stat in Path("/proc").glob("[0-9]*/stat")
            if _session_of(stat) == self._scheduler and _is_supervisor(stat.parent)
        ]
        if tasks:
            os.kill(random.choice(tasks), signal.SIGKILL)


def test_only_the_run_that_does_not_start_alerts(airflow, processes, folder, sandbox):
    runs = Runs(airflow, processes._processes["scheduler"].pid, sandbox)
    # runs that start in time alert nobody, even if their workers are killed
    runs.run_for(["in_time"], RUNS, kill=RUNS > 2)
    runs.run_for([name for name in RECIPIENTS if name != "in_time"], 2, kill=False)
    for name in RECIPIENTS:
        runs.await_pause(name)
        runs.assert_silent(name)
        assert runs.alerts(name).count("scheduled") <= 1

    runs.await_pause("paused")
    airflow.call("PATCH", "/api/v2/dags/paused", {"is_paused": True})
    runs.await_pause("broken")
    (folder / "broken.py").write_text("this is no Python")
    runs.await_pause("full")
    processes.home.run("pools", "set", "full", "0", "no task fits in")
    for name in ("paused", "broken", "full"):
        runs.await_alert(name)
    # meanwhile this one has gone on
    runs.assert_silent("in_time")
    assert runs.ended("in_time") > RUNS

    runs.await_pause("in_time")
    processes.kill(["scheduler"])
    runs.await_alert("in_time")


def _session_of(stat: Path) -> int:
    try:
        return int(stat.read_text().rpartition(")")[2].split()[3])
    except OSError:
        return 0


def _is_supervisor(process: Path) -> bool:
    """Tell whether a worker runs a task: an idle one that dies may leave the queue of the others locked."""
    try:
        title = (process / "cmdline").read_bytes()
        return b"airflow worker -- LocalExecutor" in title and b"<idle>" not in title
    except OSError:
        return False
