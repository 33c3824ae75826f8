"""
Nine in the morning stays nine in the morning, on both sides of a clock change.

Schedules a message for 09:00 in Tallinn on the day before, the day of and the day after the next clock change: the same
local time, another UTC time. Each mapped task logs both. All of them are cancelled again, so that nothing is sent.
"""

from __future__ import annotations

import pendulum
from airflow.sdk import DAG, task

from airflow_provider_omnimessage.api.messages import sms
from airflow_provider_omnimessage.operators.omnimessage import (
    CancelScheduledMessageOperator,
    ScheduleOmnimessageOperator,
)

ZONE = "Europe/Tallinn"

with DAG(
    dag_id="omnimessage_local_times",
    schedule=None,
    catchup=False,
    tags=["omnimessage", "example"],
    doc_md=__doc__,
):

    @task
    def mornings_around_the_next_clock_change() -> list[str]:
        """Local times without an offset: the operator's ``timezone`` says where they are meant."""
        noon = pendulum.today(ZONE).at(12)
        while noon.add(days=1).offset == noon.offset:
            noon = noon.add(days=1)
        change = noon.add(days=1)
        return [f"{change.add(days=days):%Y-%m-%d}T09:00" for days in (-1, 0, 1)]

    schedule = ScheduleOmnimessageOperator.partial(
        task_id="schedule",
        to="+37255555555",
        timezone=ZONE,
        messages=[sms(text="Good morning! It is nine o'clock in Tallinn.")],
    ).expand(time_to_send=mornings_around_the_next_clock_change())

    CancelScheduledMessageOperator(task_id="cancel", omnimessage_id=schedule.output)
