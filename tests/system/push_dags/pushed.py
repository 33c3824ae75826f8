"""A wait on a real triggerer, for messages of which a receiver gets the reports."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, Param, task

from airflow_provider_omnimessage.sensors.omnimessage import OmnimessageDeliverySensor

with DAG("pushed", schedule=None, catchup=False, params={"ids": Param([], type="array")}):

    @task
    def ids(params: dict | None = None) -> list[str]:
        return list((params or {})["ids"])

    OmnimessageDeliverySensor.partial(
        task_id="wait", deferrable=True, timeout=timedelta(minutes=10), poke_interval=timedelta(minutes=10)
    ).expand(omnimessage_id=ids())
