"""What is run on every supported Airflow: small DAGs, each of one thing that a user relies on."""

from __future__ import annotations

from datetime import timedelta

try:
    from airflow.sdk import DAG, task
except ImportError:  # Airflow 2
    from airflow.decorators import task
    from airflow.models.dag import DAG

from airflow_provider_omnimessage.api.messages import sms, viber
from airflow_provider_omnimessage.operators.omnimessage import (
    CancelScheduledMessageOperator,
    ScheduleOmnimessageOperator,
    SendOmnimessageOperator,
)

TO = "+37255555555"

with DAG("matrix_schedule_and_cancel", schedule=None):
    schedule = ScheduleOmnimessageOperator(
        task_id="schedule",
        to=TO,
        time_to_send=timedelta(minutes=30),
        messages=[viber(text="{{ dag.dag_id }} is late", ttl=600), sms(text="{{ dag.dag_id }} is late")],
    )

    @task
    def work() -> None:
        """Stand in for the work."""

    cancel = CancelScheduledMessageOperator(task_id="cancel", omnimessage_id=schedule.output)
    schedule >> work() >> cancel

with DAG("matrix_work_fails", schedule=None):
    schedule = ScheduleOmnimessageOperator(
        task_id="schedule", to=TO, time_to_send="2099-01-01T09:00", timezone="Europe/Tallinn", messages=[sms("late")]
    )

    @task
    def failing_work() -> None:
        """Fail, so that nobody cancels."""
        raise RuntimeError("as planned")

    cancel = CancelScheduledMessageOperator(task_id="cancel", omnimessage_id=schedule.output)
    schedule >> failing_work() >> cancel

with DAG("matrix_mapped_sends", schedule=None):

    @task
    def recipients() -> list[str]:
        """Give whom to write to."""
        return [TO, "+37255555556"]

    SendOmnimessageOperator.partial(task_id="send", messages=[sms("a")]).expand(to=recipients())

with DAG("matrix_past_is_skipped", schedule=None):
    ScheduleOmnimessageOperator(
        task_id="schedule", to=TO, time_to_send="2020-01-01T09:00", on_past="skip", messages=[sms("a")]
    )

with DAG("matrix_bad_input_fails", schedule=None):
    SendOmnimessageOperator(
        task_id="send", to="{{ 'nobody' }}", messages=[sms("a")], retries=3, retry_delay=timedelta(hours=1)
    )
