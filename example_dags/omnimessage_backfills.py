"""
Schedule a daily alert, but not for days in the past.

With ``catchup=True``, or in a backfill, Airflow runs the DAG for past days. ``on_past="skip"`` then skips the task that
schedules the alert, and ``trigger_rule="none_failed"`` lets the work run anyway. To see this, trigger it
with ``{"days_ago": 7}``.
"""

from __future__ import annotations

from airflow.sdk import DAG, Param, task

from airflow_provider_omnimessage.api.messages import sms
from airflow_provider_omnimessage.operators.omnimessage import (
    CancelScheduledMessageOperator,
    ScheduleOmnimessageOperator,
)

with DAG(
    dag_id="omnimessage_backfills",
    schedule=None,  # in your DAG: "0 6 * * *", with a start_date and catchup=True
    catchup=False,
    tags=["omnimessage", "example"],
    params={"days_ago": Param(0, type="integer", description="How many days in the past the run is, as in a backfill")},
    doc_md=__doc__,
):
    schedule = ScheduleOmnimessageOperator(
        task_id="schedule",
        to="+37255555555",
        # in your DAG: "{{ data_interval_end.in_tz('Europe/Tallinn').at(9) }}"
        time_to_send="{{ dag_run.run_after + macros.timedelta(hours=3, days=-params.days_ago) }}",
        on_past="skip",
        messages=[sms(text="{{ dag.dag_id }} is late: {{ run_id }}")],
    )

    @task(trigger_rule="none_failed")
    def work() -> None:
        """Stand in for your own tasks. Every task directly after ``schedule`` needs this trigger rule."""

    cancel = CancelScheduledMessageOperator(task_id="cancel", omnimessage_id=schedule.output)

    schedule >> work() >> cancel
