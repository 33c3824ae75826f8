"""While Airflow's API server does not respond, ids that are known are not lost, and an alert is still scheduled."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace

import pytest
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import task
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
from full_size import full_size

from airflow_provider_omnimessage._compat import TaskMemory
from airflow_provider_omnimessage.alerts.deadman import DeadMansSwitch
from airflow_provider_omnimessage.api.messages import sms
from airflow_provider_omnimessage.bulk.memory import BulkMemory
from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook
from airflow_provider_omnimessage.operators.bulk import ScheduleBulkOmnimessageOperator
from airflow_provider_omnimessage.tasks import posting

SOON = timedelta(hours=1)
ALERT = {"to": "+37255555555", "text": "Late", "time_to_send": SOON}


@pytest.fixture
def outage(monkeypatch):
    """Let the API server fail so many calls, from the moment on that a message was accepted."""
    state = SimpleNamespace(after=1, calls=0, posts=0, failed=0)

    def during_posts(name):
        post = getattr(OmnimessageHook, name)

        def posting_then_down(*args, **kwargs):
            result = post(*args, **kwargs)
            state.posts += 1
            return result

        monkeypatch.setattr(OmnimessageHook, name, posting_then_down)

    def fails(owner, name):
        call = getattr(owner, name)

        def failing(*args, **kwargs):
            if state.posts >= state.after and state.failed < state.calls:
                state.failed += 1
                raise OSError("the API server is gone")
            return call(*args, **kwargs)

        monkeypatch.setattr(owner, name, failing)

    during_posts("post")
    during_posts("post_bulk")
    fails(TaskMemory, "keep")
    fails(BulkMemory, "keep_batch")
    fails(RuntimeTaskInstance, "xcom_push")
    return state


@pytest.fixture
def stored(monkeypatch):
    """Return the ids of the alerts that were stored last."""
    ids = []
    keep = TaskMemory.keep

    def keeping(self, value):
        keep(self, value)
        ids[:] = [row["omnimessage_id"] for row in value.get("alerts", ())]

    monkeypatch.setattr(TaskMemory, "keep", keeping)
    return ids


def test_an_alert_is_stored_when_the_api_server_is_back(stored, outage, dag, run_dag, sandbox):
    outage.calls = 9
    with DeadMansSwitch("by_nine", **{**ALERT, "to": [ALERT["to"], "+37255555556"]}):
        EmptyOperator(task_id="work")
    run = run_dag(dag)
    assert outage.failed == 9
    assert run.tasks["by_nine.arm"] == run.tasks["by_nine.disarm"] == "success"
    assert sorted(stored) == sorted(message["omnimessage_id"] for message in sandbox.messages)
    assert [message["state"] for message in sandbox.messages] == ["cancelled"] * 2
    assert "could not be stored yet; trying again" in run.log


def test_arm_waits_for_the_api_server_before_it_schedules(outage, dag, run_dag, sandbox, monkeypatch):
    """If it is killed while it waits, nothing is scheduled that its retry does not know."""
    outage.after, outage.calls = 0, 9
    failed_before = []
    post = OmnimessageHook.post

    def recording(*args, **kwargs):
        failed_before.append(outage.failed)
        return post(*args, **kwargs)

    monkeypatch.setattr(OmnimessageHook, "post", recording)
    with DeadMansSwitch("by_nine", **ALERT):
        EmptyOperator(task_id="work")
    run = run_dag(dag)
    assert failed_before == [9]
    assert run.tasks["by_nine.disarm"] == "success"
    assert [message["state"] for message in sandbox.messages] == ["cancelled"]


@full_size
def test_if_the_api_server_does_not_come_back_the_alert_is_scheduled_anyway(outage, dag, run_dag, sandbox):
    outage.after, outage.calls = 0, 10_000
    with DeadMansSwitch("by_nine", **{**ALERT, "to": [ALERT["to"], "+37255555556"]}):
        EmptyOperator(task_id="work")
    run = run_dag(dag)
    assert sorted(message["to"] for message in sandbox.messages) == [ALERT["to"], "+37255555556"]
    assert run.log.count("That an alert is about to be scheduled could not be stored: a retry will not know it") == 1


@full_size
def test_a_retry_that_knows_nothing_says_where_to_look(dag, run_dag, clear_and_run, sandbox, monkeypatch):
    compose, calls = OmnimessageHook.compose, []

    def dying_once(*args, **kwargs):
        calls.append(1)
        if len(calls) == 1:
            raise SystemExit("killed")
        return compose(*args, **kwargs)

    monkeypatch.setattr(OmnimessageHook, "compose", dying_once)
    with DeadMansSwitch("by_nine", **ALERT):
        EmptyOperator(task_id="work")
    run = run_dag(dag)
    assert run.tries["by_nine.arm"] == 2
    assert run.log.count("No earlier try of this task has stored anything") == 1
    again = clear_and_run(dag, run)
    assert "No earlier try of this task has stored anything" not in again.log


@full_size
def test_what_arm_pushes_does_not_keep_it_from_scheduling(dag, run_dag, sandbox, monkeypatch):
    push, pushes = RuntimeTaskInstance.xcom_push, []

    def failing_first(self, key, value):
        pushes.append(key)
        if pushes.count(key) == 1:
            raise OSError("the API server is gone")
        push(self, key, value)

    monkeypatch.setattr(RuntimeTaskInstance, "xcom_push", failing_first)
    with DeadMansSwitch("by_nine", **ALERT):
        EmptyOperator(task_id="work")
    run = run_dag(dag)
    (message,) = sandbox.messages
    assert message["state"] == "cancelled"
    assert run.xcom("by_nine.arm", "time_to_send")
    assert "The XCom 'time_to_send' is pushed at the end of the task: the API server is gone" in run.log


@full_size
def test_an_alert_that_disarm_sends_is_stored_too(stored, outage, dag, run_dag, sandbox):
    outage.after, outage.calls = 2, 6
    with DeadMansSwitch("by_nine", **ALERT, on_failure="send_now"):

        @task
        def work():
            raise ValueError

        work()
    run = run_dag(dag)
    assert run.tasks["by_nine.disarm"] == "failed"
    assert outage.failed == 6
    assert stored == [sandbox.messages[-1]["omnimessage_id"]]


def test_a_batch_is_stored_when_the_api_server_is_back(outage, dag, run_dag, sandbox):
    outage.calls = 2
    ScheduleBulkOmnimessageOperator(
        task_id="send",
        recipients=[{"to": f"+37255557{number:03}"} for number in range(20)],
        messages=[sms("x")],
        time_to_send=SOON,
        batch_size=10,
        parallel=1,
        retries=1,
        retry_delay=timedelta(0),
    )
    run = run_dag(dag)
    assert (run.state, run.tries) == ("success", {"send": 2})
    assert len(sandbox.messages) == 20, "each recipient once"
    assert run.xcom("send")["accepted"] == 20, "the retry knows the batch that the first try stored in the end"
    assert "is stored when the others have been posted: the API server is gone" in run.log


class TestKeepTrying:
    """For ten minutes, or until the task is interrupted."""

    def test_it_ends_after_ten_minutes(self, pauses, caplog):
        tries = []

        def store():
            tries.append(1)
            raise OSError("down")

        posting.keep_trying(store, "it", logging.getLogger("task"))
        assert 500 < sum(pauses) <= posting.PATIENCE
        assert len(tries) == len(pauses) + 1
        assert "it could not be stored: a retry will not know it" in caplog.text

    def test_an_interrupted_task_ends_at_once(self, caplog):
        def store():
            raise OSError("down")

        waits = []
        posting.keep_trying(store, "it", logging.getLogger("task"), wait=lambda pause: waits.append(pause) or True)
        assert waits == [1.0]


@pytest.mark.parametrize("run_id", ["scheduled__2026-12-01T00:00:00+00:00", "manual__a", "manual__b"])
def test_five_minutes_without_an_api_server_leave_a_try_that_schedules_the_alert(dag, next_retry_datetime, run_id):
    from airflow.serialization.serialized_objects import DagSerialization

    with DeadMansSwitch("by_nine", **ALERT):
        EmptyOperator(task_id="work")
    arm = DagSerialization.from_dict(DagSerialization.to_dict(dag)).get_task("by_nine.arm")
    end = datetime(2026, 12, 1, tzinfo=timezone.utc)

    def delay(try_number):
        attempt = SimpleNamespace(
            task=arm, try_number=try_number, end_date=end, dag_id="d", task_id=arm.task_id, logical_date=run_id
        )
        attempt.retry_delay_override = None
        return next_retry_datetime(attempt) - end

    # the last try only keeps what earlier ones have scheduled
    delays = [delay(try_number) for try_number in range(1, arm.retries)]
    assert delays[0] <= timedelta(seconds=40)
    assert sum(delays, timedelta(0)) >= timedelta(minutes=5)
