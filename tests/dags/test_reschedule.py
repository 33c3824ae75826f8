"""Rescheduling: what exists in the end, for each fault and in both orders, and after a worker died in between."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import datetime, timedelta, timezone

import pytest
import reschedule_tries
from airflow.sdk.exceptions import AirflowFailException
from faults_of_calls import FAULTS as EVERY_FAULT
from full_size import first, full_size

from airflow_provider_omnimessage.api.errors import InvalidInputError, OmnimessageError
from airflow_provider_omnimessage.api.messages import sms
from airflow_provider_omnimessage.hooks import pacing
from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook
from airflow_provider_omnimessage.operators.omnimessage import (
    RescheduleOmnimessageOperator,
    ScheduleOmnimessageOperator,
)
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


def alive(sandbox) -> list[str]:
    return sorted(text for text, state in states(sandbox).items() if state == "scheduled")


def rescheduling(old, **settings):
    settings = {"retries": 2, "retry_delay": timedelta(0), "time_to_send": LATER, **settings}
    return RescheduleOmnimessageOperator(task_id="later", omnimessage_id=old, to=TO, messages=[sms("new")], **settings)


@pytest.mark.parametrize("call", ["cancel", "send"])
@pytest.mark.parametrize("order", ORDERS)
def test_cancel_first_never_leaves_two_and_schedule_first_never_none(sandbox, order, call):
    for name, fault in FAULTS.items():
        sandbox.reset()
        pacing.reset_paces()
        with OmnimessageHook() as hook:
            old = hook.send(TO, [sms("old")], time_to_send=timedelta(hours=1)).omnimessage_id
            sandbox.add_fault(call=call, **fault)
            try:
                done = hook.reschedule(old, TO, [sms("new")], order=order, time_to_send=LATER)
            except OmnimessageError:
                done = None
        if order == "cancel_first":
            assert len(alive(sandbox)) <= 1, name
        else:
            assert alive(sandbox), name
        if done is not None:
            assert alive(sandbox) == ["new"], name
        elif call == "send" and order == "schedule_first":
            assert "old" in alive(sandbox), name


#: Faults of the first try after which the task ends with the new message.
NO_REPEAT_HELPS = {"certificate refused", "wrong password", "redirect to another host"}
CERTAINLY_NOT_SENT = {name for name in EVERY_FAULT if name.startswith("429")} | {
    "refused",
    "DNS failure",
    "TLS failure",
}
HEALED = {
    ("cancel_first", "cancel"): set(EVERY_FAULT) - NO_REPEAT_HELPS,
    ("cancel_first", "send"): CERTAINLY_NOT_SENT,
    # the new message is known by then: a retry cancels the old one
    ("schedule_first", "cancel"): set(EVERY_FAULT) - NO_REPEAT_HELPS | {"redirect to another host"},
    ("schedule_first", "send"): CERTAINLY_NOT_SENT,
}


@full_size
@pytest.mark.parametrize(("order", "call"), HEALED)
def test_a_task_keeps_its_promise_at_any_time_whatever_fault_hits_either_call(
    sandbox, strike, monkeypatch, tmp_path, order, call
):
    least, most = (0, 1) if order == "cancel_first" else (1, 2)
    fault = ""

    def watch(name):
        whole = getattr(OmnimessageHook, name)

        def watched(hook, *args, **kwargs):
            try:
                return whole(hook, *args, **kwargs)
            finally:
                assert least <= len(alive(sandbox)) <= most, fault

        monkeypatch.setattr(OmnimessageHook, name, watched)

    def recover():
        sandbox.clear_faults()
        monkeypatch.setenv("AIRFLOW_CONN_OMNIMESSAGE_DEFAULT", connection)
        pacing.reset_paces()

    connection = os.environ["AIRFLOW_CONN_OMNIMESSAGE_DEFAULT"]
    watch("post")
    watch("try_to_cancel")
    healed = set()
    for number, fault in enumerate(EVERY_FAULT):
        sandbox.reset()
        with OmnimessageHook() as hook:
            old = hook.send(TO, [sms("old")], time_to_send=timedelta(hours=1)).omnimessage_id
        strike(fault, call)
        try:
            new_id = reschedule_tries.all_tries(order, old, str(tmp_path / str(number)), recover)
        except AirflowFailException:
            continue
        healed.add(fault)
        assert alive(sandbox) == ["new"], fault
        assert new_id == sandbox.messages[-1]["omnimessage_id"], fault
    assert healed == HEALED[order, call]


@pytest.mark.parametrize("order", ORDERS)
def test_a_task_replaces_a_message(dag, run_dag, sandbox, old, order):
    rescheduling(old, order=order)
    run = run_dag(dag)
    assert states(sandbox) == {"old": "cancelled", "new": "scheduled"}
    assert run.xcom("later") == sandbox.messages[1]["omnimessage_id"]
    assert run.xcom("later", "time_to_send") == "2098-11-24T09:00:00+00:00"
    methods = [request["method"] for request in sandbox.requests[1:]]
    assert methods == (["DELETE", "POST"] if order == "cancel_first" else ["POST", "DELETE"])


@pytest.mark.parametrize("durable", first(1, [False, True]))
@pytest.mark.parametrize(
    ("if_already_sent", "state"), first(2, [("fail", "failed"), ("skip", "skipped"), ("ignore", "success")])
)
def test_too_late_says_what_went_out(dag, run_dag, sandbox, old, if_already_sent, state, durable):
    sandbox.advance(timedelta(hours=2))
    order = "schedule_first" if state == "skipped" else "cancel_first"
    rescheduling(old, order=order, if_already_sent=if_already_sent, durable=durable)
    run = run_dag(dag)
    assert run.tasks == {"later": state}
    assert f"Too late to reschedule: {old} has been sent already" in run.log
    assert states(sandbox)["old"] == "delivered"
    assert states(sandbox).get("new", "cancelled") == "cancelled"


def test_an_order_that_a_template_renders_to_something_else_is_rejected(dag, run_dag, sandbox, old):
    rescheduling(old, order="{{ 'schedule' }}")
    run = run_dag(dag)
    assert run.tasks == {"later": "failed"}
    assert "order: 'schedule' is not accepted; use one of cancel_first, schedule_first" in run.log
    assert states(sandbox) == {"old": "scheduled"}


@pytest.mark.parametrize("fault", ["unauthorized", "lost_answer"])
def test_the_log_says_whether_the_new_message_may_be_there(dag, run_dag, sandbox, old, fault):
    sandbox.add_fault(fault, call="send", times="always")
    rescheduling(old, retries=0)
    run = run_dag(dag)
    fate = (
        "the new one is not scheduled" if fault == "unauthorized" else "it is not certain that the new one is scheduled"
    )
    assert f"The old message {old} is cancelled; {fate}" in run.log


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


def test_after_a_clear_nothing_is_cancelled_for_a_time_in_the_past(dag, run_dag, clear_and_run, sandbox):
    old = ScheduleOmnimessageOperator(task_id="old", to=TO, messages=[sms("old")], time_to_send=LATER)
    later = rescheduling(old.output)
    first_run = run_dag(dag)
    with OmnimessageHook() as hook:
        hook.cancel(first_run.xcom("later"))
    later.time_to_send = "2020-01-01T09:00Z"
    cleared = clear_and_run(dag, first_run)
    assert cleared.tasks == {"old": "success", "later": "failed"}
    (scheduled,) = [message for message in sandbox.messages if message["state"] == "scheduled"]
    assert scheduled["omnimessage_id"] == cleared.xcom("old")


def test_several_ids_are_rejected_with_the_way_to_reschedule_them(dag, run_dag, sandbox, old):
    rescheduling([old], retries=0)
    run = run_dag(dag)
    assert "a list is not an id; a task reschedules one message: for several, use .expand(omnimessage_id" in run.log
    assert states(sandbox) == {"old": "scheduled"}


@pytest.mark.parametrize(
    ("order", "owner", "name", "after"),
    first(
        1,
        [
            ("cancel_first", OmnimessageHook, "try_to_cancel", True),
            ("cancel_first", DurableMessage, "post", True),
            ("schedule_first", DurableMessage, "send", True),
            ("schedule_first", OmnimessageHook, "try_to_cancel", True),
        ],
    ),
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


HOOK = "airflow_provider_omnimessage.hooks.omnimessage:OmnimessageHook"
POSTING = "airflow_provider_omnimessage.tasks.posting"
#: The order, the function after which the first try is killed, and what is scheduled then and after the retry.
KILLS = [
    ("cancel_first", HOOK, "try_to_cancel", [], ["new"]),
    ("cancel_first", HOOK, "post", ["new"], "in doubt"),
    ("schedule_first", HOOK, "post", ["new", "old"], "in doubt"),
    ("schedule_first", POSTING, "remember", ["new", "old"], ["new"]),
]


@full_size
def test_a_retry_after_a_kill_in_between_knows_what_the_killed_process_did(sandbox, tmp_path):
    with OmnimessageHook() as hook:
        olds = [hook.send(TO, [sms("old")], time_to_send=timedelta(hours=1)).omnimessage_id for _ in KILLS]
    tries = [
        (order, old, str(tmp_path / old), owner, name)
        for old, (order, owner, name, *_) in zip(olds, KILLS, strict=True)
    ]
    killed = subprocess.run(
        [sys.executable, reschedule_tries.__file__, json.dumps(tries)], capture_output=True, text=True, check=True
    )
    assert json.loads(killed.stdout.splitlines()[-1]) == [signal.SIGKILL] * len(KILLS)
    # each kill's new message follows the old ones, in order; the first kill left none
    news = [None, *(message["omnimessage_id"] for message in sandbox.messages[len(KILLS) :])]
    for (order, old, store, *_), new, (_, _, name, left, in_the_end) in zip(tries, news, KILLS, strict=True):
        assert scheduled_of(sandbox, old, new) == left
        if in_the_end == "in doubt":
            with pytest.raises(AirflowFailException, match="Look for it in Messente's dashboard"):
                reschedule_tries.one_try(order, old, store, 2)
            assert scheduled_of(sandbox, old, new) == left, "not posted again, and nothing is cancelled for it"
        else:
            stands = reschedule_tries.one_try(order, old, store, 2)
            assert new in (None, stands), name
            assert scheduled_of(sandbox, old, stands) == in_the_end
    assert len(sandbox.messages) == 2 * len(KILLS)


def scheduled_of(sandbox, *ids) -> list[str]:
    mine = [message for message in sandbox.messages if message["omnimessage_id"] in ids]
    return sorted(each["body"]["messages"][0]["text"] for each in mine if each["state"] == "scheduled")


def test_without_an_old_message_the_task_is_skipped(dag, run_dag, sandbox):
    rescheduling(None)
    assert run_dag(dag).tasks == {"later": "skipped"}
    assert sandbox.requests == []


@pytest.fixture
def an_hour_later(monkeypatch):
    from airflow_provider_omnimessage.hooks import choosing

    now = choosing.current_time
    return lambda: monkeypatch.setattr(choosing, "current_time", lambda: now() + timedelta(hours=1))


@pytest.mark.parametrize("on_past", ["fail", "skip"])
def test_the_time_may_pass_between_a_try_that_cancelled_the_old_message_and_its_retry(
    dag, run_dag, sandbox, old, monkeypatch, an_hour_later, on_past
):
    sandbox.add_fault("rate_limited", call="send", retry_after=500)
    post = DurableMessage.post

    def once(self, *args):
        try:
            return post(self, *args)
        finally:
            an_hour_later()
            pacing.reset_paces()

    monkeypatch.setattr(DurableMessage, "post", once)
    rescheduling(old, time_to_send=datetime.now(timezone.utc) + timedelta(minutes=1), on_past=on_past)
    run = run_dag(dag)
    assert run.tasks == {"later": "success"}
    assert run.tries == {"later": 2}
    assert states(sandbox)["old"] == "cancelled"
    assert sandbox.messages[1]["time_to_send"] is None
    assert "is in the past: sending now, because the old message is cancelled" in run.log


def test_a_retry_does_not_ask_again_about_an_old_message_that_was_cancelled(
    dag, run_dag, sandbox, old, first_try_fails_after_the_post
):
    """Messente may not know it any more by then, which would look as if it had been too late."""
    rescheduling(old)
    run = run_dag(dag)
    assert (run.tasks, run.tries) == ({"later": "success"}, {"later": 2})
    assert run.xcom("later") == sandbox.messages[1]["omnimessage_id"]
    assert [request["method"] for request in sandbox.requests[1:]] == ["DELETE", "POST"]


def test_after_a_clear_the_time_of_the_new_message_is_judged_again(
    dag, run_dag, clear_and_run, sandbox, old, an_hour_later
):
    sandbox.add_fault("rate_limited", call="send", retry_after=500, times="always")
    rescheduling(old, time_to_send=datetime.now(timezone.utc) + timedelta(minutes=1), retries=0)
    first_run = run_dag(dag)
    assert states(sandbox) == {"old": "cancelled"}
    sandbox.clear_faults()
    an_hour_later()
    pacing.reset_paces()
    assert clear_and_run(dag, first_run).tasks == {"later": "failed"}
    assert states(sandbox) == {"old": "cancelled"}


def test_the_time_may_pass_while_the_old_message_is_being_cancelled(
    dag, run_dag, sandbox, old, monkeypatch, an_hour_later
):
    cancel = OmnimessageHook.try_to_cancel

    def slowly(self, *args):
        done = cancel(self, *args)
        an_hour_later()
        return done

    monkeypatch.setattr(OmnimessageHook, "try_to_cancel", slowly)
    rescheduling(old, time_to_send=datetime.now(timezone.utc) + timedelta(minutes=1))
    assert run_dag(dag).tasks == {"later": "success"}
    assert states(sandbox)["old"] == "cancelled"
    assert sandbox.messages[1]["time_to_send"] is None
