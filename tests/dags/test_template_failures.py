"""A template that cannot be rendered is named by its field; no log shows a phone number or a text."""

from __future__ import annotations

from datetime import timedelta

import pytest
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG, task
from full_size import first

from airflow_provider_omnimessage.alerts import DeadMansSwitch, HeartbeatOperator
from airflow_provider_omnimessage.api.errors import InvalidInputError
from airflow_provider_omnimessage.api.messages import sms
from airflow_provider_omnimessage.notifications.omnimessage import OmnimessageNotifier
from airflow_provider_omnimessage.operators.bulk import ScheduleBulkOmnimessageOperator
from airflow_provider_omnimessage.operators.omnimessage import (
    CancelScheduledMessageOperator,
    ScheduleOmnimessageOperator,
    SendOmnimessageOperator,
)
from airflow_provider_omnimessage.sensors.omnimessage import OmnimessageDeliverySensor

TO = "+37255512345"
WORDS = "Codename Nightingale"
#: Templates that fail, with what a log says about them.
FAILURES = {
    "undefined": ("{{ nothing.at.all }}", "UndefinedError: 'nothing' is undefined"),
    "syntax": ("{{ run_id }", "TemplateSyntaxError: unexpected '}'"),
    "function": (f"{{{{ macros.datetime.strptime('{TO} {WORDS}', '%Y') }}}}", "(ValueError)"),
    "variable": ("{{ var.value.no_such_variable }}", "no_such_variable"),
}


def fails():
    raise RuntimeError("as the test says")


def test_a_task_that_was_not_called_is_named(dag, run_dag, sandbox):
    @task
    def build():
        return "an id"

    CancelScheduledMessageOperator(task_id="cancel", omnimessage_id=build)
    run = run_dag(dag)
    assert run.tasks == {"cancel": "failed"}
    assert "omnimessage_id: is a task that was not called; pass its output" in run.log
    with dag, pytest.raises(InvalidInputError, match="recipients: is a task that was not called"):
        ScheduleBulkOmnimessageOperator(task_id="send", recipients=build, messages=[sms("a")])


@pytest.mark.parametrize(("template", "reason"), first(1, FAILURES.values()), ids=FAILURES)
def test_no_log_shows_the_number_or_the_text(dag, run_dag, sandbox, template, reason):
    text, to = f"{WORDS} {template}", TO + template
    once = {"retries": 0}
    SendOmnimessageOperator(task_id="send", to=TO, messages=[sms(text)], **once)
    SendOmnimessageOperator.partial(task_id="mapped", messages=[sms(text)], **once).expand(to=[TO])
    ScheduleOmnimessageOperator(
        task_id="schedule", to=to, messages=[sms(WORDS)], time_to_send=timedelta(hours=1), **once
    )
    ScheduleBulkOmnimessageOperator(task_id="bulk", recipients=[{"to": to}], messages=[sms(WORDS)], **once)
    HeartbeatOperator(task_id="beat", to=TO, text=text, grace=timedelta(minutes=5), **once)
    CancelScheduledMessageOperator(task_id="cancel", omnimessage_id=f"{WORDS} {template}", **once)
    OmnimessageDeliverySensor(task_id="wait", omnimessage_id=f"{WORDS} {template}", **once)
    with DeadMansSwitch("late", to=TO, text=text, within=timedelta(hours=1)):
        PythonOperator(
            task_id="work",
            python_callable=fails,
            on_failure_callback=OmnimessageNotifier(to=TO, text=text),
            retries=0,
        )
    run = run_dag(dag)
    assert {state for task, state in run.tasks.items() if not task.startswith("late.")} == {"failed"}
    assert (run.tasks["late.arm"], run.tasks["late.disarm"]) == ("failed", "failed")
    for field in (
        "messages: its template",
        "to: its template",
        "recipients: its template",
        "omnimessage_id: its template",
    ):
        assert field in run.log
    assert "A template does not fit this event, sending the default text: messages: its template" in run.log
    assert reason in run.log
    assert WORDS not in run.log
    assert TO not in run.log
    assert [message["to"] for message in sandbox.messages] == [TO], "the notifier's default text"


def test_native_rendering_names_what_is_undefined_by_its_field(run_dag, sandbox):
    with DAG("undefined_native", schedule=None, render_template_as_native_obj=True) as dag:
        SendOmnimessageOperator(task_id="send", to="{{ params.nobody }}", messages=[sms(WORDS)], retries=0)
    run = run_dag(dag)
    assert "to: its template cannot be rendered (UndefinedError: 'dict object' has no attribute 'nobody')" in run.log
    assert sandbox.requests == []
