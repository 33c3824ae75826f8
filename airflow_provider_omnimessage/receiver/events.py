"""Events: what a report or a reply from Messente becomes in the log. Nothing here does I/O."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from airflow_provider_omnimessage.api.delivery import STATUS_RANKS
from airflow_provider_omnimessage.api.masking import mask_numbers

Kind = Literal["report", "reply"]

#: Most characters of Messente's free text that are kept.
LONGEST_TEXT = 500

_ID = re.compile(r"[A-Za-z0-9_.:@=+/-]{1,64}")
_STATUS = re.compile(r"[A-Z0-9_-]{1,32}")


class MalformedError(ValueError):
    """The body is signed, but it is not what Messente sends. The message holds nothing of the body."""


@dataclass(frozen=True)
class Event:
    """One entry of the log, before it has a sequence number.

    :param conn_id: the Airflow connection that it came in for.
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
    details: Mapping[str, Any] = field(hash=False)

    @property
    def rank(self) -> int:
        """How far along the status is. A channel's status never moves to a lower rank."""
        return rank_of(self.status)

    @property
    def key(self) -> tuple[str, str, str, str, str]:
        """What is stored only once."""
        return (self.conn_id, self.kind, self.subject_id, self.message_id, self.status)


def rank_of(status: str) -> int:
    """Return how far along a status is; one that is not known yet is in progress."""
    return STATUS_RANKS.get(status, 0)


def is_delivery(rank: int) -> bool:
    """Return whether a status of this rank says that the message was delivered or read."""
    return rank >= STATUS_RANKS["DELIVRD"]


def read_report(conn_id: str, body: bytes) -> Event:
    """Read the body of a delivery report.

    :raises MalformedError: if it is not one.
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
    """Read the body of an inbound message. Its text and its sender's number are left out.

    :raises MalformedError: if it is not one.
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


def as_json(seq: int, event: Event, first_delivery: bool, received_at: int) -> dict[str, Any]:
    """Return an entry of the log as the events route shows it.

    :param first_delivery: whether this is the first report that says that the message was delivered or read.
    :param received_at: seconds since 1970.
    """
    ids = (
        {"omnimessage_id": event.subject_id, "message_id": event.message_id}
        if event.kind == "report"
        else {"msg_id": event.subject_id, "sub_msg_id": event.message_id}
    )
    return {
        "seq": seq,
        "kind": event.kind,
        **ids,
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
        raise MalformedError(f"{name} is missing, or not an id")
    return str(value)


def _status(value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or not _STATUS.fullmatch(value):
        raise MalformedError("status is not one")
    return value


def _text(value: object) -> str | None:
    """Return a text that every database accepts, without phone numbers; ``None`` for anything else."""
    if not isinstance(value, str) or not value:
        return None
    storable = value.encode("utf-8", "replace").decode("utf-8").replace("\x00", "")
    return mask_numbers(storable)[:LONGEST_TEXT]
