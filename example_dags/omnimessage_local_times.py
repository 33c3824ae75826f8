"""
Schedule messages for 09:00 local time, before and after a clock change.

There is one message for the day before, one for the day of and one for the day after the next clock change in Tallinn:
the local time stays 09:00, the UTC time changes. Each mapped task logs both.
"""

from __future__ import annotations

import pendulum
from airflow.sdk import DAG, task

from airflow_provider_omnimessage.api.messages import sms
from airflow_provider_omnimessage.operators.omnimessage import ScheduleOmnimessageOperator

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
        """Return local times without an offset: the operator's ``timezone`` applies to them."""
        noon = pendulum.tomorrow(ZONE).at(12)
        while noon.add(days=1).offset == noon.offset:
            noon = noon.add(days=1)
        change = noon.add(days=1)
        return [f"{change.add(days=days):%Y-%m-%d}T09:00" for days in (-1, 0, 1)]

    ScheduleOmnimessageOperator.partial(
        task_id="schedule",
        to="+37255555555",
        timezone=ZONE,
        messages=[sms(text="Good morning! It is nine o'clock in Tallinn.")],
    ).expand(time_to_send=mornings_around_the_next_clock_change())
