"""Reports of Messente and waits for them, without a clock."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from airflow_provider_omnimessage.api.awaited_message import AwaitedMessage
from airflow_provider_omnimessage.api.delivery import (
    DeliveryReport,
)
from airflow_provider_omnimessage.api.waiting import Wait

T0 = datetime(2026, 11, 23, 9, 0, tzinfo=timezone.utc)
CHANNELS = ("viber", "whatsapp", "rcs", "sms")


def a_report(*statuses, error=None, price=None, timestamp="2026-11-23T09:00:07", omnimessage_id="m-1"):
    return DeliveryReport.read(
        {
            "omnimessage_id": omnimessage_id,
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


def a_wait(*ids, time_to_send=T0, seconds=36_000, poke_interval=60.0, **settings):
    """Make a wait that began an hour before its messages are sent, and ends ``seconds`` after."""
    messages = [AwaitedMessage(id_, time_to_send) for id_ in ids or ("m-1",)]
    begin = T0 - timedelta(hours=1)
    wait = Wait(messages, since=begin, deadline=at(seconds), poke_interval=poke_interval, **settings)
    wait.start(begin)
    return wait


def at(seconds):
    return T0 + timedelta(seconds=seconds)


def record(wait, message, report, now):
    """Record a report as if it were about this message."""
    body = {"omnimessage_id": message.omnimessage_id, "statuses": [status._asdict() for status in report.statuses]}
    return wait.record_report(message, DeliveryReport.read(body), now)
