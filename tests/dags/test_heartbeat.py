"""The heartbeat on real runs: one message is scheduled at any time, whatever fails, and it goes out in silence."""

# ruff: noqa: AIR311 - the Variable of the SDK needs a running task
from __future__ import annotations

import json
import re
from datetime import datetime, timedelta

import pytest
from airflow.models import Variable
from airflow.sdk import DAG
from full_size import full_size

from airflow_provider_omnimessage.alerts import HeartbeatOperator, Step
from airflow_provider_omnimessage.alerts.beats import Beat, HeartbeatStore
from airflow_provider_omnimessage.api.errors import InvalidInputError
from airflow_provider_omnimessage.api.messages import sms, viber
from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook

TO, REJECTED = "+37255555555", "+37255550005"
GRACE = timedelta(minutes=15)


def scheduled(sandbox):
    return [message for message in sandbox.messages if message["state"] == "scheduled"]


def stored(dag):
    return json.loads(Variable.get(f"omnimessage_heartbeat__{dag.dag_id}__beat"))


def waiting_after_each_request(sandbox):
    """Number of scheduled messages after each request that changed it."""
    count, counts = 0, []
    for request in sandbox.requests:
        if (request["method"], request["status"]) in (("POST", 201), ("DELETE", 202)):
            count += 1 if request["method"] == "POST" else -1
            counts.append(count)
    return counts


@pytest.fixture
def die(monkeypatch):
    """Let a beat be killed, once, after it has done one thing so many times."""

    def dying(owner, name, *, times=1):
        whole = getattr(owner, name)
        calls = []

        def method(*args, **kwargs):
            result = whole(*args, **kwargs)
            calls.append(name)
            if len(calls) == times:
                raise SystemExit("as a kill would end it")
            return result

        monkeypatch.setattr(owner, name, method)

    return dying


@full_size
def test_many_beats_of_which_some_fail_leave_one_message_at_any_time(dag, run_dag, sandbox):
    HeartbeatOperator(task_id="beat", to=TO, grace=GRACE)
    faults = ["unauthorized", "server_error", "rate_limited", "cut", "redirect"]
    waiting = []
    for beat in range(20):
        fails = beat % 4 == 3
        if fails:
            where = {"location": "http://127.0.0.1:9/"} if faults[0] == "redirect" else {}
            sandbox.add_fault(faults.pop(0), call="send", times="always", **where)
        run = run_dag(dag)
        sandbox.clear_faults()
        assert run.state == ("failed" if fails else "success")
        waiting.append(len(scheduled(sandbox)))
    assert waiting == [1] * 20
    assert len(sandbox.messages) == 15
    # between the beats, too: the next is scheduled before the last is cancelled
    assert waiting_after_each_request(sandbox) == [1, *[2, 1] * 14]


@full_size
@pytest.mark.parametrize(
    ("where", "after_the_next"),
    [
        ((Beat, "_clean_up"), 1),
        # the intent, the id, the change of roles, the end
        ((HeartbeatStore, "write", 1), 1),
        ((HeartbeatStore, "write", 2), 1),
        ((HeartbeatStore, "write", 3), 1),
        ((HeartbeatStore, "write", 4), 1),
        ((OmnimessageHook, "try_to_cancel"), 1),
        # only here does a kill leave a message that is not recorded
        ((OmnimessageHook, "post"), 2),
    ],
)
def test_a_beat_that_is_killed_leaves_one_message_and_the_next_cancels_any_other(
    dag, run_dag, sandbox, die, where, after_the_next
):
    HeartbeatOperator(task_id="beat", to=TO, grace=GRACE)
    run_dag(dag)
    owner, name, *times = where
    die(owner, name, times=times[0] if times else 1)
    assert run_dag(dag).state == "failed"
    assert len(scheduled(sandbox)) in (1, 2)
    run = run_dag(dag)
    assert len(scheduled(sandbox)) == after_the_next
    assert min(waiting_after_each_request(sandbox)) == 1
    assert max(waiting_after_each_request(sandbox)) == 1 + after_the_next
    if after_the_next == 2:
        assert "The response to a request was lost" in run.log


@full_size
def test_a_lost_response_leaves_one_unknown_message_and_each_beat_logs_until_when(dag, run_dag, sandbox):
    HeartbeatOperator(task_id="beat", to=TO, grace=GRACE)
    run_dag(dag)
    sandbox.add_fault("lost_answer", call="send", times="always")
    failed = run_dag(dag)
    sandbox.clear_faults()
    stray = sandbox.messages[-1]
    assert len(sandbox.messages) == 2, "the request is not made again"
    said = f"it goes out at {stray['time_to_send']} and cannot be cancelled from here"
    assert failed.state == "failed"
    assert said in failed.log
    assert said in run_dag(dag).log
    known = scheduled(sandbox)[-1]["omnimessage_id"]
    assert [message["omnimessage_id"] for message in scheduled(sandbox)] == [stray["omnimessage_id"], known]
    # after its time, no beat logs it any more
    sandbox.advance(GRACE + timedelta(minutes=1))
    Variable.set(
        f"omnimessage_heartbeat__{dag.dag_id}__beat",
        json.dumps({"live": [known], "left": [], "in_doubt": ["2020-01-01T00:00:00+00:00"]}),
    )
    assert "was lost" not in run_dag(dag).log


def test_if_the_network_is_cut_the_message_is_sent(dag, run_dag, sandbox):
    HeartbeatOperator(task_id="beat", to=TO, grace=GRACE)
    run_dag(dag)
    sandbox.add_fault("cut", times="always")
    assert run_dag(dag).state == "failed"
    sandbox.advance(GRACE + timedelta(minutes=1))
    assert [message["state"] for message in sandbox.messages] == ["delivered"]


@full_size
def test_while_nothing_can_be_cancelled_there_are_two_messages_and_no_more(dag, run_dag, sandbox):
    HeartbeatOperator(task_id="beat", to=TO, grace=GRACE)
    run_dag(dag)
    sandbox.add_fault("server_error", call="cancel", times="always")
    assert run_dag(dag).state == "success"
    for _ in range(3):
        run = run_dag(dag)
        assert run.state == "failed"
        assert "another would add a false alarm" in run.log
        assert len(scheduled(sandbox)) == 2
    sandbox.clear_faults()
    assert run_dag(dag).state == "success"
    assert len(scheduled(sandbox)) == 1
    assert set(waiting_after_each_request(sandbox)) == {1, 2}


@full_size
def test_an_invalid_id_in_the_variable_does_not_stop_the_beats(dag, run_dag, sandbox):
    HeartbeatOperator(task_id="beat", to=TO, grace=GRACE, variable="edited")
    Variable.set("edited", json.dumps({"live": ["no id!"], "left": ["nor this!"]}))
    run = run_dag(dag)
    assert run.state == "success"
    assert "holds an invalid id" in run.log
    assert len(scheduled(sandbox)) == 1


def test_without_beats_the_message_is_sent_after_grace_and_says_since_when(dag, run_dag, sandbox):
    HeartbeatOperator(task_id="beat", to=TO, grace=GRACE, timezone="Europe/Tallinn")
    run_dag(dag)
    sandbox.advance(GRACE + timedelta(minutes=1))
    (message,) = sandbox.messages
    assert message["state"] == "delivered"
    text = message["body"]["messages"][0]["text"]
    said = re.fullmatch(rf"Airflow may be down: no heartbeat from {dag.dag_id} since (.*) EET", text)
    local = datetime.fromisoformat(f"{said[1]}+02:00")
    assert timedelta(0) <= datetime.fromisoformat(message["time_to_send"]) - local - GRACE < timedelta(minutes=2)


@full_size
def test_the_first_beat_after_the_message_was_sent_starts_again(dag, run_dag, sandbox):
    HeartbeatOperator(task_id="beat", to=TO, grace=GRACE)
    run_dag(dag)
    sandbox.advance(GRACE + timedelta(minutes=1))
    run = run_dag(dag)
    assert run.state == "success"
    assert "was sent already, since the heartbeat did not come in time" in run.log
    assert len(scheduled(sandbox)) <= 1
    run_dag(dag)
    assert [message["state"] for message in sandbox.messages][:1] == ["delivered"]


@full_size
@pytest.mark.parametrize("fault", ["server_error", "rate_limited", "cut"])
def test_the_next_beat_cancels_what_one_could_not_cancel(dag, run_dag, sandbox, fault):
    HeartbeatOperator(task_id="beat", to=TO, grace=GRACE)
    run_dag(dag)
    sandbox.add_fault(fault, call="cancel", times="always")
    run = run_dag(dag)
    assert "the next beat tries again" in run.log
    assert len(scheduled(sandbox)) == 2
    sandbox.clear_faults()
    run_dag(dag)
    assert len(scheduled(sandbox)) == 1


@full_size
def test_many_recipients_have_one_message_each_a_new_one_or_the_last_one(dag, run_dag, sandbox):
    both = [TO, "+37255555556"]
    HeartbeatOperator(task_id="beat", to=both, grace=GRACE, messages=[viber("{{ since }}", ttl=60), sms("{{ since }}")])
    run_dag(dag)
    first = [message["omnimessage_id"] for message in scheduled(sandbox)]
    sandbox.add_fault("unauthorized", call="send", after=1)
    assert run_dag(dag).state == "failed"
    second = [message["omnimessage_id"] for message in scheduled(sandbox)]
    assert second[0] == first[1]
    assert [message["to"] for message in scheduled(sandbox)] == both[::-1]
    assert sorted(stored(dag)["live"]) == sorted(second)
    run_dag(dag)
    assert [message["to"] for message in scheduled(sandbox)] == both


@full_size
@pytest.mark.parametrize("value", ["not ours", "[]", '{"live": 5}', '{"in_doubt": ["soon"]}', '{"other": []}'])
def test_a_variable_that_holds_something_else_is_written_anew(dag, run_dag, sandbox, value):
    HeartbeatOperator(task_id="beat", to=TO, grace=GRACE, variable="heartbeat")
    Variable.set("heartbeat", value)
    run = run_dag(dag)
    assert "does not hold the state of the heartbeat" in run.log
    assert json.loads(Variable.get("heartbeat"))["live"] == [scheduled(sandbox)[0]["omnimessage_id"]]


@pytest.mark.parametrize("grace", [timedelta(seconds=5), 900, None])
def test_a_grace_that_is_not_a_duration_is_rejected(dag, grace):
    with pytest.raises(InvalidInputError, match="grace"):
        HeartbeatOperator(task_id="beat", to=TO, grace=grace)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"to": "37255555555"}, "to: "),
        ({"to": [TO, "ann"]}, "to[1]"),
        ({"to": []}, "to: is empty"),
        ({"timezone": "Europe/Talin"}, "timezone: 'Europe/Talin'"),
        ({"priority": "urgent"}, "priority: 'urgent'"),
        ({"text_store": "forever"}, "text_store: 'forever'"),
        ({"dlr_url": "example.com"}, "dlr_url: "),
        ({"messages": [{"channel": "sms"}]}, "messages[0].text"),
        ({"text": "a", "messages": [sms("a")]}, "text: found both"),
    ],
)
def test_what_is_wrong_is_an_error_while_the_dag_is_parsed(dag, arguments, named):
    with pytest.raises(InvalidInputError) as error:
        HeartbeatOperator(task_id="beat", **{"to": TO, "grace": GRACE, **arguments})
    assert named in str(error.value)


def test_one_wrong_number_fails_the_beat_and_does_not_cost_the_others_theirs(run_dag, sandbox):
    with DAG("wrong_number", schedule=None, params={"second": "ann"}) as dag:
        HeartbeatOperator(task_id="beat", to=[TO, "{{ params.second }}"], grace=GRACE)
    run = run_dag(dag)
    assert run.state == "failed"
    assert "to[1]" in run.log
    assert [message["to"] for message in scheduled(sandbox)] == [TO]


def test_a_number_that_messente_rejects_fails_the_beat_and_does_not_cost_the_others_theirs(dag, run_dag, sandbox):
    HeartbeatOperator(task_id="beat", to=[REJECTED, TO], grace=GRACE, escalate=[Step(after=GRACE, to=[REJECTED, TO])])
    for _ in range(3):
        run = run_dag(dag)
        assert run.state == "failed"
        assert "No alert for +37255•••05: " in run.log
        assert "No 2nd notice for +37255•••05: " in run.log
        assert [message["to"] for message in scheduled(sandbox)] == [TO, TO]
        assert stored(dag)["live"] == [message["omnimessage_id"] for message in scheduled(sandbox)]
        assert stored(dag)["left"] == []
    assert {message["to"] for message in sandbox.messages if message["state"] == "cancelled"} == {TO}


def test_a_step_whose_template_fails_fails_the_beat_and_costs_no_other_message(dag, run_dag, sandbox):
    steps = [Step(after=GRACE, text="{{ no.such.thing }}"), Step(after=2 * GRACE, text="since {{ since }}")]
    HeartbeatOperator(task_id="beat", to=TO, grace=GRACE, escalate=steps)
    run = run_dag(dag)
    assert run.state == "failed"
    assert "escalate[0]: its template cannot be rendered (UndefinedError); correct it" in run.log
    texts = [message["body"]["messages"][0]["text"] for message in scheduled(sandbox)]
    assert [text.partition(" ")[0] for text in texts] == ["Airflow", "since"]


def test_numbers_survive_native_rendering(run_dag, sandbox):
    with DAG("native_heartbeat", schedule=None, render_template_as_native_obj=True, params={"oncall": TO}) as dag:
        HeartbeatOperator(task_id="beat", to="{{ params.oncall }}", grace=GRACE)
    assert run_dag(dag).state == "success"
    assert [message["to"] for message in scheduled(sandbox)] == [TO]


@full_size
def test_mapped_heartbeats_keep_one_message_each(dag, run_dag, sandbox):
    both = [TO, "+37255555556"]
    HeartbeatOperator.partial(task_id="beat", grace=GRACE).expand(to=both)
    for _ in range(3):
        assert run_dag(dag).state == "success"
        assert sorted(message["to"] for message in scheduled(sandbox)) == both


@full_size
def test_a_message_whose_id_cannot_be_stored_is_cancelled_and_the_last_one_stays(dag, run_dag, sandbox, monkeypatch):
    HeartbeatOperator(task_id="beat", to=TO, grace=GRACE)
    run_dag(dag)
    last = scheduled(sandbox)
    whole = HeartbeatStore.write

    def write(store, state):
        if state.left:
            raise ConnectionError("the database is down")
        whole(store, state)

    with monkeypatch.context() as patch:
        patch.setattr(HeartbeatStore, "write", write)
        run = run_dag(dag)
    assert run.state == "failed"
    assert "those of the last beat stay scheduled" in run.log
    assert scheduled(sandbox) == last
    assert run_dag(dag).state == "success"
    assert len(scheduled(sandbox)) == 1


def test_a_store_that_fails_once_loses_nothing(dag, run_dag, sandbox, monkeypatch):
    HeartbeatOperator(task_id="beat", to=TO, grace=GRACE)
    run_dag(dag)
    whole, failed = HeartbeatStore.write, []

    def write(store, state):
        if state.left and not failed:
            failed.append(1)
            raise ConnectionError("the database is down")
        whole(store, state)

    monkeypatch.setattr(HeartbeatStore, "write", write)
    run = run_dag(dag)
    assert run.state == "success"
    assert "could not be written, trying again" in run.log
    assert len(scheduled(sandbox)) == 1
