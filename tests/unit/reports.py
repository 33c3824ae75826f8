"""Delivery reports for tests, built from statuses."""

from __future__ import annotations

from datetime import datetime, timezone

from airflow_provider_omnimessage.api.delivery import DeliveryReport

T0 = datetime(2026, 11, 23, 9, 0, tzinfo=timezone.utc)
CHANNELS = ("viber", "whatsapp", "rcs", "sms")
IN_PROGRESS = (None, "ACK", "ACCEPTD")
FAILED = ("UNDELIV", "FAILED", "REJECTD", "EXPIRED", "NACK")
UNKNOWN = ("UNKNOWN", "BRAND_NEW", "delivrd", "")
EVERY_STATUS = (*IN_PROGRESS, *FAILED, *UNKNOWN, "DELIVRD", "SEEN", "DELETED")


def a_report(*statuses, error=None, price=None, timestamp="2026-11-23T09:00:07"):
    return DeliveryReport.read(
        {
            "omnimessage_id": "m-1",
            "to": "+37255555555",
            "statuses": [
                {
                    "status": status,
                    "channel": channel,
                    "message_id": f"id-{channel}",
                    "error": error,
                    "err": 1 if error else 0,
                    "timestamp": timestamp,
                    "price_info": price and {"total_price": price},
                }
                for status, channel in zip(statuses, CHANNELS, strict=False)
            ],
        }
    )
