"""The link 'Message' on a task, as Airflow keeps it for the page of the task."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from full_size import full_size

from airflow_provider_omnimessage.alerts import DeadMansSwitch, HeartbeatOperator
from airflow_provider_omnimessage.api.messages import sms
from airflow_provider_omnimessage.operators.omnimessage import (
    CancelScheduledMessageOperator,
    ScheduleOmnimessageOperator,
    SendOmnimessageOperator,
)

KEY = "_link_OmnimessageLink"
TO = "+37255555555"


@pytest.fixture
def dashboard(sandbox, monkeypatch):
    """Set the connection's dashboard URL to the sandbox's inbox."""

    def at(dashboard_url):
        connection = {**sandbox.connection, "extra": {"dashboard_url": dashboard_url}}
        monkeypatch.setenv("AIRFLOW_CONN_OMNIMESSAGE_DEFAULT", json.dumps(connection))

    at(f"{sandbox.inbox_url}#{{omnimessage_id}}")
    return at


def _dag():
    from airflow.sdk import DAG

    with DAG("links", schedule=None) as dag:
        schedule = ScheduleOmnimessageOperator(
            task_id="schedule", to=TO, messages=[sms("a")], time_to_send=timedelta(hours=1)
        )
        mapped = SendOmnimessageOperator.partial(task_id="mapped", messages=[sms("a")]).expand(to=[TO, "+37255555556"])
        cancel = CancelScheduledMessageOperator(task_id="cancel", omnimessage_id=schedule.output)
        schedule >> cancel >> mapped
    return dag


def test_every_task_leads_to_its_message(run_dag, sandbox, dashboard):
    run = run_dag(_dag())
    assert run.state == "success"
    ids = [message["omnimessage_id"] for message in sandbox.messages]
    assert run.xcom("schedule", KEY) == f"{sandbox.inbox_url}#{ids[0]}"
    assert run.xcom("cancel", KEY) == f"{sandbox.inbox_url}#{ids[0]}"
    assert sorted(run.xcoms("mapped", KEY)) == sorted(f"{sandbox.inbox_url}#{one}" for one in ids[1:])


@full_size
def test_an_alert_and_a_heartbeat_lead_to_theirs(run_dag, sandbox, dashboard):
    from airflow.providers.standard.operators.empty import EmptyOperator
    from airflow.sdk import DAG

    with DAG("links_of_alerts", schedule=None) as dag:
        with DeadMansSwitch("by_nine", to=TO, text="Late", time_to_send=timedelta(hours=1)):
            EmptyOperator(task_id="work")
        HeartbeatOperator(task_id="beat", to=TO, grace=timedelta(hours=1))
    run = run_dag(dag)
    texts = {
        message["body"]["messages"][0]["text"]: f"{sandbox.inbox_url}#{message['omnimessage_id']}"
        for message in sandbox.messages
    }
    beat = next(address for text, address in texts.items() if "no heartbeat" in text)
    assert run.xcom("by_nine.arm", KEY) == run.xcom("by_nine.disarm", KEY) == texts["Late"]
    assert run.xcom("beat", KEY) == beat


@full_size
def test_without_a_dashboard_there_is_no_link(run_dag, sandbox):
    run = run_dag(_dag())
    assert run.state == "success"
    assert run.xcom("schedule", KEY) == ""
    assert "Traceback" not in run.log


def test_a_task_that_failed_before_its_message_has_no_link(run_dag, sandbox, dashboard):
    sandbox.add_fault("unauthorized")
    run = run_dag(_dag())
    assert run.tasks["schedule"] == "failed"
    assert run.xcom("schedule", KEY) == ""


def test_a_dashboard_url_that_a_browser_would_run_is_rejected(run_dag, sandbox, dashboard):
    dashboard("javascript:alert(1)")
    run = run_dag(_dag())
    assert run.tasks["schedule"] == "failed"
    assert run.xcom("schedule", KEY) == ""
