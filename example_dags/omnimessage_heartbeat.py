"""
An alert that goes out when Airflow has fallen silent: one message is always scheduled ahead.

Unpause it, and stop the scheduler: after twenty minutes, the message says since when nothing was heard. On a schedule
of your own, let ``grace`` be three or four times the time between two runs.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, Param

from airflow_provider_omnimessage.alerts import HeartbeatOperator

with DAG(
    dag_id="omnimessage_heartbeat",
    schedule=None,  # yours: "*/5 * * * *"
    catchup=False,
    max_active_runs=1,
    tags=["omnimessage", "example"],
    params={"to": Param("+37255555555", type="string", description="Who is to hear of the silence, in E.164")},
    doc_md=__doc__,
):
    HeartbeatOperator(task_id="beat", to="{{ params.to }}", grace=timedelta(minutes=20), timezone="Europe/Tallinn")
