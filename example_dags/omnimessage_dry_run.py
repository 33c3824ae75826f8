"""Check and price a bulk send without sending anything, and send it only within a budget."""

from __future__ import annotations

from airflow.sdk import DAG

from airflow_provider_omnimessage.api.messages import sms
from airflow_provider_omnimessage.operators.bulk import ScheduleBulkOmnimessageOperator

SEND = {
    "recipients": [{"to": "+37255555555", "name": "Mari"}, {"to": "+12025550142", "name": "Ann"}],
    "messages": [sms(text="Hello $name, your weekly numbers are in.")],
    "prices": {"372": 0.05, "1": 0.01},
}

with DAG(
    dag_id="omnimessage_dry_run",
    schedule=None,
    catchup=False,
    tags=["omnimessage", "example"],
    doc_md=__doc__,
):
    estimate = ScheduleBulkOmnimessageOperator(task_id="estimate", dry_run=True, **SEND)
    send = ScheduleBulkOmnimessageOperator(task_id="send", budget=50.0, **SEND)
    estimate >> send
