"""On a whole Airflow: API server, scheduler with LocalExecutor, DAG processor and triggerer, each a process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from _airflow import ROOT, Airflow, AirflowHome, running_airflow

DAG_ID = "omnimessage_schedule_and_cancel"


@pytest.fixture(scope="module")
def airflow(tmp_path_factory, sandbox):
    folder: Path = tmp_path_factory.mktemp("airflow")
    connection = {**sandbox.connection, "extra": {"timezone": "Europe/Tallinn"}}
    home = AirflowHome(folder, dags=ROOT / "example_dags", connections={"omnimessage_default": json.dumps(connection)})
    with running_airflow(home):
        running = Airflow(home)
        running.await_dag(DAG_ID)
        yield running


def test_a_message_is_scheduled_handed_over_and_cancelled_before_it_is_sent(airflow, sandbox):
    run_id = airflow.run(DAG_ID)
    assert airflow.tasks(DAG_ID, run_id) == {"schedule": "success", "work": "success", "cancel": "success"}
    omnimessage_id = airflow.xcom(DAG_ID, run_id, "schedule")
    message = sandbox.message(omnimessage_id)
    assert (message["state"], message["sent_at"]) == ("cancelled", None)
    assert airflow.xcom(DAG_ID, run_id, "cancel") == [omnimessage_id]
    assert airflow.xcom(DAG_ID, run_id, "schedule", "time_to_send") == message["time_to_send"]
    assert "Cancelled" in airflow.log(run_id)


def test_the_alert_of_failed_work_goes_out_with_all_of_airflow_dead_or_alive(airflow, sandbox):
    run_id = airflow.run(DAG_ID, work_fails=True, to="+37255555556")
    assert airflow.tasks(DAG_ID, run_id) == {"schedule": "success", "work": "failed", "cancel": "upstream_failed"}
    message = sandbox.message(airflow.xcom(DAG_ID, run_id, "schedule"))
    assert (message["to"], message["state"]) == ("+37255555556", "scheduled")
    sandbox.advance(3600)
    assert sandbox.message(message["omnimessage_id"])["state"] == "delivered"


def test_no_log_shows_the_password_the_text_or_the_whole_number(airflow, sandbox):
    run_id = airflow.run(DAG_ID)
    log = airflow.log(run_id)
    assert "+37255•••55" in log
    assert "+37255555555" not in log
    assert "is late" not in log


def test_the_provider_and_its_connection_type_are_known(airflow):
    assert "airflow-provider-omnimessage" in airflow.home.run("providers", "list", "--output", "plain")
    hooks = airflow.home.run("providers", "hooks", "--output", "json")
    assert '"omnimessage"' in hooks
    assert "airflow_provider_omnimessage.hooks.omnimessage.OmnimessageHook" in hooks
