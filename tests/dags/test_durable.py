"""Retries, crashes and clears in DAGs: how many messages there are, which one the task returns, what the log says."""

from __future__ import annotations

import os
import signal
import threading
import time
from datetime import timedelta
from typing import Any

import pytest
from full_size import first, full_size

from airflow_provider_omnimessage import metrics
from airflow_provider_omnimessage._compat import TaskMemory
from airflow_provider_omnimessage.api.messages import sms
from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook
from airflow_provider_omnimessage.operators.omnimessage import (
    CancelScheduledMessageOperator,
    ScheduleOmnimessageOperator,
    SendOmnimessageOperator,
)
from airflow_provider_omnimessage.tasks import posting
from airflow_provider_omnimessage.tasks.scheduling import Schedule

TO = "+37255555555"
NEW_YEAR = "2099-01-01T09:00Z"


def scheduling(**settings: Any) -> ScheduleOmnimessageOperator:
    settings = {"retries": 2, "retry_delay": timedelta(0), "time_to_send": NEW_YEAR, **settings}
    return ScheduleOmnimessageOperator(task_id="schedule", to=TO, messages=[sms("S3CRET")], **settings)


def live(sandbox: Any) -> list[dict[str, Any]]:
    return [message for message in sandbox.messages if message["state"] != "cancelled"]


class TestRetryAfterACrash:
    """Each row: where the worker dies, and how many messages each guarantee leaves. Never two, or never none."""

    @pytest.mark.parametrize(
        ("where", "after", "at_most_once", "at_least_once"),
        first(
            2,
            [
                ((OmnimessageHook, "compose"), True, 1, 1),
                ((TaskMemory, "keep"), False, 1, 1),
                ((TaskMemory, "keep"), True, 0, 1),
                ((OmnimessageHook, "post"), False, 0, 1),
                ((OmnimessageHook, "post"), True, 1, 2),
                ((posting, "remember"), False, 1, 2),
                ((posting, "remember"), True, 1, 1),
                ((ScheduleOmnimessageOperator, "_report"), False, 1, 1),
                ((ScheduleOmnimessageOperator, "_report"), True, 1, 1),
            ],
        ),
    )
    @pytest.mark.parametrize("guarantee", ["at_most_once", "at_least_once"])
    def test_a_retry_keeps_the_guarantee(
        self, dag, run_dag, sandbox, die, where, after, at_most_once, at_least_once, guarantee
    ):
        scheduling(delivery_guarantee=guarantee)
        die(*where, after=after)
        run = run_dag(dag)
        messages = live(sandbox)
        assert len(messages) == (at_most_once if guarantee == "at_most_once" else at_least_once)
        if run.state == "success":
            assert run.xcom("schedule") in [message["omnimessage_id"] for message in messages]
            assert run.xcom("schedule", "time_to_send") == "2099-01-01T09:00:00+00:00"
            assert run.xcom("schedule", "to") == TO
        else:
            assert guarantee == "at_most_once"
            assert "Look for it in Messente's dashboard" in run.log
        if len(messages) == 2:
            assert "posting another one, because delivery_guarantee='at_least_once'" in run.log

    def test_a_retry_returns_the_message_even_if_its_time_has_passed(self, dag, run_dag, sandbox, die, monkeypatch):
        scheduling()
        die(ScheduleOmnimessageOperator, "_report", after=True)

        def gone_by(self, *args):
            assert not sandbox.messages, "nobody asks when, for it is scheduled"
            return choose(self, *args)

        choose = Schedule.choose
        monkeypatch.setattr(Schedule, "choose", gone_by)
        run = run_dag(dag)
        assert run.state == "success"
        assert f"keeping omnimessage_id {run.xcom('schedule')}" in run.log

    def test_a_message_that_is_sent_at_once_is_not_sent_again(self, dag, run_dag, sandbox, die):
        SendOmnimessageOperator(task_id="send", to=TO, messages=[sms("a")], retries=1, retry_delay=timedelta(0))
        die(SendOmnimessageOperator, "_report", after=True)
        run = run_dag(dag)
        assert [message["omnimessage_id"] for message in sandbox.messages] == [run.xcom("send")]

    @full_size
    def test_each_mapped_task_remembers_its_own(self, dag, run_dag, sandbox, die):
        ScheduleOmnimessageOperator.partial(
            task_id="schedule", time_to_send=NEW_YEAR, messages=[sms("a")], retries=1, retry_delay=timedelta(0)
        ).expand(to=[TO, "+37255555556"])
        die(ScheduleOmnimessageOperator, "_report", after=True)
        run = run_dag(dag)
        assert run.state == "success"
        assert sorted(message["to"] for message in sandbox.messages) == [TO, "+37255555556"]

    def test_without_durable_a_retry_sends_again(self, dag, run_dag, sandbox, die):
        scheduling(durable=False)
        die(ScheduleOmnimessageOperator, "_report", after=True)
        run_dag(dag)
        assert len(sandbox.messages) == 2

    def test_an_airflow_without_a_task_state_store_says_once_what_it_cannot_guarantee(
        self, dag, run_dag, sandbox, monkeypatch
    ):
        monkeypatch.setattr(TaskMemory, "of", lambda context, key: None)
        scheduling()
        run = run_dag(dag)
        assert run.state == "success"
        assert run.log.count("durable=True requires Airflow 3.3 or newer") == 1


@full_size
class TestLostResponses:
    def test_at_least_once_sends_again_and_says_that_there_may_be_two(self, dag, run_dag, sandbox):
        scheduling(delivery_guarantee="at_least_once")
        sandbox.add_fault("lost_answer")
        run = run_dag(dag)
        assert run.state == "success"
        assert len(sandbox.messages) == 2
        assert "An earlier try may have posted this message" in run.log

    def test_after_an_unknown_outcome_a_cleared_task_sends_again(self, dag, run_dag, clear_and_run, sandbox):
        scheduling()
        sandbox.add_fault("cut")
        first = run_dag(dag)
        assert first.state == "failed"
        again = clear_and_run(dag, first)
        assert again.tasks == {"schedule": "success"}
        assert len(sandbox.messages) == 1

    def test_an_id_that_cannot_be_stored_is_in_the_log_and_the_task_goes_on(self, dag, run_dag, sandbox, monkeypatch):
        keep = TaskMemory.keep

        def failing(self, value):
            if value["omnimessage_id"]:
                raise OSError("the API server is gone")
            keep(self, value)

        monkeypatch.setattr(TaskMemory, "keep", failing)
        scheduling()
        run = run_dag(dag)
        assert run.state == "success"
        assert f"omnimessage_id {run.xcom('schedule')} could not be stored" in run.log

    def test_an_error_is_reported_even_if_it_cannot_be_stored(self, dag, run_dag, sandbox, monkeypatch):
        def failing(self):
            raise OSError("the API server is gone")

        monkeypatch.setattr(TaskMemory, "forget", failing)
        scheduling(retries=0)
        sandbox.add_fault("rate_limited", retry_after=500)
        run = run_dag(dag)
        assert run.tasks == {"schedule": "failed"}
        assert "rate limited by Messente" in run.log
        assert "Nothing was posted, but that could not be stored" in run.log

    def test_if_airflows_timeout_interrupts_the_post_the_outcome_is_unknown(self, dag, run_dag, sandbox):
        scheduling(durable=False, execution_timeout=timedelta(seconds=1))
        sandbox.add_fault("slow", seconds=3, processed=True)
        run = run_dag(dag)
        assert run.tasks == {"schedule": "failed"}
        assert len(sandbox.messages) == 1
        assert "Interrupted before the response came" in run.log
        assert "Look for it in Messente's dashboard" in run.log


@full_size
class TestKilled:
    """A SIGTERM, as a shutdown or a state set by hand sends it: Airflow calls ``on_kill``, and the log explains."""

    @pytest.fixture
    def terminate(self, sandbox):
        """Send this process, which runs the task, a SIGTERM as soon as a call is at the sandbox."""
        before = signal.getsignal(signal.SIGTERM)

        def terminate_at(call: str) -> None:
            sandbox.add_fault("slow", call=call, seconds=1, processed=True)

            def watch() -> None:
                while not any(request["call"] == call for request in sandbox.requests):
                    time.sleep(0.01)
                os.kill(os.getpid(), signal.SIGTERM)

            threading.Thread(target=watch, daemon=True).start()

        yield terminate_at
        signal.signal(signal.SIGTERM, before)

    def test_during_a_post_it_logs_what_to_check_and_that_the_response_still_came(
        self, dag, run_dag, sandbox, terminate
    ):
        scheduling()
        terminate("send")
        run = run_dag(dag)
        assert "Killed while waiting for the response to 'send' (POST). Messente may have accepted" in run.log
        assert run.log.index("Killed while") < run.log.index(f"omnimessage_id {run.xcom('schedule')}")

    def test_during_a_cancel_it_logs_what_to_do(self, dag, run_dag, sandbox, terminate):
        with OmnimessageHook() as hook:
            accepted = hook.send(TO, [sms("a")], time_to_send=timedelta(hours=1))
        CancelScheduledMessageOperator(task_id="cancel", omnimessage_id=accepted.omnimessage_id)
        terminate("cancel")
        run = run_dag(dag)
        assert "Killed while waiting for the response to 'cancel' (DELETE)" in run.log
        assert "run this task again for the rest" in run.log

    def test_without_a_request_in_flight_it_logs_that(self, dag, capfd):
        scheduling().on_kill()
        assert "no request to Messente was in flight" in "".join(capfd.readouterr())


@full_size
class TestClear:
    def test_a_message_that_is_still_scheduled_and_the_same_is_kept(self, dag, run_dag, clear_and_run, sandbox):
        scheduling()
        first = run_dag(dag)
        again = clear_and_run(dag, first)
        assert again.xcom("schedule") == first.xcom("schedule")
        assert len(sandbox.messages) == 1
        assert "Still scheduled and unchanged: keeping omnimessage_id" in again.log

    @pytest.mark.parametrize(
        ("field", "value"),
        [("messages", [sms("Another")]), ("to", "+37255555556"), ("time_to_send", "2099-01-02T09:00Z")],
    )
    def test_a_message_that_changed_is_replaced(self, dag, run_dag, clear_and_run, sandbox, field, value):
        task = scheduling()
        first = run_dag(dag)
        setattr(task, field, value)
        again = clear_and_run(dag, first)
        before, after = sandbox.messages
        assert (before["state"], after["state"]) == ("cancelled", "scheduled")
        assert again.xcom("schedule") == after["omnimessage_id"] != first.xcom("schedule")
        assert again.xcom("schedule", "time_to_send") == after["time_to_send"]

    @pytest.mark.parametrize(("on_past", "state"), [("skip", "skipped"), ("fail", "failed")])
    def test_a_time_in_the_past_cancels_the_message_first(self, dag, run_dag, clear_and_run, sandbox, on_past, state):
        task = scheduling(on_past=on_past)
        first = run_dag(dag)
        task.time_to_send = "2020-01-01T09:00Z"
        again = clear_and_run(dag, first)
        assert again.tasks == {"schedule": state}
        assert [message["state"] for message in sandbox.messages] == ["cancelled"]

    def test_a_delay_from_now_starts_again(self, dag, run_dag, clear_and_run, sandbox, monkeypatch):
        from airflow_provider_omnimessage.hooks import choosing

        scheduling(time_to_send=timedelta(hours=1))
        first = run_dag(dag)
        now = choosing.current_time()
        monkeypatch.setattr(choosing, "current_time", lambda: now + timedelta(minutes=10))
        clear_and_run(dag, first)
        assert [message["state"] for message in sandbox.messages] == ["cancelled", "scheduled"]

    def test_a_message_that_was_cancelled_is_scheduled_anew(self, dag, run_dag, clear_and_run, sandbox):
        schedule = scheduling()
        CancelScheduledMessageOperator(task_id="cancel", omnimessage_id=schedule.output)
        first = run_dag(dag)
        again = clear_and_run(dag, first)
        assert again.tasks == {"schedule": "success", "cancel": "success"}
        assert again.xcom("schedule") != first.xcom("schedule")
        assert [message["state"] for message in sandbox.messages] == ["cancelled", "cancelled"]

    def test_a_message_that_was_sent_is_scheduled_anew(self, dag, run_dag, clear_and_run, sandbox):
        scheduling()
        first = run_dag(dag)
        sandbox.advance(timedelta(days=365 * 100))
        clear_and_run(dag, first)
        assert len(sandbox.messages) == 2

    def test_a_clear_while_messente_does_not_respond_changes_nothing(self, dag, run_dag, clear_and_run, sandbox):
        scheduling()
        first = run_dag(dag)
        sandbox.add_fault("server_error", call="status", times="always")
        again = clear_and_run(dag, first)
        assert again.tasks == {"schedule": "failed"}
        assert len(sandbox.messages) == 1
        assert len(live(sandbox)) == 1

    def test_a_crash_between_cancelling_and_scheduling_again_loses_nothing(
        self, dag, run_dag, clear_and_run, sandbox, die
    ):
        task = scheduling()
        first = run_dag(dag)
        task.messages = [sms("Another")]
        die(OmnimessageHook, "try_to_cancel", after=True)
        again = clear_and_run(dag, first)
        assert [message["body"]["messages"][0]["text"] for message in live(sandbox)] == ["Another"]
        assert again.tasks == {"schedule": "success"}

    def test_a_message_that_was_sent_at_once_is_sent_again(self, dag, run_dag, clear_and_run, sandbox):
        SendOmnimessageOperator(task_id="send", to=TO, messages=[sms("a")])
        clear_and_run(dag, run_dag(dag))
        assert len(sandbox.messages) == 2


def test_the_state_store_holds_no_text_and_no_number(dag, run_dag, sandbox):
    from airflow.models.task_state_store import TaskStateStoreModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    scheduling()
    run = run_dag(dag)
    with create_session() as session:
        (value,) = session.scalars(select(TaskStateStoreModel.value).where(TaskStateStoreModel.run_id == run.run_id))
    assert run.xcom("schedule") in value
    assert "S3CRET" not in value
    assert "55555555" not in value
    assert sandbox.password not in value


@full_size
def test_what_is_scheduled_sent_and_cancelled_is_counted_once(dag, run_dag, sandbox, monkeypatch):
    counted: list[tuple[str, dict[str, str]]] = []

    class Stats:
        incr = staticmethod(lambda name, tags: counted.append((name, tags)))

    monkeypatch.setattr(metrics, "airflow_stats", lambda: Stats)
    schedule = scheduling()
    first = CancelScheduledMessageOperator(task_id="first", omnimessage_id=schedule.output)
    again = CancelScheduledMessageOperator(task_id="again", omnimessage_id=schedule.output)
    first >> again >> SendOmnimessageOperator(task_id="send", to=TO, messages=[sms("a")])
    run_dag(dag)
    assert counted == [
        ("omnimessage.scheduled", {"dag_id": dag.dag_id, "task_id": "schedule"}),
        ("omnimessage.cancelled", {"dag_id": dag.dag_id, "task_id": "first"}),
        ("omnimessage.sent", {"dag_id": dag.dag_id, "task_id": "send"}),
    ]
