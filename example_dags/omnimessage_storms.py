"""Send one message when many tasks fail, one digest for the rest, and one when it works again.

Trigger it with ``{"work_fails": true}`` a few times, then without.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, Param, task

from airflow_provider_omnimessage.notifications.omnimessage import OmnimessageNotifier

ALERTS = OmnimessageNotifier.callbacks(
    to="+37255555555", dedup_key="{{ dag.dag_id }}", quiet_for=timedelta(hours=1), recovered=True
)

with DAG(
    dag_id="omnimessage_storms",
    schedule=None,
    catchup=False,
    tags=["omnimessage", "example"],
    params={"work_fails": Param(False, type="boolean", description="Make the tasks fail, so that messages are sent")},
    # each failed task counts; the storm ends when a whole run succeeds
    default_args={"on_failure_callback": ALERTS["on_failure_callback"]},
    on_success_callback=ALERTS["on_success_callback"],
    doc_md=__doc__,
):

    @task
    def load(table: str, params: dict) -> None:
        """Fail if work_fails is set."""
        if params["work_fails"]:
            raise RuntimeError(f"cannot load {table}")

    load.expand(table=["customers", "orders", "payments", "refunds"])
