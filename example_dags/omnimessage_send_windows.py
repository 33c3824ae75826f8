"""
Send a reminder to each recipient at 09:00 in their time zone, on working days only.

The time zone comes from each number (extras ``[zones]`` and ``[holidays]``). The messages stay scheduled.
"""

from __future__ import annotations

from airflow.sdk import DAG

from airflow_provider_omnimessage.api.messages import sms
from airflow_provider_omnimessage.api.windows import SendWindow
from airflow_provider_omnimessage.operators.bulk import ScheduleBulkOmnimessageOperator

with DAG(
    dag_id="omnimessage_send_windows",
    schedule=None,
    catchup=False,
    tags=["omnimessage", "example"],
    doc_md=__doc__,
):
    ScheduleBulkOmnimessageOperator(
        task_id="send",
        recipients=[{"to": "+37255555555"}, {"to": "+12025550142"}, {"to": "+819012345678"}],
        messages=[sms(text="Good morning! Your weekly numbers are in.")],
        time_to_send="{{ (dag_run.run_after + macros.timedelta(days=2)) | ds }}T09:00",
        timezone="recipient",
        window=SendWindow("09:00-20:00", days="mon-fri", timezone="recipient", holidays="EE"),
        on_unknown_zone="UTC",
    )
