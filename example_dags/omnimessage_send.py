"""Send one SMS now: the shortest DAG, and the first one to try."""

from __future__ import annotations

from airflow.sdk import DAG, Param

from airflow_provider_omnimessage.api.messages import sms
from airflow_provider_omnimessage.operators.omnimessage import SendOmnimessageOperator

with DAG(
    dag_id="omnimessage_send",
    schedule=None,
    catchup=False,
    tags=["omnimessage", "example"],
    params={"to": Param("+37255555555", type="string", description="The recipient, in E.164 format")},
    doc_md=__doc__,
):
    SendOmnimessageOperator(
        task_id="send",
        to="{{ params.to }}",
        messages=[sms("The report of {{ dag_run.run_after | ds }} is ready")],
    )
