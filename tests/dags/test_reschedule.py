"""Rescheduling: what exists in the end, for each fault and in both orders, and after a worker died in between."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from airflow_provider_omnimessage.api.errors import InvalidInputError, OmnimessageError
from airflow_provider_omnimessage.api.messages import sms
from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook
from airflow_provider_omnimessage.operators.omnimessage import RescheduleOmnimessageOperator
from airflow_provider_omnimessage.tasks.sending import DurableMessage

TO = "+37255555555"
ORDERS = ("cancel_first", "schedule_first")
LATER = "2098-11-24T09:00Z"

#: What the sandbox does to one request, or to all of them.
FAULTS = {
    "rate_limited once": {"fault": "rate_limited", "times": 1},
    "rate_limited": {"fault": "rate_limited", "retry_after": 500, "times": "always"},
    "server_error": {"fault": "server_error", "times": "always"},
    "unauthorized": {"fault": "unauthorized", "times": "always"},
    "cut": {"fault": "cut", "times": "always"},
    "lost_answer": {"fault": "lost_answer", "times": "always"},
    "broken_json": {"fault": "broken_json", "times": "always"},
    "html": {"fault": "html", "times": "always"},
    "redirect": {"fault": "redirect", "location": "https://evil.example/", "times": "always"},
}


@pytest.fixture
def old(sandbox):
    with OmnimessageHook() as hook:
        return hook.send(TO, [sms("old")], time_to_send=timedelta(hours=1)).omnimessage_id


def states(sandbox) -> dict[str, str]:
    return {message["body"]["messages"][0]["text"]: message["state"] for message in sandbox.messages}


def rescheduling(old, **settings):
    settings = {"retries": 2, "retry_delay": timedelta(0), "time_to_send": LATER, **settings}
    return RescheduleOmnimessageOperator(task_id="later", omnimessage_id=old, to=TO, messages=[sms("new")], **settings)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("call", ["cancel", "send"])
@pytest.mark.parametrize("order", ORDERS)
def test_cancel_first_never_leaves_two_and_schedule_first_never_none(sandbox, old, order, call, fault):
    sandbox.add_fault(call=call, **FAULTS[fault])
    with OmnimessageHook() as hook:
        try:
            done = hook.reschedule(old, TO, [sms("new")], order=order, time_to_send=LATER)
        except OmnimessageError:
            done = None
    alive = [text for text, state in states(sandbox).items() if state == "scheduled"]
    if order == "cancel_first":
        assert len(alive) <= 1
    else:
        assert alive
    if done is not None:
        assert alive == ["new"]
    elif call == "send" and order == "schedule_first":
        assert "old" in alive


@pytest.mark.parametrize("order", ORDERS)
def test_a_task_replaces_a_message(dag, run_dag, sandbox, old, order):
    rescheduling(old, order=order)
    run = run_dag(dag)
    assert states(sandbox) == {"old": "cancelled", "new": "scheduled"}
    assert run.xcom("later") == sandbox.messages[1]["omnimessage_id"]
    assert run.xcom("later", "time_to_send") == "2098-11-24T09:00:00+00:00"
    methods = [request["method"] for request in sandbox.requests[1:]]
    assert methods == (["DELETE", "POST"] if order == "cancel_first" else ["POST", "DELETE"])


@pytest.mark.parametrize(("if_already_sent", "state"), [("fail", "failed"), ("skip", "skipped"), ("ignore", "success")])
def test_too_late_says_what_went_out(dag, run_dag, sandbox, old, if_already_sent, state):
    sandbox.advance(timedelta(hours=2))
    rescheduling(old, order="schedule_first" if state == "skipped" else "cancel_first", if_already_sent=if_already_sent)
    run = run_dag(dag)
    assert run.tasks == {"later": state}
    assert f"Too late to reschedule: {old} has been sent already" in run.log
    assert states(sandbox)["old"] == "delivered"
    assert states(sandbox).get("new", "cancelled") == "cancelled"


@pytest.mark.parametrize("problem", [{"time_to_send": "2020-01-01T09:00Z"}, {"to": "+3725"}])
def test_nothing_is_cancelled_for_a_message_that_cannot_be_scheduled(sandbox, old, problem):
    settings = {"to": TO, "time_to_send": LATER, **problem}
    with OmnimessageHook() as hook, pytest.raises(InvalidInputError):
        hook.reschedule(old, settings.pop("to"), [sms("new")], **settings)
    assert states(sandbox) == {"old": "scheduled"}


def test_a_task_cancels_nothing_for_a_time_in_the_past(dag, run_dag, sandbox, old):
    rescheduling(old, time_to_send="2020-01-01T09:00Z")
    assert run_dag(dag).tasks == {"later": "failed"}
    assert states(sandbox) == {"old": "scheduled"}


@pytest.mark.parametrize(
    ("order", "owner", "name", "after"),
    [
        ("cancel_first", OmnimessageHook, "try_to_cancel", True),
        ("cancel_first", DurableMessage, "send", True),
        ("schedule_first", DurableMessage, "send", True),
        ("schedule_first", OmnimessageHook, "try_to_cancel", True),
    ],
)
def test_a_retry_after_a_death_in_between_ends_with_one_message(
    dag, run_dag, sandbox, old, die, order, owner, name, after
):
    rescheduling(old, order=order)
    die(owner, name, after=after)
    run = run_dag(dag)
    assert run.tasks == {"later": "success"}
    assert run.tries == {"later": 2}
    assert states(sandbox) == {"old": "cancelled", "new": "scheduled"}
    assert len(sandbox.messages) == 2
    assert run.xcom("later") == sandbox.messages[1]["omnimessage_id"]


def test_without_an_old_message_the_task_is_skipped(dag, run_dag, sandbox):
    rescheduling(None)
    assert run_dag(dag).tasks == {"later": "skipped"}
    assert sandbox.requests == []


def test_the_time_may_pass_while_the_old_message_is_being_cancelled(dag, run_dag, sandbox, old, monkeypatch):
    from airflow_provider_omnimessage.hooks import choosing

    cancel, now = OmnimessageHook.try_to_cancel, choosing.current_time

    def slowly(self, *args):
        done = cancel(self, *args)
        monkeypatch.setattr(choosing, "current_time", lambda: now() + timedelta(hours=1))
        return done

    monkeypatch.setattr(OmnimessageHook, "try_to_cancel", slowly)
    rescheduling(old, time_to_send=datetime.now(timezone.utc) + timedelta(minutes=1))
    assert run_dag(dag).tasks == {"later": "success"}
    assert states(sandbox)["old"] == "cancelled"
    assert sandbox.messages[1]["time_to_send"] is None
