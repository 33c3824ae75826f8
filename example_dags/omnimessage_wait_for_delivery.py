"""
Continue when a message has been delivered, and pass its delivery report to the next task.

The sensor waits in the triggerer and holds no worker. It sends no request before the message's time.
On the sandbox, trigger it with ``{"to": "+37255550001"}`` to see the error if no channel delivers.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, Param, task

from airflow_provider_omnimessage.api.messages import sms, viber
from airflow_provider_omnimessage.operators.omnimessage import ScheduleOmnimessageOperator
from airflow_provider_omnimessage.sensors.omnimessage import OmnimessageDeliverySensor

with DAG(
    dag_id="omnimessage_wait_for_delivery",
    schedule=None,
    catchup=False,
    tags=["omnimessage", "example"],
    params={"to": Param("+37255555555", type="string", description="The recipient, in E.164 format")},
    doc_md=__doc__,
):
    schedule = ScheduleOmnimessageOperator(
        task_id="schedule",
        to="{{ params.to }}",
        time_to_send=timedelta(seconds=2),
        messages=[viber(text="The report is ready", ttl=600), sms(text="The report is ready")],
    )

    wait = OmnimessageDeliverySensor(
        task_id="wait",
        omnimessage_id=schedule.output,
        time_to_send=schedule.output["time_to_send"],
        deferrable=True,
        timeout=timedelta(hours=1),
    )

    @task
    def use_report(report: dict) -> str:
        """Stand in for your own tasks: the report is a plain dict."""
        return f"delivered by {report['delivered_by']} after {report['seconds_to_delivery']:.0f} seconds"

    use_report(wait.output)
