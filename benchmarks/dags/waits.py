"""As many deferred waits as are asked for: this package's, and those of the HTTP provider."""

from __future__ import annotations

from airflow.providers.http.sensors.http import HttpSensor
from airflow.sdk import DAG, task

from airflow_provider_omnimessage.sensors.omnimessage import OmnimessageDeliverySensor


@task
def ids(params: dict) -> list[str]:
    """Return what to wait for."""
    return params["ids"]


with DAG("ours", schedule=None, params={"ids": []}, max_active_tasks=1000):
    OmnimessageDeliverySensor.partial(task_id="wait", deferrable=True, poke_interval=5, timeout=3600).expand(
        omnimessage_id=ids()
    )

with DAG("peer", schedule=None, params={"ids": []}, max_active_tasks=1000):
    HttpSensor.partial(task_id="wait", deferrable=True, poke_interval=5, timeout=3600).expand(endpoint=ids())

# of these a worker starts one; the benchmark copies it to the others, as tests/system/copied_waits.py says
with DAG("copied", schedule=None, params={"ids": []}):
    OmnimessageDeliverySensor.partial(
        task_id="wait", deferrable=True, poke_interval=60, timeout=3600, pool="one_at_a_time"
    ).expand(omnimessage_id=ids())
