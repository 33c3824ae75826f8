"""What only a cluster can break: a request on one worker, files that several hosts read, and an alert in an outage."""

from __future__ import annotations

import json
from datetime import timedelta

from airflow.sdk import (
    DAG,
    AsyncCallback,
    DeadlineAlert,
    DeadlineReference,
    ObjectStoragePath,
    Param,
    SyncCallback,
    task,
)

from airflow_provider_omnimessage.alerts import DeadMansSwitch
from airflow_provider_omnimessage.api.messages import sms
from airflow_provider_omnimessage.notifications.omnimessage import OmnimessageNotifier
from airflow_provider_omnimessage.operators.bulk import ScheduleBulkOmnimessageOperator
from airflow_provider_omnimessage.operators.omnimessage import (
    CancelScheduledMessageOperator,
    ScheduleOmnimessageOperator,
)
from airflow_provider_omnimessage.sensors.omnimessage import OmnimessageDeliverySensor

FOLDER = "s3://aws_default@omnimessage"
GUARANTEES = ("at_most_once", "at_least_once")
SOON = {"retries": 4, "retry_delay": timedelta(seconds=1)}

with DAG("cluster_schedule", schedule=None, default_args=SOON):
    for guarantee in GUARANTEES:
        ScheduleOmnimessageOperator(
            task_id=guarantee,
            delivery_guarantee=guarantee,
            to="+37255555555",
            time_to_send="2099-01-01T09:00Z",
            messages=[sms("{{ run_id }} {{ task.task_id }}")],
        )

for then in ("cancel", "wait"):
    with DAG(
        f"cluster_bulk_{then}",
        schedule=None,
        default_args={**SOON, "omnimessage_conn_id": "omnimessage_bulk"},
        params={"rows": 1000},
    ):

        @task
        def export(params: dict, run_id: str) -> str:
            """Write the recipients where every worker finds them."""
            path = ObjectStoragePath(f"{FOLDER}/{run_id}.jsonl")
            rows = ({"to": f"+3725{number:06d}9", "number": number} for number in range(params["rows"]))
            with path.open("wb") as file:
                file.write(b"".join(json.dumps(row).encode() + b"\n" for row in rows))
            return f"{FOLDER}/{run_id}.jsonl"

        send = ScheduleBulkOmnimessageOperator(
            task_id="send",
            recipients="{{ ti.xcom_pull(task_ids='export') }}",
            messages=[sms("{{ run_id }} $number")],
            results_path=FOLDER + "/{{ run_id }}.results.jsonl",
            batch_size=100 if then == "cancel" else 1000,
            **({"time_to_send": "2099-01-01T09:00Z"} if then == "cancel" else {}),
        )
        if then == "cancel":
            following = CancelScheduledMessageOperator(task_id=then, omnimessage_id=send.output)
        else:
            following = OmnimessageDeliverySensor(
                task_id=then, omnimessage_id=send.output, deferrable=True, poke_interval=5, timeout=600
            )
        export() >> send >> following

with DAG("cluster_waits", schedule=None, params={"ids": Param([], type="array")}):

    @task
    def ids(params: dict) -> list[str]:
        """Hand the ids over, one for each wait."""
        return params["ids"]

    # a deferred wait keeps the slot of its pool: a worker starts one, and the test copies it to the others
    OmnimessageDeliverySensor.partial(
        task_id="wait", deferrable=True, poke_interval=5, timeout=3600, retries=2, pool="one_at_a_time"
    ).expand(omnimessage_id=ids())

with (
    DAG("cluster_guarded", schedule=None, default_args=SOON),
    DeadMansSwitch("by_nine", to="+37255556000", text="{{ run_id }} is late", time_to_send="2099-01-01T09:00Z"),
):

    @task
    def guarded_work() -> None:
        """Be done at once."""

    guarded_work()


def missed(kind: type, digits: str, conn_id: str = "omnimessage_default") -> DeadlineAlert:
    """Miss a deadline at once."""
    notification = {
        "to": f"+3725555{digits}",
        "text": "{{ dag_run.dag_run_id }}",
        "omnimessage_conn_id": conn_id,
    }
    return DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=timedelta(seconds=1),
        callback=kind(OmnimessageNotifier, kwargs=notification),
    )


with DAG(
    "cluster_deadline",
    schedule=None,
    deadline=[
        missed(AsyncCallback, "6101"),
        missed(SyncCallback, "6102"),
        missed(AsyncCallback, "6103", "omnimessage_pushed"),
    ],
):

    @task
    def late() -> None:
        """Take longer than the deadline allows."""
        import time

        time.sleep(5)

    late()
