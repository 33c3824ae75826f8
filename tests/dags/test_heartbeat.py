"""The heartbeat on real runs: one message is scheduled at any time, whatever fails, and it goes out in silence."""

# ruff: noqa: AIR311 - the Variable of the SDK needs a running task
from __future__ import annotations

import json
import re
from datetime import datetime, timedelta

import pytest
from airflow.models import Variable
from airflow.sdk import DAG

from airflow_provider_omnimessage.api.errors import InvalidInputError
from airflow_provider_omnimessage.api.messages import sms, viber
from airflow_provider_omnimessage.heartbeat import HeartbeatOperator

TO = "+37255555555"
GRACE = timedelta(minutes=15)


@pytest.fixture
def dag(request):
    with DAG(re.sub(r"\W+", "_", request.node.name), schedule=None) as dag:
        yield dag


def scheduled(sandbox):
    return [message for message in sandbox.messages if message["state"] == "scheduled"]


def test_fifty_beats_every_tenth_failing_leave_one_message_at_any_time(dag, run_dag, sandbox):
    HeartbeatOperator(task_id="beat", to=TO, grace=GRACE)
    faults = ["unauthorized", "server_error", "rate_limited", "cut", "redirect"]
    waiting = []
    for beat in range(50):
        if beat % 10 == 9:
            where = {"location": "http://127.0.0.1:9/"} if faults[0] == "redirect" else {}
            sandbox.add_fault(faults.pop(0), call="send", times="always", **where)
        run = run_dag(dag)
        sandbox.clear_faults()
        assert run.state == ("failed" if beat % 10 == 9 else "success")
        waiting.append(len(scheduled(sandbox)))
    assert waiting == [1] * 50
    assert len(sandbox.messages) == 45
    # between the beats, too: the next is scheduled before the last is cancelled
    calls = [request["method"] for request in sandbox.requests if request["status"] in (201, 202)]
    assert calls == ["POST", *["POST", "DELETE"] * 44]


def test_in_silence_the_message_goes_out_after_grace_and_says_since_when(dag, run_dag, sandbox):
    HeartbeatOperator(task_id="beat", to=TO, grace=GRACE, timezone="Europe/Tallinn")
    run_dag(dag)
    sandbox.advance(GRACE + timedelta(minutes=1))
    (message,) = sandbox.messages
    assert message["state"] == "delivered"
    text = message["body"]["messages"][0]["text"]
    said = re.fullmatch(rf"Airflow is silent: nothing heard from {dag.dag_id} since (.*) EET", text)
    local = datetime.fromisoformat(f"{said[1]}+02:00")
    assert timedelta(0) <= datetime.fromisoformat(message["time_to_send"]) - local - GRACE < timedelta(minutes=2)


def test_the_first_beat_after_a_silence_begins_anew(dag, run_dag, sandbox):
    HeartbeatOperator(task_id="beat", to=TO, grace=GRACE)
    run_dag(dag)
    sandbox.advance(GRACE + timedelta(minutes=1))
    run = run_dag(dag)
    assert run.state == "success"
    assert "Airflow is heard again" in run.log
    assert len(scheduled(sandbox)) <= 1
    run_dag(dag)
    assert [message["state"] for message in sandbox.messages][:1] == ["delivered"]


@pytest.mark.parametrize("fault", ["server_error", "rate_limited", "cut"])
def test_what_a_beat_could_not_cancel_the_next_one_does(dag, run_dag, sandbox, fault):
    HeartbeatOperator(task_id="beat", to=TO, grace=GRACE)
    run_dag(dag)
    sandbox.add_fault(fault, call="cancel", times="always")
    run = run_dag(dag)
    assert "Still to be cancelled, by the next beat" in run.log
    assert len(scheduled(sandbox)) == 2
    sandbox.clear_faults()
    run_dag(dag)
    assert len(scheduled(sandbox)) == 1


def test_a_beat_that_dies_between_scheduling_and_cancelling_leaves_nothing_behind(dag, run_dag, sandbox, monkeypatch):
    HeartbeatOperator(task_id="beat", to=TO, grace=GRACE)
    run_dag(dag)

    def die(*_):
        raise SystemExit("as a kill would end it")

    with monkeypatch.context() as patch:
        patch.setattr(HeartbeatOperator, "_cancel", die)
        run_dag(dag)
    assert len(scheduled(sandbox)) == 2
    run_dag(dag)
    assert len(scheduled(sandbox)) == 1


def test_many_recipients_have_one_message_each_or_the_last_ones(dag, run_dag, sandbox):
    both = [TO, "+37255555556"]
    HeartbeatOperator(task_id="beat", to=both, grace=GRACE, messages=[viber("{{ since }}", ttl=60), sms("{{ since }}")])
    run_dag(dag)
    first = [message["omnimessage_id"] for message in scheduled(sandbox)]
    sandbox.add_fault("unauthorized", call="send", after=1)
    run_dag(dag)
    assert [message["omnimessage_id"] for message in scheduled(sandbox)] == first
    run_dag(dag)
    assert [message["to"] for message in scheduled(sandbox)] == both


def test_a_variable_that_holds_something_else_is_written_anew(dag, run_dag, sandbox):
    HeartbeatOperator(task_id="beat", to=TO, grace=GRACE, variable="heartbeat")
    Variable.set("heartbeat", "not ours")
    run = run_dag(dag)
    assert "holds something else" in run.log
    assert json.loads(Variable.get("heartbeat")) == [scheduled(sandbox)[0]["omnimessage_id"]]


@pytest.mark.parametrize("grace", [timedelta(seconds=5), 900, None])
def test_a_grace_that_is_none_is_refused(dag, grace):
    with pytest.raises(InvalidInputError, match="grace"):
        HeartbeatOperator(task_id="beat", to=TO, grace=grace)
