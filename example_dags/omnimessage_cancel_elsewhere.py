"""Schedule a reminder in one DAG, and cancel it in another DAG that is scheduled on an asset."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, Asset, task

from airflow_provider_omnimessage.api.messages import sms
from airflow_provider_omnimessage.operators.omnimessage import (
    CancelScheduledMessageOperator,
    ScheduleOmnimessageOperator,
)

REMINDER = Asset("omnimessage_reminder")

with DAG(
    dag_id="omnimessage_remind",
    schedule=None,
    catchup=False,
    tags=["omnimessage", "example"],
    doc_md=__doc__,
):
    schedule = ScheduleOmnimessageOperator(
        task_id="schedule",
        to="+37255555555",
        time_to_send=timedelta(hours=1),
        messages=[sms("Reminder: your invoice is open")],
    )

    @task(outlets=[REMINDER])
    def publish(omnimessage_id: str, *, outlet_events) -> None:
        """Put the id into the asset's event."""
        outlet_events[REMINDER].extra = {"omnimessage_id": omnimessage_id}

    publish(schedule.output)

with DAG(
    dag_id="omnimessage_cancel_reminder",
    schedule=[REMINDER],
    catchup=False,
    tags=["omnimessage", "example"],
    doc_md=__doc__,
):

    @task
    def reminders(*, triggering_asset_events) -> list[str]:
        """Read the ids from the events that started this run; a manual run has none."""
        return [event.extra["omnimessage_id"] for event in triggering_asset_events.get(REMINDER, [])]

    CancelScheduledMessageOperator(task_id="cancel", omnimessage_id=reminders(), if_already_sent="skip")
