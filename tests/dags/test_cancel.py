"""Cancelling from a DAG: too late, unknown, and as many as possible."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from airflow.sdk import task
from full_size import first, full_size

from airflow_provider_omnimessage.api.messages import sms
from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook
from airflow_provider_omnimessage.operators.omnimessage import (
    CancelScheduledMessageOperator,
    ScheduleOmnimessageOperator,
    SendOmnimessageOperator,
)

TO = "+37255555555"
SOON = timedelta(hours=1)
LONG_AGO = "2020-01-01T09:00"
UNKNOWN = "6bd8c1ee-6ac2-4eb5-a0a1-6d46b2f42ae6"


def cancel_two(dag, run_dag, sandbox, **settings):
    """Cancel one message that has been sent, and one that is waiting."""
    waiting = ScheduleOmnimessageOperator(task_id="waiting", to=TO, time_to_send=SOON, messages=[sms("a")])
    sent = SendOmnimessageOperator(task_id="sent", to=TO, messages=[sms("b")])
    cancel = CancelScheduledMessageOperator(
        task_id="cancel",
        omnimessage_id=[sent.output, waiting.output, None],
        **settings,
    )

    @task
    def after() -> None: ...

    @task
    def is_delivered() -> None:
        sandbox.advance(60)

    sent >> is_delivered() >> cancel >> after()
    run = run_dag(dag)
    by_state = {message["body"]["messages"][0]["text"]: message["state"] for message in sandbox.messages}
    assert by_state["a"] == "cancelled", "whatever becomes of the others, what can be cancelled is"
    assert run.xcom("cancel") == [run.xcom("waiting")]
    return run


class TestCancelTooLate:
    def test_by_default_it_fails_with_the_outcome_of_the_message(self, dag, run_dag, sandbox):
        run = cancel_two(dag, run_dag, sandbox)
        assert (run.tasks["cancel"], run.tasks["after"]) == ("failed", "upstream_failed")
        assert "was sent already" in run.log or "has been sent already" in run.log

    @full_size
    def test_skip_skips(self, dag, run_dag, sandbox):
        run = cancel_two(dag, run_dag, sandbox, if_already_sent="skip")
        assert (run.tasks["cancel"], run.tasks["after"]) == ("skipped", "skipped")

    @full_size
    def test_ignore_succeeds_and_says_so(self, dag, run_dag, sandbox):
        run = cancel_two(dag, run_dag, sandbox, if_already_sent="ignore")
        assert (run.tasks["cancel"], run.tasks["after"]) == ("success", "success")
        assert "has been sent already" in run.log

    def test_an_unknown_message_is_called_unknown(self, dag, run_dag):
        CancelScheduledMessageOperator(task_id="cancel", omnimessage_id=UNKNOWN)
        run = run_dag(dag)
        assert run.tasks == {"cancel": "failed"}
        assert f"{UNKNOWN} is unknown to Messente" in run.log

    @full_size
    def test_cancelling_again_succeeds_again(self, dag, run_dag, sandbox):
        schedule = ScheduleOmnimessageOperator(task_id="schedule", to=TO, time_to_send=SOON, messages=[sms("a")])
        first = CancelScheduledMessageOperator(task_id="first", omnimessage_id=schedule.output)
        again = CancelScheduledMessageOperator(task_id="again", omnimessage_id=schedule.output)
        first >> again
        run = run_dag(dag)
        assert run.xcom("again") == run.xcom("first") == [run.xcom("schedule")]

    @pytest.mark.parametrize("omnimessage_id", first(2, [None, "None", [], [None, None], "{{ none }}"]))
    def test_without_an_id_there_is_nothing_to_cancel(self, dag, run_dag, sandbox, omnimessage_id):
        CancelScheduledMessageOperator(task_id="cancel", omnimessage_id=omnimessage_id)
        assert run_dag(dag).tasks == {"cancel": "skipped"}
        assert sandbox.requests == []

    def test_a_list_that_a_template_rendered_as_text_is_read(self, dag, run_dag, sandbox):
        with OmnimessageHook() as hook:
            ids = [hook.send(TO, [sms("a")], time_to_send=SOON).omnimessage_id for _ in range(2)]
        CancelScheduledMessageOperator(task_id="cancel", omnimessage_id=f"{{{{ {ids!r} }}}}")
        assert run_dag(dag).xcom("cancel") == ids

    @full_size
    def test_a_message_without_a_response_does_not_delay_the_others(self, dag, run_dag, sandbox):
        schedule = ScheduleOmnimessageOperator.partial(task_id="schedule", to=TO, messages=[sms("a")]).expand(
            time_to_send=[SOON, SOON, SOON]
        )
        CancelScheduledMessageOperator(task_id="cancel", omnimessage_id=schedule.output)
        sandbox.add_fault("server_error", call="cancel", retry_after=500)
        run = run_dag(dag)
        assert run.tasks["cancel"] == "failed"
        assert [message["state"] for message in sandbox.messages].count("cancelled") == 2
        assert len(run.xcom("cancel")) == 2


class TestCancelDoesWhatItCan:
    def test_an_invalid_id_does_not_stop_the_others(self, dag, run_dag, sandbox):
        schedule = ScheduleOmnimessageOperator(task_id="schedule", to=TO, time_to_send=SOON, messages=[sms("a")])
        CancelScheduledMessageOperator(
            task_id="cancel", omnimessage_id=["not an id!", schedule.output], if_already_sent="ignore"
        )
        run = run_dag(dag)
        assert run.tasks["cancel"] == "failed"
        assert sandbox.messages[0]["state"] == "cancelled"
        assert run.xcom("cancel") == [run.xcom("schedule")]
        assert "'not an id!' is not an id" in run.log

    @full_size
    def test_a_404_of_another_server_does_not_mean_already_sent(self, dag, run_dag, sandbox, monkeypatch):
        schedule = ScheduleOmnimessageOperator(task_id="schedule", to=TO, time_to_send=SOON, messages=[sms("a")])
        elsewhere = {**sandbox.connection, "host": sandbox.url.replace("/v1", "/elsewhere")}
        monkeypatch.setenv("AIRFLOW_CONN_ELSEWHERE", json.dumps(elsewhere))
        CancelScheduledMessageOperator(
            task_id="cancel",
            omnimessage_id=schedule.output,
            omnimessage_conn_id="elsewhere",
            if_already_sent="ignore",
        )
        assert run_dag(dag).tasks["cancel"] == "failed"

    def test_a_dict_is_rejected_by_name(self, dag, run_dag, sandbox):
        @task
        def found() -> dict:
            return {"omnimessage_id": UNKNOWN}

        CancelScheduledMessageOperator(task_id="cancel", omnimessage_id=found(), if_already_sent="ignore")
        run = run_dag(dag)
        assert run.tasks["cancel"] == "failed"
        assert "a dict is not an id; pass the id that it holds" in run.log

    def test_an_invalid_id_is_named_by_position_and_type_only(self, dag, run_dag, sandbox):
        @task(show_return_value_in_logs=False)
        def reports() -> list:
            return [{"to": "+37255555555", "text": "S3CRET"}]

        CancelScheduledMessageOperator(task_id="cancel", omnimessage_id=reports())
        log = run_dag(dag).log
        assert "[0]: omnimessage_id: a dict is not an id" in log
        assert "S3CRET" not in log

    @full_size
    def test_skipped_work_is_not_late_work(self, dag, run_dag, sandbox):
        @task.short_circuit(ignore_downstream_trigger_rules=False)
        def nothing_to_do() -> bool:
            return False

        @task
        def work() -> None: ...

        schedule = ScheduleOmnimessageOperator(task_id="schedule", to=TO, time_to_send=SOON, messages=[sms("a")])
        cancel = CancelScheduledMessageOperator(task_id="cancel", omnimessage_id=schedule.output)
        schedule >> nothing_to_do() >> work() >> cancel
        assert run_dag(dag).tasks["cancel"] == "success"
        assert sandbox.messages[0]["state"] == "cancelled"

    @full_size
    def test_of_mapped_messages_those_that_were_scheduled_are_cancelled(self, dag, run_dag, sandbox):
        schedule = ScheduleOmnimessageOperator.partial(
            task_id="schedule", to=TO, messages=[sms("a")], on_past="skip"
        ).expand(time_to_send=[LONG_AGO, SOON])
        CancelScheduledMessageOperator(task_id="cancel", omnimessage_id=schedule.output)
        run = run_dag(dag)
        assert (run.tasks["schedule[0]"], run.tasks["cancel"]) == ("skipped", "success")
        assert [message["state"] for message in sandbox.messages] == ["cancelled"]
