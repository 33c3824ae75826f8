"""
Send personal texts to thousands of recipients in one task, at 09:00 in each recipient's time zone.

By default the messages are scheduled for the day after tomorrow. With ``send_now``, they are sent immediately, and the
run waits until 95 % are delivered. With ``cancel``, one task cancels all of them.
"""

from __future__ import annotations

from collections.abc import Iterator

import pendulum
from airflow.sdk import DAG, Param, task

from airflow_provider_omnimessage.api.messages import sms
from airflow_provider_omnimessage.operators.bulk import ScheduleBulkOmnimessageOperator
from airflow_provider_omnimessage.operators.omnimessage import CancelScheduledMessageOperator
from airflow_provider_omnimessage.sensors.omnimessage import OmnimessageDeliverySensor


def customers(params: dict) -> Iterator[dict]:
    """
    Yield the recipients. Stands in for a query of your database.

    The task that sends calls this function and reads the recipients one by one, so no shared file is needed.
    """
    zones = ["Europe/Tallinn", "America/New_York", "Asia/Tokyo"]
    for number in range(params["recipients"]):
        zone = zones[number % 3]
        customer = {"to": f"+3725{number:06d}9", "name": f"Customer {number}", "timezone": zone}
        if not params["send_now"]:
            customer["time_to_send"] = f"{pendulum.tomorrow(zone).add(days=1):%Y-%m-%d}T09:00"
        yield customer


with DAG(
    dag_id="omnimessage_bulk",
    schedule=None,
    catchup=False,
    params={
        "recipients": Param(100, type="integer", description="How many recipients"),
        "send_now": Param(False, type="boolean", description="Send now, and wait for delivery"),
        "cancel": Param(False, type="boolean", description="Cancel the messages again"),
    },
    tags=["omnimessage", "example"],
    doc_md=__doc__,
):
    send = ScheduleBulkOmnimessageOperator(
        task_id="send",
        recipients=customers,
        messages=[sms(text="Good morning, $name! Your weekly numbers are in.")],
        on_invalid="drop",
        max_failed=0.01,
        parallel=2,
    )

    @task.branch
    def what_next(params: dict) -> list[str]:
        """Return the tasks to run next."""
        return [name for name, wanted in (("wait", params["send_now"]), ("cancel", params["cancel"])) if wanted]

    cancel = CancelScheduledMessageOperator(task_id="cancel", omnimessage_id=send.output)
    wait = OmnimessageDeliverySensor(
        task_id="wait", omnimessage_id=send.output, require=0.95, poke_interval=5, deferrable=True
    )
    send >> what_next() >> [cancel, wait]
