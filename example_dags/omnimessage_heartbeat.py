"""
Send an alert when Airflow stops: each run schedules a message, and cancels that of the previous run.

Set a schedule, unpause the DAG and stop the scheduler: the message is sent 20 minutes after the last run. ``grace``
should be three to four times the interval between two runs.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, Param

from airflow_provider_omnimessage.alerts import HeartbeatOperator

with DAG(
    dag_id="omnimessage_heartbeat",
    schedule=None,  # in your DAG: "*/5 * * * *"
    catchup=False,
    max_active_runs=1,
    tags=["omnimessage", "example"],
    params={"to": Param("+37255555555", type="string", description="Recipient of the alert, in E.164 format")},
    doc_md=__doc__,
):
    HeartbeatOperator(task_id="beat", to="{{ params.to }}", grace=timedelta(minutes=20), timezone="Europe/Tallinn")
