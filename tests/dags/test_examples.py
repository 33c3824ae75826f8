"""The example DAGs, each run on Airflow against the sandbox."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from airflow.models import Variable
from full_size import full_size

from airflow_provider_omnimessage.notifications import event_store
from airflow_provider_omnimessage.sensors.omnimessage import OmnimessageDeliverySensor

EXAMPLES = Path(__file__).parent.parent.parent / "example_dags"


pytestmark = pytest.mark.usefixtures("short_waits")


@pytest.fixture(scope="module")
def examples():
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(str(EXAMPLES))
    assert bag.import_errors == {}
    for dag in bag.dags.values():
        for task in dag.tasks:
            if isinstance(task, OmnimessageDeliverySensor):
                task.poke_interval = 0.1  # the examples' own seconds suit Messente
    return bag.dags


def test_every_example_has_a_test(examples):
    tested = {name.removeprefix("test_") for name in globals() if name.startswith("test_omnimessage_")}
    assert set(examples) == tested


def test_omnimessage_schedule_and_cancel(examples, run_dag, sandbox):
    run = run_dag(examples["omnimessage_schedule_and_cancel"])
    (message,) = sandbox.messages
    assert run.state == "success"
    assert run.xcom("cancel") == [message["omnimessage_id"]]
    sandbox.advance(timedelta(hours=1))
    assert sandbox.messages[0]["sent_at"] is None


def test_its_alert_is_sent_if_the_work_fails(examples, run_dag, sandbox):
    run = run_dag(examples["omnimessage_schedule_and_cancel"], work_fails=True)
    assert run.tasks == {"schedule": "success", "work": "failed", "cancel": "upstream_failed"}
    sandbox.advance(timedelta(hours=1))
    (message,) = sandbox.messages
    assert message["state"] == "delivered"
    assert message["body"]["messages"][0]["text"].startswith("omnimessage_schedule_and_cancel is late: manual__")


@full_size
def test_omnimessage_fallback_channels(examples, run_dag, sandbox):
    run = run_dag(examples["omnimessage_fallback_channels"], to="+37255550002")
    sandbox.advance(timedelta(minutes=1))
    (message,) = sandbox.messages
    assert run.state == "success"
    assert [(status["channel"], status["status"]) for status in message["statuses"]] == [
        ("viber", "UNDELIV"),
        ("whatsapp", "DELIVRD"),
    ]


@full_size
def test_omnimessage_local_times(examples, run_dag, sandbox):
    run = run_dag(examples["omnimessage_local_times"])
    moments = [datetime.fromisoformat(value) for value in run.xcoms("schedule", "time_to_send")]
    local = [moment.astimezone(ZoneInfo("Europe/Tallinn")) for moment in moments]
    assert [moment.hour for moment in local] == [9, 9, 9]
    assert len({moment.hour for moment in moments}) == 2
    assert [message["state"] for message in sandbox.messages] == ["scheduled"] * 3


@full_size
def test_omnimessage_wait_for_delivery(examples, run_dag, sandbox):
    run = run_dag(examples["omnimessage_wait_for_delivery"])
    assert run.state == "success"
    assert run.xcom("wait")["omnimessage_id"] == run.xcom("schedule")
    assert run.xcom("use_report").startswith("delivered by viber after ")


@full_size
@pytest.mark.parametrize(
    ("to", "next_task", "output"),
    [
        ("+37255555555", "go_on", "delivered"),
        ("+37255550001", "call", "viber: Delivery failure; sms: Delivery failure"),
    ],
)
def test_omnimessage_branch_on_delivery(examples, run_dag, sandbox, to, next_task, output):
    run = run_dag(examples["omnimessage_branch_on_delivery"], to=to)
    other = {"go_on", "call"} - {next_task}
    assert run.state == "success"
    assert run.tasks[next_task] == "success"
    assert run.tasks[other.pop()] == "skipped"
    assert run.xcom(next_task) == output


def test_omnimessage_outcomes(examples, run_dag):
    """A manual run has no events. tests/system runs it on asset events."""
    assert run_dag(examples["omnimessage_outcomes"]).xcom("count") == {}


@full_size
def test_omnimessage_mapped_recipients(examples, run_dag, sandbox):
    run = run_dag(examples["omnimessage_mapped_recipients"])
    assert run.xcoms("schedule", "to") == ["+37255555551", "+12025550142", "+819012345678"]
    zones = ["Europe/Tallinn", "America/New_York", "Asia/Tokyo"]
    for moment, zone in zip(run.xcoms("schedule", "time_to_send"), zones, strict=True):
        assert datetime.fromisoformat(moment).astimezone(ZoneInfo(zone)).hour == 9
    assert [message["state"] for message in sandbox.messages] == ["scheduled"] * 3


@full_size
def test_omnimessage_dead_mans_switch(examples, run_dag, sandbox):
    run = run_dag(examples["omnimessage_dead_mans_switch"])
    assert run.state == "success"
    run_dag(examples["omnimessage_dead_mans_switch"], work_fails=True)
    assert [message["state"] for message in sandbox.messages] == ["cancelled", "scheduled"]
    sandbox.advance(timedelta(hours=1))
    assert [message["state"] for message in sandbox.messages] == ["cancelled", "delivered"]


def test_omnimessage_heartbeat(examples, run_dag, sandbox):
    run_dag(examples["omnimessage_heartbeat"])
    run_dag(examples["omnimessage_heartbeat"])
    assert [message["state"] for message in sandbox.messages] == ["cancelled", "scheduled"]
    sandbox.advance(timedelta(hours=1))
    text = sandbox.messages[1]["body"]["messages"][0]["text"]
    assert text.startswith("Airflow may be down: no heartbeat from omnimessage_heartbeat since ")


@full_size
def test_omnimessage_notifier(examples, run_dag, sandbox):
    def texts():
        return [(message["to"], message["body"]["messages"][-1]["text"]) for message in sandbox.messages]

    run_dag(examples["omnimessage_notifier"])
    assert texts() == [("+37255555555", "omnimessage_notifier: the report is ready")]
    sandbox.reset()
    run_dag(examples["omnimessage_notifier"], work_fails=True)
    failed = "work failed: the work failed because work_fails is set"
    assert texts()[:2] == [("+37255555555", failed), ("+37255555556", failed)]


@full_size
def test_omnimessage_on_call(examples, run_dag, sandbox):
    run_dag(examples["omnimessage_on_call"], work_fails=False)
    assert [message["state"] for message in sandbox.messages] == ["cancelled"] * 3
    sandbox.reset()
    run = run_dag(examples["omnimessage_on_call"], work_fails=True)
    sandbox.advance(timedelta(hours=2))
    assert [message["state"] for message in sandbox.messages] == ["delivered"] * 3
    first, second, third = sandbox.messages
    assert {first["to"], second["to"]} <= {"+37255555551", "+37255555552"}
    assert third["to"] == "+37255555553"
    late = f"Report is late: omnimessage_on_call {run.run_id}"
    assert [message["body"]["messages"][0]["text"] for message in (first, second)] == [late, f"2nd notice: {late}"]


@full_size
def test_omnimessage_storms(examples, run_dag, sandbox, monkeypatch):
    # dag.test() calls a DAG's callbacks where the SDK's Variables cannot be read; the DAG processor can
    monkeypatch.setattr(event_store, "Variable", Variable)  # noqa: AIR311
    dag = examples["omnimessage_storms"]
    run_dag(dag, work_fails=True)
    states = [(message["state"], message["body"]["messages"][0]["text"]) for message in sandbox.messages]
    assert [state for state, _ in states][1:] == ["cancelled", "scheduled"]
    assert "omnimessage_storms.load (manual__" in states[0][1]
    assert states[2][1].startswith("... and at least 2 more failures of omnimessage_storms: load (since ")
    for _ in range(2):
        run_dag(dag, work_fails=False)
    assert [message["state"] for message in sandbox.messages[1:3]] == ["cancelled", "cancelled"]
    (recovered,) = sandbox.messages[3:]
    text = recovered["body"]["messages"][0]["text"]
    assert text.startswith("omnimessage_storms recovered after ")
    assert ", 4 failures (manual__" in text


def test_omnimessage_send(examples, run_dag, sandbox):
    run = run_dag(examples["omnimessage_send"], to="+37255555556")
    message = sandbox.assert_one_sent(to="+37255555556", text="The report of 20", channels=["sms"])
    assert run.xcom("send") == message["omnimessage_id"]


@full_size
def test_omnimessage_backfills(examples, run_dag, sandbox):
    run = run_dag(examples["omnimessage_backfills"])
    sandbox.assert_one_cancelled(text="omnimessage_backfills is late: manual__")
    assert run.tasks == {"schedule": "success", "work": "success", "cancel": "success"}
    sandbox.reset()
    run = run_dag(examples["omnimessage_backfills"], days_ago=7)
    assert run.tasks == {"schedule": "skipped", "work": "success", "cancel": "skipped"}
    assert sandbox.messages == []


@full_size
def test_omnimessage_bulk(examples, run_dag, sandbox):
    run = run_dag(examples["omnimessage_bulk"], recipients=300)
    assert run.tasks == {"send": "success", "what_next": "success", "cancel": "skipped", "wait": "skipped"}
    assert {message["state"] for message in sandbox.messages} == {"scheduled"}
    hours = {datetime.fromisoformat(message["time_to_send"]).hour for message in sandbox.messages[:3]}
    assert len(hours) == 3, "nine in the morning in three zones"
    sandbox.reset()
    run = run_dag(examples["omnimessage_bulk"], recipients=30, send_now=True)
    assert run.tasks["wait"] == "success"
    assert run.xcom("wait")["delivered"] >= 29
    assert sandbox.messages[7]["body"]["messages"][0]["text"].startswith("Good morning, Customer 7!")
    sandbox.reset()
    run = run_dag(examples["omnimessage_bulk"], recipients=300, send_now=False, cancel=True)
    assert run.xcom("cancel")["cancelled"] == 300


@full_size
def test_omnimessage_nightly(examples, run_dag, sandbox):
    assert run_dag(examples["omnimessage_nightly"]).state == "success"
    assert [message["state"] for message in sandbox.messages] == ["cancelled"]


@full_size
def test_omnimessage_remind(examples, run_dag, sandbox):
    run = run_dag(examples["omnimessage_remind"])
    assert run.state == "success"
    (message,) = sandbox.messages
    assert message["state"] == "scheduled"


@full_size
def test_omnimessage_cancel_reminder(examples, run_dag, sandbox):
    """Without an event, there is nothing to cancel."""
    run = run_dag(examples["omnimessage_cancel_reminder"])
    assert run.tasks == {"reminders": "success", "cancel": "skipped"}


@full_size
def test_omnimessage_next_run(examples, run_dag, sandbox):
    run = run_dag(examples["omnimessage_next_run"])
    assert run.state == "success"
    assert [message["state"] for message in sandbox.messages] == ["cancelled", "scheduled"]
    sandbox.advance(timedelta(minutes=46))
    alert = sandbox.messages[1]
    assert alert["body"]["messages"][0]["text"].startswith("Orders are not imported: the run that was due at ")
    assert alert["state"] == "delivered"


def test_omnimessage_send_windows(examples, run_dag, sandbox):
    assert run_dag(examples["omnimessage_send_windows"]).state == "success"
    zones = ["Europe/Tallinn", "America/New_York", "Asia/Tokyo"]
    for message, zone in zip(sandbox.messages, zones, strict=True):
        local = datetime.fromisoformat(message["time_to_send"]).astimezone(ZoneInfo(zone))
        assert (local.hour, local.weekday() < 5) == (9, True)


@full_size
def test_omnimessage_reschedule(examples, run_dag, sandbox):
    run = run_dag(examples["omnimessage_reschedule"])
    assert [message["state"] for message in sandbox.messages] == ["cancelled", "scheduled"]
    assert run.xcom("reschedule") == sandbox.messages[1]["omnimessage_id"]


@full_size
def test_omnimessage_dry_run(examples, run_dag, sandbox):
    run = run_dag(examples["omnimessage_dry_run"])
    assert run.xcom("estimate")["price"] == 0.06
    assert run.xcom("send")["accepted"] == len(sandbox.messages) == 2
