"""Many deferred waits of which a worker starts one; the test copies it to the others, as ``copied_waits.py`` says."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, Param, task

from airflow_provider_omnimessage.sensors.omnimessage import OmnimessageDeliverySensor

POLLS_EVERY = {"pushed_rarely_polled": timedelta(minutes=10), "pushed_often_polled": timedelta(seconds=1)}

for dag_id, poke_interval in POLLS_EVERY.items():
    params = {"ids": Param([], type="array"), "time_to_send": Param(None, type=["null", "string"])}
    with DAG(dag_id, schedule=None, catchup=False, params=params) as dag:

        @task
        def ids(params: dict | None = None) -> list[str]:
            return list((params or {})["ids"])

        OmnimessageDeliverySensor.partial(
            task_id="wait",
            time_to_send="{{ params.time_to_send }}",
            deferrable=True,
            timeout=timedelta(hours=2),
            poke_interval=poke_interval,
            pool="one_at_a_time",
            retries=0,
        ).expand(omnimessage_id=ids())
    globals()[dag_id] = dag
