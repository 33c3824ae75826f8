"""
Schedule a message for each recipient of a list, at 09:00 in the recipient's time zone.

The list comes from a task, as it would from your database. ``expand_kwargs`` creates a mapped task for each entry; the
keys of an entry are parameters of the operator.
"""

from __future__ import annotations

import pendulum
from airflow.sdk import DAG, task

from airflow_provider_omnimessage.api.messages import sms
from airflow_provider_omnimessage.operators.omnimessage import ScheduleOmnimessageOperator

with DAG(
    dag_id="omnimessage_mapped_recipients",
    schedule=None,
    catchup=False,
    tags=["omnimessage", "example"],
    doc_md=__doc__,
):

    @task
    def recipients() -> list[dict[str, str]]:
        """Stand in for a query of your database: numbers and time zones."""
        people = [
            ("+37255555551", "Europe/Tallinn"),
            ("+12025550142", "America/New_York"),
            ("+819012345678", "Asia/Tokyo"),
        ]
        return [
            {"to": to, "timezone": zone, "time_to_send": f"{pendulum.tomorrow(zone):%Y-%m-%d}T09:00"}
            for to, zone in people
        ]

    ScheduleOmnimessageOperator.partial(
        task_id="schedule",
        messages=[sms(text="Good morning! Your weekly numbers are in.")],
    ).expand_kwargs(recipients())
