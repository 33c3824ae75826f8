"""
Schedule an alert before the work, cancel it when the work is done.

If the work fails, hangs, or Airflow dies, nobody cancels, and Messente sends the alert at its time. Trigger it with
``{"work_fails": true}`` to see that happen.
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
        "to": Param("+37255555555", type="string", description="Who is to hear of late work, in E.164"),
        "work_fails": Param(False, type="boolean", description="Let the work fail, so that the alert goes out"),
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
            raise RuntimeError("the work failed, as its parameter asked for")

    cancel = CancelScheduledMessageOperator(task_id="cancel", omnimessage_id=schedule.output)

    schedule >> work() >> cancel
