"""Events: reports and replies from Messente, as the log stores them. Nothing here does I/O."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

from airflow_provider_omnimessage.api.delivery import STATUS_RANKS
from airflow_provider_omnimessage.api.masking import mask_numbers

Kind = Literal["report", "reply"]

#: Maximum number of characters that are kept of Messente's free text.
LONGEST_TEXT = 500

#: What the name of a consumer may be.
CONSUMER = re.compile(r"[\w.:/@-]{1,200}", re.ASCII)
#: Follows a consumer's name in the name of its second position: up to where failures have been confirmed.
FAILURES = "+failures"

_ID = re.compile(r"[A-Za-z0-9_.:@=+/-]{1,64}")
_STATUS = re.compile(r"[A-Z0-9_-]{1,32}")


class Details(TypedDict, total=False):
    """The values of an event that only readers need."""

    channel: str | None
    err: int | None
    error: str | None
    timestamp: str | None
    price: str | None


class EventJson(Details, total=False):
    """An entry of the log as the events route returns it: a report has the first two ids, a reply the last two."""

    seq: int
    kind: Kind
    omnimessage_id: str
    message_id: str
    msg_id: str
    sub_msg_id: str
    status: str | None
    first_delivery: bool
    received_at: int


class MalformedError(ValueError):
    """The body is signed, but is not in Messente's format. The message contains nothing from the body."""


@dataclass(frozen=True)
class Event:
    """One entry of the log, before it has a sequence number.

    :param conn_id: the Airflow connection that received it.
    :param kind: ``report`` or ``reply``.
    :param subject_id: the ``omnimessage_id`` of a report, the ``msg_id`` of a reply.
    :param message_id: the channel's message of a report, the ``sub_msg_id`` of a reply.
    :param status: Messente's status; empty while it is in progress, and for a reply.
    :param details: the other values, as plain data without phone numbers and texts.
    """

    conn_id: str
    kind: Kind
    subject_id: str
    message_id: str
    status: str
    details: Details = field(hash=False)

    @property
    def rank(self) -> int:
        """The progress of the status. A channel's status never moves to a lower rank."""
        return rank_of(self.status)

    @property
    def key(self) -> tuple[str, str, str, str, str]:
        """Identifies the event: each key is stored once."""
        return (self.conn_id, self.kind, self.subject_id, self.message_id, self.status)


def rank_of(status: str) -> int:
    """Return the progress of a status; an unknown status is in progress."""
    return STATUS_RANKS.get(status, 0)


def is_delivery(rank: int) -> bool:
    """Return whether a status of this rank means delivered or read."""
    return rank >= STATUS_RANKS["DELIVRD"]


def read_report(conn_id: str, body: bytes) -> Event:
    """Read the body of a delivery report.

    :raises MalformedError: if it is malformed.
    """
    report = _json_object(body)
    price_info = report.get("price_info")
    price = price_info.get("total_price") if isinstance(price_info, dict) else None
    err = report.get("err")
    return Event(
        conn_id=conn_id,
        kind="report",
        subject_id=_id(report, "omnimessage_id"),
        message_id=_id(report, "message_id", required=False),
        status=_status(report.get("status")),
        details={
            "channel": _text(report.get("channel")),
            "err": err if isinstance(err, int) and not isinstance(err, bool) and abs(err) < 2**31 else None,
            "error": _text(report.get("error")),
            "timestamp": _text(report.get("timestamp")),
            "price": _text(str(price)) if isinstance(price, (str, int, float)) else None,
        },
    )


def read_reply(conn_id: str, body: bytes) -> Event:
    """Read the body of an inbound message. The text and the sender's number are dropped.

    :raises MalformedError: if it is malformed.
    """
    reply = _json_object(body)
    return Event(
        conn_id=conn_id,
        kind="reply",
        subject_id=_id(reply, "msg_id"),
        message_id=_id(reply, "sub_msg_id", required=False),
        status="",
        details={"channel": _text(reply.get("channel")), "timestamp": _text(reply.get("time"))},
    )


def as_json(seq: int, event: Event, first_delivery: bool, received_at: int) -> EventJson:
    """Return an entry of the log as the events route returns it.

    :param first_delivery: whether this is the first report of the message that means delivered or read.
    :param received_at: seconds since 1970.
    """
    ids: EventJson = (
        {"omnimessage_id": event.subject_id, "message_id": event.message_id}
        if event.kind == "report"
        else {"msg_id": event.subject_id, "sub_msg_id": event.message_id}
    )
    return {
        **ids,
        "seq": seq,
        "kind": event.kind,
        "status": event.status or None,
        "first_delivery": first_delivery,
        "received_at": received_at,
        **event.details,
    }


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError):
        raise MalformedError("the body is not JSON") from None
    if not isinstance(found, dict):
        raise MalformedError("the body is not a JSON object")
    return found


def _id(body: Mapping[str, Any], name: str, *, required: bool = True) -> str:
    value = body.get(name)
    if not required and value in (None, ""):
        return ""
    if not isinstance(value, (str, int)) or not _ID.fullmatch(str(value)):
        raise MalformedError(f"{name} is missing or invalid")
    return str(value)


def _status(value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or not _STATUS.fullmatch(value):
        raise MalformedError("status is invalid")
    return value


def _text(value: object) -> str | None:
    """Return a text that every database accepts, with phone numbers masked; ``None`` if it is not a text."""
    if not isinstance(value, str) or not value:
        return None
    storable = value.encode("utf-8", "replace").decode("utf-8").replace("\x00", "")
    return mask_numbers(storable)[:LONGEST_TEXT]
