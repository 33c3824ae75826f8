"""How the operators fail: times in the past, bad input, and what Messente rejects."""

from __future__ import annotations

from datetime import timedelta

import pytest
from airflow.sdk import task
from full_size import first

from airflow_provider_omnimessage.api.messages import sms
from airflow_provider_omnimessage.operators.omnimessage import (
    CancelScheduledMessageOperator,
    RescheduleOmnimessageOperator,
    ScheduleOmnimessageOperator,
    SendOmnimessageOperator,
)
from airflow_provider_omnimessage.sensors.omnimessage import OmnimessageDeliverySensor

TO = "+37255555555"
SOON = timedelta(hours=1)
LONG_AGO = "2020-01-01T09:00"
UNKNOWN = "6bd8c1ee-6ac2-4eb5-a0a1-6d46b2f42ae6"


class TestOnPast:
    def test_by_default_it_fails_without_a_retry_and_sends_nothing(self, dag, run_dag, sandbox):
        ScheduleOmnimessageOperator(
            task_id="schedule", to=TO, time_to_send=LONG_AGO, messages=[sms("a")], retries=3, retry_delay=timedelta(0)
        )
        run = run_dag(dag)
        assert run.tasks == {"schedule": "failed"}
        assert "2020-01-01 09:00:00 UTC is in the past" in run.log
        assert "on_past" in run.log
        assert sandbox.requests == []

    def test_skip_skips_the_task_and_its_cancel(self, dag, run_dag, sandbox):
        schedule = ScheduleOmnimessageOperator(
            task_id="schedule", to=TO, time_to_send=LONG_AGO, messages=[sms("a")], on_past="skip"
        )
        CancelScheduledMessageOperator(task_id="cancel", omnimessage_id=schedule.output)
        CancelScheduledMessageOperator(
            task_id="cancel_in_any_case", omnimessage_id=schedule.output, trigger_rule="all_done"
        )
        run = run_dag(dag)
        assert run.tasks == {"schedule": "skipped", "cancel": "skipped", "cancel_in_any_case": "skipped"}
        assert sandbox.requests == []

    def test_send_now_sends_now(self, dag, run_dag, sandbox):
        ScheduleOmnimessageOperator(
            task_id="schedule", to=TO, time_to_send=LONG_AGO, messages=[sms("a")], on_past="send_now"
        )
        run = run_dag(dag)
        (message,) = sandbox.messages
        assert run.tasks == {"schedule": "success"}
        assert message["sent_at"] is not None
        assert "time_to_send" not in message["body"]
        assert run.xcom("schedule", "time_to_send") is None


def test_what_to_do_with_a_time_in_the_past_can_be_templated(dag, run_dag, sandbox):
    ScheduleOmnimessageOperator(
        task_id="schedule", to=TO, time_to_send=LONG_AGO, messages=[sms("a")], on_past="{{ 'skip' }}"
    )
    assert run_dag(dag).tasks == {"schedule": "skipped"}


@pytest.mark.parametrize("is_native", first(1, [True, False]), ids=["native", "xcom"])
@pytest.mark.parametrize(
    ("operator", "settings"),
    [(ScheduleOmnimessageOperator, {}), (RescheduleOmnimessageOperator, {"omnimessage_id": UNKNOWN})],
    ids=["schedule", "reschedule"],
)
def test_a_time_that_nobody_set_does_not_mean_now(dag, run_dag, sandbox, operator, settings, is_native):
    @task
    def choose():
        return None

    chosen = choose()
    dag.render_template_as_native_obj = is_native
    time = "{{ ti.xcom_pull(task_ids='choose') }}" if is_native else chosen
    chosen >> operator(task_id="send", to=TO, messages=[sms("a")], time_to_send=time, retries=1, **settings)
    run = run_dag(dag)
    assert (run.tasks["send"], run.tries["send"]) == ("failed", 1)
    assert "time_to_send: None is not a time" in run.log
    assert sandbox.requests == []


class TestFailures:
    """Each row: what goes wrong with the POST, whether Airflow may retry it, how many messages there are in the end."""

    @pytest.mark.parametrize(
        ("fault", "retried", "messages", "said"),
        first(
            2,
            [
                ({"fault": "rate_limited"}, True, 1, "rate limited by Messente"),
                ({"fault": "unauthorized"}, False, 0, "check the connection's login and password"),
                ({"fault": "lost_answer"}, False, 1, "Look for it in Messente's dashboard"),
                ({"fault": "cut"}, False, 0, "Look for it in Messente's dashboard"),
                ({"fault": "broken_json"}, False, 1, "Look for it in Messente's dashboard"),
                ({"fault": "server_error", "status": 503}, False, 0, "Look for it in Messente's dashboard"),
            ],
        ),
    )
    def test_only_what_surely_was_not_sent_is_tried_again(self, dag, run_dag, sandbox, fault, retried, messages, said):
        ScheduleOmnimessageOperator(
            task_id="schedule",
            to=TO,
            time_to_send=SOON,
            messages=[sms("a")],
            retries=1,
            retry_delay=timedelta(0),
        )
        sandbox.add_fault(**fault)
        run = run_dag(dag)
        sends = [request for request in sandbox.requests if request["method"] == "POST"]
        assert len(sends) == (2 if retried else 1)
        assert run.tasks == {"schedule": "success" if retried else "failed"}
        assert len(sandbox.messages) == messages
        assert said in run.log

    def test_what_a_template_renders_wrong_is_named_and_nothing_is_sent(self, dag, run_dag, sandbox):
        SendOmnimessageOperator(
            task_id="send", to="{{ '5555' }}", messages=[sms("{{ '' }}", ttl="{{ 'soon' }}")], retries=3
        )
        run = run_dag(dag)
        assert run.tasks == {"send": "failed"}
        for field in ("to: ", "messages[0].text: ", "messages[0].ttl: "):
            assert field in run.log
        assert sandbox.requests == []

    def test_what_messente_rejects_fails_without_a_retry(self, dag, run_dag, sandbox):
        SendOmnimessageOperator(task_id="send", to="+37255550005", messages=[sms("a")], retries=3)
        assert run_dag(dag).tasks == {"send": "failed"}
        assert len(sandbox.requests) == 1

    def test_a_missing_connection_fails_and_is_named(self, dag, run_dag):
        SendOmnimessageOperator(task_id="send", to=TO, messages=[sms("a")], omnimessage_conn_id="nobodys")
        run = run_dag(dag)
        assert run.tasks == {"send": "failed"}
        assert "nobodys" in run.log


@pytest.mark.parametrize(
    ("operator", "settings", "mapped", "said"),
    first(
        2,
        [
            (SendOmnimessageOperator, {"messages": [sms("a")]}, {"to": ["not a number"]}, "to: "),
            (SendOmnimessageOperator, {"to": TO}, {"messages": [[{"channel": "pigeon"}]]}, "messages[0].channel: "),
            (
                ScheduleOmnimessageOperator,
                {"to": TO, "messages": [sms("a")]},
                {"time_to_send": ["tomorrow-ish"]},
                "time_to_send: ",
            ),
            (
                CancelScheduledMessageOperator,
                {"omnimessage_id": "a"},
                {"if_already_sent": ["shrug"]},
                "if_already_sent: ",
            ),
            (OmnimessageDeliverySensor, {"omnimessage_id": "a"}, {"wait_for": ["applause"]}, "wait_for: "),
        ],
    ),
    ids=["to", "messages", "time_to_send", "if_already_sent", "wait_for"],
)
def test_bad_input_of_a_mapped_task_burns_no_retries(dag, run_dag, sandbox, operator, settings, mapped, said):
    """A mapped task is constructed where it runs: its constructor would reject the same value in a retry."""
    operator.partial(task_id="mapped", retries=2, retry_delay=timedelta(0), **settings).expand(**mapped)
    run = run_dag(dag)
    assert (run.tasks, run.tries) == ({"mapped[0]": "failed"}, {"mapped[0]": 1})
    assert said in run.log
    assert sandbox.requests == []
