"""What a killed task has scheduled, and what a Variable still holds: it stands until something newer does."""

# ruff: noqa: AIR311 - the Variable of the SDK needs a running task
from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone

import pytest
from airflow.models import Variable
from airflow.providers.standard.operators.empty import EmptyOperator
from full_size import full_size

from airflow_provider_omnimessage.alerts import DeadMansSwitch, HeartbeatOperator
from airflow_provider_omnimessage.alerts.beats import HeartbeatState, HeartbeatStore

TO = "+37255555555"
LATER = (datetime.now(timezone.utc) + timedelta(hours=1)).isoformat()
SWITCH = {"to": TO, "text": "late", "within": timedelta(hours=2), "next_run_within": timedelta(minutes=30)}


@pytest.fixture
def die_after_storing_an_id(monkeypatch):
    """Let the task be killed, once, after it has stored the id of what it has scheduled, and before anything else."""
    whole = HeartbeatStore.write_patiently

    def write_and_die(self, state):
        monkeypatch.setattr(HeartbeatStore, "write_patiently", whole)
        whole(self, state)
        raise SystemExit("as a kill would end it")

    monkeypatch.setattr(HeartbeatStore, "write_patiently", write_and_die)


def changes(sandbox):
    """The requests that scheduled or cancelled something."""
    return [call["method"] for call in sandbox.requests if call["status"] in (201, 202)]


def test_the_message_of_a_first_beat_that_was_killed_stands_until_another_does(
    dag, run_dag, sandbox, die_after_storing_an_id
):
    HeartbeatOperator(task_id="beat", to=TO, grace=timedelta(minutes=15))
    assert run_dag(dag).state == "failed"
    sandbox.add_fault("unauthorized", call="send", times=1)
    assert run_dag(dag).state == "failed"
    assert [message["state"] for message in sandbox.messages] == ["scheduled"]
    assert run_dag(dag).state == "success"
    assert [message["state"] for message in sandbox.messages] == ["cancelled", "scheduled"]
    assert changes(sandbox) == ["POST", "POST", "DELETE"]


@full_size
def test_the_alert_of_a_killed_next_run_stands_until_its_retry_has_scheduled_another(
    dag, run_dag, sandbox, die_after_storing_an_id
):
    with DeadMansSwitch("report", **SWITCH) as switch:
        EmptyOperator(task_id="work")
    dag.task_dict[switch.task_id_of("next_run")].retry_delay = timedelta(0)
    sandbox.add_fault("unauthorized", call="send", after=2, times=1)
    run = run_dag(dag)
    assert run.tasks["report.next_run"] == "failed"
    assert [message["state"] for message in sandbox.messages] == ["cancelled", "scheduled"]
    run_dag(dag)
    assert [message["state"] for message in sandbox.messages] == ["cancelled"] * 3 + ["scheduled"]


def test_of_what_was_left_the_newest_for_each_recipient_stands():
    state = HeartbeatState(
        live=["sent"],
        left=["a1", "b1", "a2", "passed", "ended"],
        times={**dict.fromkeys(["a1", "b1", "a2", "ended"], LATER), "sent": "2026-01-01T00:00:00+00:00"},
        owners={"a1": "a", "a2": "a", "b1": "b", "passed": "c"},
    )
    state.take_over_left()
    assert (state.live, state.left, state.is_partial) == (["sent", "a2", "b1"], ["a1", "passed", "ended"], True)
    state.take_over_left()
    assert state.left == ["a1", "passed", "ended"], "something stands"


@full_size
def test_the_alert_in_a_state_that_a_later_version_wrote_is_cancelled(dag, run_dag, sandbox):
    variable = f"omnimessage_next_run__{dag.dag_id}__report"
    with DeadMansSwitch("report", **SWITCH):
        EmptyOperator(task_id="work")
    for states in (["scheduled"], ["cancelled", "scheduled"]):
        run = run_dag(dag)
        assert run.tasks["report.next_run"] == "success"
        found = [message["state"] for message in sandbox.messages if "no run" in message["body"]["messages"][0]["text"]]
        assert found == states
        Variable.set(variable, json.dumps({**json.loads(Variable.get(variable)), "later_version": True}))


@pytest.mark.parametrize("last_run", [{"due": LATER}, {"x": LATER}])
def test_a_last_run_that_is_not_whole_is_unknown_and_costs_no_id(last_run):
    state = HeartbeatState.read({"live": ["id"], "last_run": last_run})
    assert (state.live, state.last_run) == (["id"], {})
