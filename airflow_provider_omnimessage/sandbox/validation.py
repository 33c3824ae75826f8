"""What Messente accepts as an omnimessage: recipient, time, and the messages of its channels."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from typing import Any, Final

from airflow_provider_omnimessage.sandbox.channel_rules import CHANNELS
from airflow_provider_omnimessage.sandbox.checks import Findings, one_of, record, url
from airflow_provider_omnimessage.sandbox.outcomes import REJECTED_RECIPIENT

PAYLOAD: Final = "payload"
"""How Messente names the request body in the ``source`` of an error."""
E164: Final = re.compile(r"\+[1-9][0-9]{6,14}", re.ASCII)
ISO_8601: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?(?:(Z)|([+-])(\d\d)(?::?(\d\d))?)?",
    re.ASCII,
)
LAST_YEAR: Final = 9000
"""Later times could overflow when seconds are added to them."""


@lru_cache(maxsize=1024)
def parse_time_to_send(value: str) -> datetime:
    """Parse ``time_to_send`` as Messente does: ISO 8601, UTC if it has no offset.

    :param value: such as ``2019-06-22T09:05`` or ``2019-06-22T09:05:07+04:00``.
    :raises ValueError: the value has another format, or no such time exists.
    """
    match = ISO_8601.fullmatch(value)
    if match is None:
        raise ValueError("must be an ISO 8601 date and time, such as 2019-06-22T09:05:07+04:00")
    year, month, day, hour, minute, second, fraction, _, sign, offset_hours, offset_minutes = match.groups()
    try:
        offset = timedelta(hours=int(offset_hours or 0), minutes=int(offset_minutes or 0))
        time = datetime(
            int(year),
            int(month),
            int(day),
            int(hour),
            int(minute),
            int(second or 0),
            int((fraction or "0")[:6].ljust(6, "0")),
            tzinfo=timezone(-offset if sign == "-" else offset),
        ).astimezone(timezone.utc)
    except (ValueError, OverflowError):
        raise ValueError("must be a date and time that exists") from None
    if time.year > LAST_YEAR:
        raise ValueError(f"must not be later than the year {LAST_YEAR}")
    return time


def _time_to_send(value: Any, source: str, findings: Findings) -> None:
    if not isinstance(value, str):
        findings.invalid(source, "must be a string")
        return
    try:
        parse_time_to_send(value)
    except ValueError as error:
        findings.invalid(source, str(error))


def _recipient(value: Any, source: str, findings: Findings) -> None:
    if not isinstance(value, str) or not E164.fullmatch(value):
        findings.invalid(source, "must be a phone number in E.164 format, such as +37255555555")
    elif value.endswith(REJECTED_RECIPIENT):
        findings.invalid(source, f"ends in {REJECTED_RECIPIENT}; the sandbox rejects such recipients")


def _messages(value: Any, source: str, findings: Findings) -> None:
    if not isinstance(value, list):
        findings.invalid(source, "must be an array")
        return
    if not value:
        findings.invalid(source, "must have at least one message")
    seen: set[str] = set()
    for index, message in enumerate(value):
        position = f"{source}[{index}]"
        if not isinstance(message, dict):
            findings.invalid(position, "must be an object")
            continue
        channel = message.get("channel")
        if channel is None:
            findings.missing(f"{position}[channel]")
        elif not isinstance(channel, str) or channel not in CHANNELS:
            findings.invalid(f"{position}[channel]", f"must be one of {', '.join(CHANNELS)}")
        else:
            if channel in seen:
                findings.invalid(f"{position}[channel]", f"{channel} is used twice: send one message per channel")
            seen.add(channel)
            CHANNELS[channel](message, f"{PAYLOAD}[{channel}]", findings)


OMNIMESSAGE: Final = record(
    {"to": _recipient, "messages": _messages},
    {
        "time_to_send": _time_to_send,
        "dlr_url": url,
        "text_store": one_of("plaintext", "sha256", "nostore"),
        "priority": one_of("low", "regular", "high"),
    },
)


def validate_omnimessage(body: Any) -> Findings:
    """Find every problem and every unknown field in one omnimessage.

    :param body: the parsed JSON.
    """
    findings = Findings()
    OMNIMESSAGE(body, PAYLOAD, findings)
    return findings


def lifetime_seconds(message: Mapping[str, Any]) -> float | None:
    """Return after how many seconds a channel expires, or None if it never does.

    :param message: the content for that channel.
    """
    if message.get("ttl") is not None:
        return float(message["ttl"])
    if message.get("validity") is not None:
        return float(message["validity"]) * 60
    return None
