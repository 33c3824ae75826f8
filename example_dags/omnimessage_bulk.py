"""
Everybody on a list, in one task: a thousand messages in a call, each with the recipient's own words and time.

The list is written by a task, as an export would be, and read as a stream. One task cancels all of it, another waits
for all of it. The message is for tomorrow, so this run cancels it; with the parameter ``send_now`` it goes out, and the
run waits until 95 % have it.
"""

from __future__ import annotations

import csv
import tempfile

import pendulum
from airflow.sdk import DAG, Param, task

from airflow_provider_omnimessage.api.messages import sms
from airflow_provider_omnimessage.operators.bulk import ScheduleBulkOmnimessageOperator
from airflow_provider_omnimessage.operators.omnimessage import CancelScheduledMessageOperator
from airflow_provider_omnimessage.sensors.omnimessage import OmnimessageDeliverySensor

with DAG(
    dag_id="omnimessage_bulk",
    schedule=None,
    catchup=False,
    params={
        "recipients": Param(100, type="integer", description="How many get it"),
        "send_now": Param(False, type="boolean", description="Send, and wait for delivery"),
    },
    tags=["omnimessage", "example"],
    doc_md=__doc__,
):

    @task
    def export(params: dict) -> str:
        """Stand in for an export of your database: who, where, and what each message says."""
        zones = ["Europe/Tallinn", "America/New_York", "Asia/Tokyo"]
        with tempfile.NamedTemporaryFile("w", suffix=".csv", delete=False, newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["to", "name", "timezone", "time_to_send"])
            for number in range(params["recipients"]):
                zone = zones[number % 3]
                when = "" if params["send_now"] else f"{pendulum.tomorrow(zone).add(days=1):%Y-%m-%d}T09:00"
                rows.writerow([f"+3725{number:06d}9", f"Customer {number}", zone, when])
        return f"file://{file.name}"

    send = ScheduleBulkOmnimessageOperator(
        task_id="send",
        recipients="{{ ti.xcom_pull(task_ids='export') }}",
        messages=[sms(text="Good morning, $name! Your weekly numbers are in.")],
        on_invalid="drop",
        max_failed=0.01,
        parallel=2,
    )

    @task.branch
    def what_next(params: dict) -> str:
        """Choose between the two."""
        return "wait" if params["send_now"] else "cancel"

    cancel = CancelScheduledMessageOperator(task_id="cancel", omnimessage_id=send.output)
    wait = OmnimessageDeliverySensor(
        task_id="wait", omnimessage_id=send.output, require=0.95, poke_interval=5, deferrable=True
    )
    export() >> send >> what_next() >> [cancel, wait]
