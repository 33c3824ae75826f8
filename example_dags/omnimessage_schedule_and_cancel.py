"""
Schedule an alert before the work, and cancel it when the work is done.

If the work fails or hangs, or Airflow goes down, nothing cancels the alert, and Messente sends it. To see this, trigger
it with ``{"work_fails": true}``. ``omnimessage_dead_mans_switch`` does the same for a whole task group.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, Param, task

from airflow_provider_omnimessage.api.messages import sms, viber
from airflow_provider_omnimessage.operators.omnimessage import (
    CancelScheduledMessageOperator,
    ScheduleOmnimessageOperator,
)

with DAG(
    dag_id="omnimessage_schedule_and_cancel",
    schedule=None,
    catchup=False,
    tags=["omnimessage", "example"],
    params={
        "to": Param("+37255555555", type="string", description="Recipient of the alert, in E.164 format"),
        "work_fails": Param(False, type="boolean", description="Make the work fail, so that the alert is sent"),
    },
    doc_md=__doc__,
):
    schedule = ScheduleOmnimessageOperator(
        task_id="schedule",
        to="{{ params.to }}",
        time_to_send=timedelta(minutes=30),
        messages=[
            viber(text="{{ dag.dag_id }} is late: {{ run_id }}", ttl=600),
            sms(text="{{ dag.dag_id }} is late: {{ run_id }}"),
        ],
    )

    @task
    def work(params: dict) -> None:
        """Stand in for your own tasks."""
        if params["work_fails"]:
            raise RuntimeError("the work failed because work_fails is set")

    cancel = CancelScheduledMessageOperator(task_id="cancel", omnimessage_id=schedule.output)

    schedule >> work() >> cancel
