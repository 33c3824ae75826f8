"""Schedule a reminder for one hour from now, and move it to two hours from now."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG

from airflow_provider_omnimessage.api.messages import sms
from airflow_provider_omnimessage.operators.omnimessage import (
    RescheduleOmnimessageOperator,
    ScheduleOmnimessageOperator,
)

TO = "+37255555555"
MESSAGES = [sms(text="Your appointment is tomorrow.")]

with DAG(
    dag_id="omnimessage_reschedule",
    schedule=None,
    catchup=False,
    tags=["omnimessage", "example"],
    doc_md=__doc__,
):
    schedule = ScheduleOmnimessageOperator(
        task_id="schedule", to=TO, messages=MESSAGES, time_to_send=timedelta(hours=1)
    )
    RescheduleOmnimessageOperator(
        task_id="reschedule",
        omnimessage_id=schedule.output,
        to=TO,
        messages=MESSAGES,
        time_to_send=timedelta(hours=2),
    )
