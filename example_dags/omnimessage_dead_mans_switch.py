"""
An alert that goes out unless the work is done in time, even if Airflow is dead by then.

Trigger it with ``{"work_fails": true}`` to see the alert stay scheduled; clear the failed tasks to see it cancelled.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, Param, task

from airflow_provider_omnimessage.alerts import DeadMansSwitch

with DAG(
    dag_id="omnimessage_dead_mans_switch",
    schedule=None,
    catchup=False,
    tags=["omnimessage", "example"],
    params={
        "to": Param("+37255555555", type="string", description="Who is to hear of late work, in E.164"),
        "work_fails": Param(False, type="boolean", description="Let the work fail, so that the alert goes out"),
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
        """Fail if that was asked for."""
        if params["work_fails"]:
            raise RuntimeError("the work failed, as its parameter asked for")

    # for a fixed time of day: time_to_send="{{ data_interval_end.in_tz('Europe/Tallinn').at(9) }}"
    with DeadMansSwitch(
        "report_by_nine",
        to="{{ params.to }}",
        text="Report is late: {{ dag.dag_id }} {{ run_id }}",
        time_to_send=timedelta(minutes=30),
    ):
        load(transform.expand(number=extract()))
