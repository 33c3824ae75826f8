"""Ten shapes of work on a running Airflow run as in a plain task group, and their alert waits unless they are done."""

from __future__ import annotations

from pathlib import Path

import pytest
from _airflow import Airflow

DAGS = Path(__file__).parent / "shape_dags"
#: Whether the work of each shape is done at its end.
SHAPES = {
    "chain": True,
    "fan": False,
    "nested": False,
    "mapped": False,
    "nothing_to_do": True,
    "mapped_group": True,
    "branch": True,
    "short_circuit": True,
    "setup_and_teardown": False,
    "retried": True,
}
OWN = ("before_arm", "arm", "after_arm", "disarm")


@pytest.fixture(scope="module")
def runs(start_airflow):
    """Run all DAGs at the same time, and return the state of each run and of its tasks."""
    airflow = Airflow(start_airflow(DAGS, {"AIRFLOW__CORE__PARALLELISM": "6"}).home)
    dag_ids = [f"{kind}_{shape}" for shape in SHAPES for kind in ("plain", "guarded")]
    for dag_id in dag_ids:
        airflow.await_dag(dag_id)
    run_ids = {dag_id: airflow.trigger(dag_id) for dag_id in dag_ids}
    return {dag_id: end_of(airflow, dag_id, run_id) for dag_id, run_id in run_ids.items()}


def end_of(airflow, dag_id, run_id):
    """Return the state of a run that has ended, and of its task instances."""
    state = airflow.await_end(dag_id, run_id, seconds=400)
    found = airflow.call("GET", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances")["task_instances"]
    return state, {(task["task_id"], task["map_index"]): task["state"] for task in found}


@pytest.mark.parametrize(("number", "shape"), enumerate(SHAPES), ids=SHAPES)
def test_the_work_runs_as_in_a_plain_group_and_is_guarded(runs, sandbox, number, shape):
    state, tasks = runs[f"guarded_{shape}"]
    own = {name: tasks.pop((f"work.{name}", -1)) for name in OWN}
    work = {key: found for key, found in tasks.items() if not key[0].endswith("_ended")}
    assert (state, work) == runs[f"plain_{shape}"]
    (alert,) = [message for message in sandbox.messages if message["to"] == f"+3725555{4100 + number}"]
    is_done = SHAPES[shape]
    assert own["arm"] == "success"
    assert own["disarm"] == ("success" if is_done else "failed")
    assert alert["state"] == ("cancelled" if is_done else "scheduled")
