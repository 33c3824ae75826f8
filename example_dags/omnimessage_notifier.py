"""
Send a message when a task fails or succeeds, from callbacks of the task and of the DAG.

Trigger it with ``{"work_fails": true}`` to see the messages of a failure. For an alert that is sent even if Airflow is
down, see ``omnimessage_dead_mans_switch``.
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
    params={
        "work_fails": Param(
            False, type="boolean", description="Make the work fail, so that its callbacks send messages"
        )
    },
    # without a text, the message says which task of which run failed, and why
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
        on_success_callback=OmnimessageNotifier(to=TO, text="{{ dag.dag_id }}: the report is ready"),
    )
    def work(params: dict) -> None:
        """Stand in for your own task."""
        if params["work_fails"]:
            raise RuntimeError("the work failed because work_fails is set")

    work()
