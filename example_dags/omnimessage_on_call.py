"""Alert whoever is on call if the work is late, and escalate if the work is still not done.

All messages are scheduled before the work starts, so they are sent even if Airflow is down by then. Trigger it with
``{"work_fails": true}`` to see them stay scheduled; clear the failed task to see all of them cancelled.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, Param, task

from airflow_provider_omnimessage.alerts import DeadMansSwitch, OnCall, Step

# rota.ics is next to this file; it could also be s3://aws@bucket/rota.ics
ON_CALL = OnCall("rota.ics", people={"Ann": "+37255555551", "Bob": "+37255555552"}, default="+37255555550")

with (
    DAG(
        dag_id="omnimessage_on_call",
        schedule=None,
        catchup=False,
        tags=["omnimessage", "example"],
        params={
            "work_fails": Param(False, type="boolean", description="Make the work fail, so that the alert is sent")
        },
        doc_md=__doc__,
    ),
    DeadMansSwitch(
        "report_in_time",
        to=ON_CALL,
        text="Report is late: {{ dag.dag_id }} {{ run_id }}",
        within=timedelta(minutes=30),
        escalate=[
            Step(after=timedelta(minutes=15)),  # the same text to whoever is on call then, as "2nd notice: ..."
            Step(after=timedelta(minutes=30), to="+37255555553", text="Nobody reacts to {{ dag.dag_id }} {{ run_id }}"),
        ],
    ),
):

    @task
    def load(params: dict) -> None:
        """Fail if work_fails is set."""
        if params["work_fails"]:
            raise RuntimeError("the work failed because work_fails is set")

    load()
