"""
Messages about what happens in a run, from the callbacks of a task and of its DAG.

Trigger it with ``{"work_fails": true}`` to hear of the failure. For deadline alerts, see docs/alerts.md.
"""

from __future__ import annotations

from airflow.sdk import DAG, Param, task

from airflow_provider_omnimessage.api.messages import sms, viber
from airflow_provider_omnimessage.notifications.omnimessage import OmnimessageNotifier

TO = "+37255555555"

with DAG(
    dag_id="omnimessage_notifier",
    schedule=None,
    catchup=False,
    tags=["omnimessage", "example"],
    params={"work_fails": Param(False, type="boolean", description="Let the work fail, so that it is told")},
    # without a text, it says what has happened
    on_failure_callback=OmnimessageNotifier(to=TO),
    doc_md=__doc__,
):

    @task(
        on_failure_callback=OmnimessageNotifier(
            to=[TO, "+37255555556"],
            messages=[
                viber("{{ ti.task_id }} failed: {{ exception }}", ttl=600),
                sms("{{ ti.task_id }} failed: {{ exception }}"),
            ],
        ),
        on_success_callback=OmnimessageNotifier(to=TO, text="{{ dag.dag_id }}: the report is there"),
    )
    def work(params: dict) -> None:
        """Stand in for your own task."""
        if params["work_fails"]:
            raise RuntimeError("the work failed, as its parameter asked for")

    work()
