"""Escalations on a whole Airflow: killed while it arms, and killed after it has armed."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest
from _airflow import Airflow
from waiting import eventually

DAGS = Path(__file__).parent / "people_dags"


@pytest.fixture(scope="module")
def processes(start_airflow):
    running = start_airflow(DAGS, {"AIRFLOW__CORE__PARALLELISM": "4"})
    Airflow(running.home).await_dag("escalates")
    return running


def alerts(sandbox, to):
    return [message for message in sandbox.messages if message["to"] == to]


def states(sandbox, to):
    return [message["state"] for message in alerts(sandbox, to)]


def test_killed_between_steps_the_retry_knows_and_cancels_what_was_armed(processes, sandbox, tmp_path):
    airflow, to = Airflow(processes.home), "+37255558001"
    run_id = airflow.trigger("escalates", to=to, done=str(tmp_path / "done"), kill=True)
    eventually(lambda: airflow.tasks("escalates", run_id).get("by_nine.arm") == "success", "arming is repeated")
    assert states(sandbox, to) == ["scheduled"] * 3, "none twice"
    assert "is scheduled already" in airflow.log(run_id)
    (tmp_path / "done").touch()
    eventually(lambda: states(sandbox, to) == ["cancelled"] * 3, "all are cancelled")


def test_with_airflow_killed_after_arming_all_steps_go_out_at_their_times(processes, sandbox, tmp_path):
    airflow, to = Airflow(processes.home), "+37255558002"
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
