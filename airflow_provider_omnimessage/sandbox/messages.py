"""An accepted omnimessage, its state, and the delivery report on it."""

from __future__ import annotations

import random
from datetime import datetime
from typing import Any, Final

from airflow_provider_omnimessage.sandbox.outcomes import ERROR_TEXTS, FINAL, Step
from airflow_provider_omnimessage.sandbox.prices import price_info

STATES: Final = ("scheduled", "in_progress", "delivered", "seen", "failed", "unknown", "cancelled")
DEFAULT_SENDER: Final = "Sandbox"

_random_bits = random.Random().getrandbits


def new_id() -> str:
    """Return a version 4 UUID. The module ``uuid`` takes five times as long, and a bulk send needs many."""
    digits = f"{_random_bits(128):032x}"
    return (
        f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{'89ab'[int(digits[16], 16) & 3]}{digits[17:20]}-{digits[20:]}"
    )


def without_offset(time: datetime) -> str:
    """Format a UTC time as delivery reports do: ISO 8601 without an offset."""
    return time.replace(tzinfo=None).isoformat()


class Attempt:
    """A channel that has been tried; of a scheduled message, the channel that will be tried first."""

    __slots__ = ("err", "position", "since", "status", "timestamp")

    def __init__(self, position: int, since: datetime) -> None:
        self.position = position
        self.since = since
        self.status: str | None = None
        self.err: int | None = None
        self.timestamp = since


class Message:
    """An accepted omnimessage and everything that has happened to it.

    :param body: the omnimessage as received.
    :param accepted_at: the sandbox's time.
    """

    __slots__ = (
        "accepted_at",
        "attempts",
        "body",
        "cancelled_at",
        "message_ids",
        "notes",
        "omnimessage_id",
        "pending",
        "posts",
        "revision",
        "sent_at",
        "state",
        "time_to_send",
        "unknown_fields",
    )

    def __init__(self, body: dict[str, Any], accepted_at: datetime) -> None:
        self.omnimessage_id = new_id()
        self.message_ids = [new_id() for _ in body["messages"]]
        self.body = body
        self.accepted_at = accepted_at
        self.time_to_send: datetime | None = None
        self.sent_at: datetime | None = None
        self.cancelled_at: datetime | None = None
        self.state = "scheduled"
        self.attempts = [Attempt(0, accepted_at)]
        self.pending: tuple[Step, ...] = ()
        self.posts: list[dict[str, Any]] | None = None
        self.notes: tuple[str, ...] = ()
        self.unknown_fields: tuple[str, ...] = ()
        self.revision = 0

    @property
    def to(self) -> str:
        """The recipient."""
        to: str = self.body["to"]
        return to

    def sender(self, position: int) -> str:
        """Return the sender on one channel."""
        return self.body["messages"][position].get("sender") or DEFAULT_SENDER

    def accepted(self) -> dict[str, Any]:
        """Return the response to the send."""
        return {
            "omnimessage_id": self.omnimessage_id,
            "to": self.to,
            "messages": [
                {"channel": message["channel"], "message_id": message_id, "sender": self.sender(position)}
                for position, (message, message_id) in enumerate(
                    zip(self.body["messages"], self.message_ids, strict=True)
                )
            ],
        }

    def status(self, attempt: Attempt) -> dict[str, Any]:
        """Return one entry of the delivery report. What is posted to ``dlr_url`` is the same object."""
        content = self.body["messages"][attempt.position]
        final = attempt.status in FINAL
        return {
            "omnimessage_id": self.omnimessage_id,
            "message_id": self.message_ids[attempt.position],
            "to": self.to,
            "channel": content["channel"],
            "sender": self.sender(attempt.position),
            "status": attempt.status,
            "err": attempt.err,
            "error": ERROR_TEXTS.get(attempt.err or 0),
            "timestamp": without_offset(attempt.timestamp),
            "price_info": price_info(content, free=attempt.status == "DELETED") if final else None,
        }

    def report(self) -> dict[str, Any]:
        """Return the delivery report: one entry for each channel so far. A scheduled message has one."""
        return {
            "omnimessage_id": self.omnimessage_id,
            "to": self.to,
            "statuses": [self.status(attempt) for attempt in self.attempts],
        }

    def as_dict(self) -> dict[str, Any]:
        """Return everything about the message as plain data."""

        def formatted(time: datetime | None) -> str | None:
            return time.isoformat() if time else None

        return {
            "omnimessage_id": self.omnimessage_id,
            "to": self.to,
            "state": self.state,
            "body": self.body,
            "message_ids": self.message_ids,
            "time_to_send": formatted(self.time_to_send),
            "accepted_at": formatted(self.accepted_at),
            "sent_at": formatted(self.sent_at),
            "cancelled_at": formatted(self.cancelled_at),
            "statuses": [self.status(attempt) for attempt in self.attempts],
            "posts": self.posts or [],
            "unknown_fields": list(self.unknown_fields),
            "notes": list(self.notes),
            "revision": self.revision,
        }
