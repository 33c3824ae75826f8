"""Send an alert when a nightly job is not done by the next morning, also on nights with a clock change."""

from __future__ import annotations

import pendulum
from airflow.sdk import DAG, task

from airflow_provider_omnimessage.alerts import DeadMansSwitch

ZONE = "Europe/Tallinn"

with DAG(
    dag_id="omnimessage_nightly",
    schedule="0 23 * * *",
    start_date=pendulum.datetime(2026, 1, 1, tz=ZONE),
    catchup=False,
    tags=["omnimessage", "example"],
    doc_md=__doc__,
):

    @task
    def load() -> None:
        """Stand in for your own tasks."""

    with DeadMansSwitch(
        "by_morning",
        to="+37255555555",
        text="Nightly load is late: {{ dag.dag_id }} {{ run_id }}",
        by="07:30",
        timezone=ZONE,
    ):
        load()
