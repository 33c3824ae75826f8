"""
Branch on a delivery report: continue if the message was delivered, and call the person if it was not.

Trigger it with ``{"to": "+37255550001"}``: on the sandbox, no channel delivers to this number.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, Param, task

from airflow_provider_omnimessage.api.messages import sms, viber
from airflow_provider_omnimessage.operators.omnimessage import SendOmnimessageOperator
from airflow_provider_omnimessage.sensors.omnimessage import OmnimessageDeliverySensor

with DAG(
    dag_id="omnimessage_branch_on_delivery",
    schedule=None,
    catchup=False,
    tags=["omnimessage", "example"],
    params={"to": Param("+37255555555", type="string", description="The recipient, in E.164 format")},
    doc_md=__doc__,
):
    send = SendOmnimessageOperator(
        task_id="send",
        to="{{ params.to }}",
        messages=[
            viber(text="Please confirm the delivery slot", ttl=600),
            sms(text="Please confirm the delivery slot"),
        ],
    )

    wait = OmnimessageDeliverySensor(
        task_id="wait",
        omnimessage_id=send.output,
        deferrable=True,
        timeout=timedelta(minutes=30),
        on_failed="return",
        on_timeout="return",
    )

    @task.branch
    def was_it_delivered(report: dict) -> str:
        """Return the task to run next."""
        return "go_on" if report["outcome"] in ("delivered", "seen") else "call"

    @task
    def go_on() -> str:
        """Stand in for your own tasks."""
        return "delivered"

    @task
    def call(report: dict) -> str:
        """Stand in for your own telephone system, and return why the message was not delivered."""
        return "; ".join(f"{each['channel']}: {each['error'] or each['status']}" for each in report["channels"])

    was_it_delivered(wait.output) >> [go_on(), call(wait.output)]
