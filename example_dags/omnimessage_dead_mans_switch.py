"""Send an alert unless the work is done in time, even if Airflow is down by then.

Trigger it with ``{"work_fails": true}`` to see the alert stay scheduled; clear the failed tasks to see it cancelled.
Trigger it with ``{"work_seconds": 3600}`` and stop Airflow meanwhile: the alert is sent anyway.
"""

from __future__ import annotations

import time
from datetime import timedelta

from airflow.sdk import DAG, Param, task

from airflow_provider_omnimessage.alerts import DeadMansSwitch

with DAG(
    dag_id="omnimessage_dead_mans_switch",
    schedule=None,
    catchup=False,
    tags=["omnimessage", "example"],
    params={
        "to": Param("+37255555555", type="string", description="Recipient of the alert, in E.164 format"),
        "work_fails": Param(False, type="boolean", description="Make the work fail, so that the alert is sent"),
        "work_seconds": Param(0, type="integer", description="Make the work take this long"),
    },
    doc_md=__doc__,
):

    @task
    def extract() -> list[int]:
        """Stand in for your own tasks."""
        return [1, 2, 3]

    @task
    def transform(number: int) -> int:
        """Run once for each number."""
        return number * 2

    @task
    def load(numbers: list[int], params: dict) -> None:
        """Take work_seconds, then fail if work_fails is set."""
        time.sleep(params["work_seconds"])
        if params["work_fails"]:
            raise RuntimeError("the work failed because work_fails is set")

    # for a time of day: by="09:00", timezone="Europe/Tallinn"
    with DeadMansSwitch(
        "report_in_time",
        to="{{ params.to }}",
        text="Report is late: {{ dag.dag_id }} {{ run_id }}",
        within=timedelta(minutes=30),
    ):
        load(transform.expand(number=extract()))
