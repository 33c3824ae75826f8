"""
Guarded work on a running Airflow.

Ten shapes of it run as in a plain task group, and their alert waits unless they are done. Then escalations: their
arming is killed, and after it all of Airflow.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest
from _airflow import Airflow
from waiting import eventually

DAGS = Path(__file__).parent / "guarded_dags"
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
def processes(start_airflow):
    return start_airflow(DAGS, {"AIRFLOW__CORE__PARALLELISM": "6"})


@pytest.fixture(scope="module")
def airflow(processes):
    running = Airflow(processes.home)
    running.await_dag("escalates")
    return running


@pytest.fixture(scope="module")
def runs(airflow):
    """Run all shapes at the same time, and return the state of each run and of its tasks."""
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


def alerts(sandbox, to):
    return [message for message in sandbox.messages if message["to"] == to]


def states(sandbox, to):
    return [message["state"] for message in alerts(sandbox, to)]


def test_killed_between_steps_the_retry_knows_and_cancels_what_was_armed(airflow, sandbox, tmp_path):
    to = "+37255558001"
    run_id = airflow.trigger("escalates", to=to, done=str(tmp_path / "done"), kill=True)
    eventually(lambda: airflow.tasks("escalates", run_id).get("by_nine.arm") == "success", "arming is repeated")
    assert states(sandbox, to) == ["scheduled"] * 3, "none twice"
    assert "is scheduled already" in airflow.log(run_id)
    (tmp_path / "done").touch()
    eventually(lambda: states(sandbox, to) == ["cancelled"] * 3, "all are cancelled")


def test_with_airflow_killed_after_arming_all_steps_go_out_at_their_times(airflow, processes, sandbox, tmp_path):
    to = "+37255558002"
    run_id = airflow.trigger("escalates", to=to, done=str(tmp_path / "done"), kill=False)
    eventually(lambda: airflow.tasks("escalates", run_id).get("by_nine.work") == "running", "the work begins")
    processes.kill()
    begin = datetime.fromisoformat(alerts(sandbox, to)[0]["time_to_send"])
    for sent, minutes in ((0, -1), (1, 1), (1, 14), (2, 16), (2, 29), (3, 31)):
        sandbox.set_time(begin + timedelta(minutes=minutes))
        assert len([state for state in states(sandbox, to) if state != "scheduled"]) == sent, minutes
    assert [message["body"]["messages"][0]["text"] for message in alerts(sandbox, to)] == [
        f"Late: {run_id}",
        f"2nd notice: Late: {run_id}",
        f"Call: {run_id}",
    ]
