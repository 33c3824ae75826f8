"""The same wait in every mode, and a chosen number of deferred ones."""

from __future__ import annotations

import os
from datetime import timedelta

from airflow.sdk import DAG, task

from airflow_provider_omnimessage.sensors.omnimessage import OmnimessageDeliverySensor

MANY = int(os.environ.get("OMNIMESSAGE_WAITS", "12"))
MODES = {
    "poke": {"deferrable": False, "mode": "poke"},
    "reschedule": {"deferrable": False, "mode": "reschedule"},
    "deferred": {"deferrable": True},
}


@task
def read(report: dict) -> str:
    """Take the report as tasks do: as plain data, and not as a text."""
    return f"{report['outcome']} by {report['delivered_by']}"


with DAG("every_mode", schedule=None, catchup=False, params={"ids": {}, "timeout": 600}):
    for name, settings in MODES.items():
        wait = OmnimessageDeliverySensor(
            task_id=name,
            omnimessage_id=f"{{{{ params.ids['{name}'] }}}}",
            poke_interval=1,
            timeout=600,
            retries=2,
            # a busy scheduler can take a rescheduled task for a lost one, and then spends a retry on it
            retry_delay=timedelta(seconds=1),
            **settings,
        )
        read.override(task_id=f"read_{name}")(wait.output)

with DAG(
    "many_waits",
    schedule=None,
    catchup=False,
    params={"ids": [], "conn_id": "omnimessage_default", "time_to_send": None},
    max_active_tasks=1000,
):

    @task
    def ids(params: dict) -> list[str]:
        """Hand the ids over, one for each wait."""
        return params["ids"]

    OmnimessageDeliverySensor.partial(
        task_id="wait",
        deferrable=True,
        poke_interval=5 if MANY > 50 else 2,
        timeout=3600,
        retries=2,
        omnimessage_conn_id="{{ params.conn_id }}",
        time_to_send="{{ params.time_to_send }}",
    ).expand(omnimessage_id=ids())
