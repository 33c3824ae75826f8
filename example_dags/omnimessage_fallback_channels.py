"""
Send one message that tries Viber first, then WhatsApp, then SMS.

Each channel has its own content. If a channel fails, or does not deliver within its ``ttl`` (seconds) or ``validity``
(minutes), the next one is tried.
"""

from __future__ import annotations

from airflow.sdk import DAG, Param

from airflow_provider_omnimessage.api.messages import sms, viber, whatsapp
from airflow_provider_omnimessage.operators.omnimessage import SendOmnimessageOperator

DAY = "{{ dag_run.run_after | ds }}"
REPORT = f"https://example.com/reports/{DAY}"

with DAG(
    dag_id="omnimessage_fallback_channels",
    schedule=None,
    catchup=False,
    tags=["omnimessage", "example"],
    params={"to": Param("+37255555555", type="string", description="The recipient, in E.164 format")},
    doc_md=__doc__,
):
    SendOmnimessageOperator(
        task_id="send",
        to="{{ params.to }}",
        messages=[
            viber(
                text=f"Your report of {DAY} is ready",
                button_text="Open it",
                button_url=REPORT,
                ttl=120,
            ),
            whatsapp(
                text=f"Your report of {DAY} is ready: {REPORT}",
                validity=5,
            ),
            sms(text=f"Your report of {DAY} is ready", autoconvert="full"),
        ],
        priority="high",
    )
