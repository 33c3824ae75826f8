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


def test_only_the_run_that_does_not_start_alerts(airflow, processes, folder, sandbox):
    def ended(dag_id: str) -> int:
        path = f"/api/v2/dags/{dag_id}/dagRuns?state=success&limit=100"
        return int(airflow.call("GET", path)["total_entries"])

    def of_next_runs(name: str) -> list[str]:
        mine = [message for message in sandbox.messages if message["to"] == RECIPIENTS[name]]
        return [m["state"] for m in mine if "no run has started" in m["body"]["messages"][0]["text"]]

    def await_pause_between_runs(name: str) -> None:
        """Wait until no run is active: within a run, its own alert would go out, which is not what is tested here."""
        active = f"/api/v2/dags/{name}/dagRuns?state=running&state=queued&limit=1"
        eventually(
            lambda: (
                of_next_runs(name)[-1:] == ["scheduled"]
                and not airflow.call("GET", active)["total_entries"]
                and time.time() % 60 < 50
            ),
            f"{name} awaits its next run",
            seconds=180,
        )

    def kill_a_worker() -> None:
        """Kill one of the processes in which tasks run, if there is one."""
        scheduler = processes._processes["scheduler"].pid
        tasks = [
            int(stat.parent.name)
            for stat in Path("/proc").glob("[0-9]*/stat")
            if _session_of(stat) == scheduler and _is_supervisor(stat.parent)
        ]
        if tasks:
            os.kill(random.choice(tasks), signal.SIGKILL)

    def run_for(names: list[str], runs: int, *, kill: bool) -> None:
        """Let DAGs run until each has so many runs."""
        for name in names:
            airflow.call("PATCH", f"/api/v2/dags/{name}", {"is_paused": False})
        deadline = time.monotonic() + 90 * (runs + 2)
        while min(ended(name) for name in names) < runs:
            assert time.monotonic() < deadline, {name: ended(name) for name in names}
            assert set(of_next_runs(names[0])) <= {"cancelled", "scheduled"}
            if kill and random.random() < 0.05:
                kill_a_worker()
            time.sleep(1)

    # runs that start in time alert nobody, even if their workers are killed
    run_for(["in_time"], RUNS, kill=RUNS > 2)
    run_for([name for name in RECIPIENTS if name != "in_time"], 2, kill=False)
    for name in RECIPIENTS:
        await_pause_between_runs(name)
        assert set(of_next_runs(name)) <= {"cancelled", "scheduled"}
        assert of_next_runs(name).count("scheduled") <= 1

    await_pause_between_runs("paused")
    airflow.call("PATCH", "/api/v2/dags/paused", {"is_paused": True})
    await_pause_between_runs("broken")
    (folder / "broken.py").write_text("this is no Python")
    await_pause_between_runs("full")
    airflow.call("PATCH", "/api/v2/pools/full", {"pool": "full", "slots": 0})
    for name in ("paused", "broken", "full"):
        eventually(lambda name=name: "delivered" in of_next_runs(name), f"{name}: the alert goes out", seconds=480)
    # meanwhile this one has gone on
    assert set(of_next_runs("in_time")) <= {"cancelled", "scheduled"}
    assert ended("in_time") > RUNS

    await_pause_between_runs("in_time")
    processes.kill(["scheduler"])
    eventually(lambda: "delivered" in of_next_runs("in_time"), "the scheduler is dead: the alert goes out", seconds=480)


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
