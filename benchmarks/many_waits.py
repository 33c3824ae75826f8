"""
One triggerer with 10,000 waits that all end within a minute, beside the same with 100: CPU time, and whose it is.

Airflow runs with LocalExecutor on PostgreSQL. A worker starts one wait of each run, which is copied to the others in
Airflow's database: to start 10,000 tasks takes hours on two cores, and is not what is measured. A run has at most 1,000
waits: with 10,000 mapped tasks in one run, Airflow's scheduler was killed when it used 10.8 GB of memory.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from figure import Figure
from whole_airflow import ROOT, await_waits, count, spent_at_the_end

if TYPE_CHECKING:
    from _airflow import Airflow, RunningAirflow

    from airflow_provider_omnimessage.sandbox import SandboxClient

FEW = 100
MANY = int(os.environ.get("OMNIMESSAGE_WAITS", "10000"))
#: Messages in a request, and waits in a run.
AT_A_TIME = 1000


def measure() -> list[Figure]:
    """Measure few waits and many on one Airflow."""
    from _airflow import Airflow, AirflowHome, running_airflow, running_sandbox
    from postgres import Postgres

    from airflow_provider_omnimessage.sandbox import SandboxClient

    with (
        tempfile.TemporaryDirectory() as folder,
        Postgres("max_connections=200") as postgres,
        running_sandbox(Path(folder) / "sandbox", "--port", "0") as announced,
    ):
        sandbox = SandboxClient(announced["url"])
        most = str(2 * MANY)
        home = AirflowHome(
            Path(folder) / "airflow",
            dags=ROOT / "benchmarks" / "dags",
            connections={"omnimessage_default": sandbox.airflow_conn},
            extra={
                "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": postgres.create("airflow"),
                "AIRFLOW__CORE__MAX_MAP_LENGTH": most,
                "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": most,
                "AIRFLOW__TRIGGERER__CAPACITY": most,
            },
        )
        with running_airflow(home) as processes:
            airflow = Airflow(home)
            pids = {name: processes._processes[name].pid for name in ("api-server", "scheduler", "triggerer")}
            few, many = (_spent(airflow, processes, pids, sandbox, waits) for waits in (FEW, MANY))
    print(f"  {'CPU for the end of a wait':30} {MANY:>8,} {FEW:>11,} waits")
    for process in many:
        print(f"  {process:30} {1e3 * many[process] / MANY:8.1f} ms {1e3 * few[process] / FEW:8.1f} ms")
    ours, theirs = 1e3 * sum(many.values()) / MANY, 1e3 * sum(few.values()) / FEW
    return [
        Figure(
            what=f"CPU of all of Airflow for the end of a wait, if {MANY:,} on one triggerer end within a minute",
            unit="ms",
            ours=ours,
            peer=f"the same with {FEW}",
            theirs=theirs,
            aim="not more: linear or better",
            holds=ours <= theirs,
        )
    ]


def _spent(
    airflow: Airflow, processes: RunningAirflow, pids: dict[str, int], sandbox: SandboxClient, waits: int
) -> dict[str, float]:
    """Return the CPU time of each process for the end of all waits."""
    sandbox.freeze()
    ids = _send(sandbox, waits)
    airflow.await_dag("copied")
    paths = []
    for begin in range(0, waits, AT_A_TIME):
        # a deferred wait keeps its slot, so a worker starts one wait of this run
        airflow.home.run("pools", "set", "one_at_a_time", str(begin + 1), "for one more wait", "--include-deferred")
        paths.append(_defer(airflow, ids[begin : begin + AT_A_TIME]))
        processes.check()

    def deliver_all() -> None:
        sandbox.resume()
        sandbox.advance(60)

    # the waits that stand meanwhile cost something, too
    spent, _ = spent_at_the_end(airflow, pids, paths, waits, deliver_all)
    processes.check()
    return spent


def _defer(airflow: Airflow, ids: list[str]) -> str:
    """Start a run whose waits are all deferred, and return its path."""
    from waiting import copy_deferred_wait

    run_id = airflow.trigger("copied", ids=ids)
    path = f"/api/v2/dags/copied/dagRuns/{run_id}"
    await_waits(len(ids), lambda: count(airflow, path, "deferred") == 1, "one wait is deferred")
    copy_deferred_wait(airflow.home, run_id, ids)
    await_waits(len(ids), lambda: count(airflow, path, "deferred") == len(ids), "all waits are deferred")
    return path


def _send(sandbox: SandboxClient, waits: int) -> list[str]:
    """Send messages, a thousand at a time, and return their ids."""
    from airflow_provider_omnimessage.api.messages import sms
    from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook

    os.environ["AIRFLOW_CONN_OMNIMESSAGE_DEFAULT"] = sandbox.airflow_conn
    ids: list[str] = []
    with OmnimessageHook() as hook:
        for begin in range(0, waits, AT_A_TIME):
            numbers = range(begin, min(waits, begin + AT_A_TIME))
            # no number of these ends like those that the sandbox treats in a special way
            bodies = [hook.compose(f"+3725{number:06}9", [sms("a")]) for number in numbers]
            ids += [each.omnimessage_id for each in hook.post_bulk(bodies)]
    return ids
