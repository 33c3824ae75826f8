"""Send an alert if the work is late, and also if the next run does not start.

Unpause the DAG, let it run once, and pause it again: an alert is sent 30 minutes after the next run was due.
To pause it without an alert: ``airflow omnimessage disarm omnimessage_next_run``.
"""

from __future__ import annotations

from datetime import timedelta

import pendulum
from airflow.sdk import DAG, Param, task

from airflow_provider_omnimessage.alerts import DeadMansSwitch

with DAG(
    dag_id="omnimessage_next_run",
    schedule="*/15 * * * *",
    start_date=pendulum.datetime(2026, 1, 1, tz="Europe/Tallinn"),
    catchup=False,
    is_paused_upon_creation=True,
    tags=["omnimessage", "example"],
    params={"to": Param("+37255555555", type="string", description="Recipient of the alerts, in E.164 format")},
    doc_md=__doc__,
):

    @task
    def import_orders() -> None:
        """Stand in for your own task."""

    with DeadMansSwitch(
        "import_in_time",
        to="{{ params.to }}",
        text="Orders are late: {{ dag.dag_id }} {{ run_id }}",
        within=timedelta(minutes=10),
        next_run_within=timedelta(minutes=30),
        next_run_text="Orders are not imported: the run that was due {{ expected }} has not started",
    ):
        import_orders()
