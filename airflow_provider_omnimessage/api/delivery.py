"""Delivery reports: what each channel's status means, and what all of them add up to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any


class Outcome(str, Enum):
    """What a delivery report adds up to."""

    IN_PROGRESS = "in_progress"
    DELIVERED = "delivered"
    SEEN = "seen"
    FAILED = "failed"
    CANCELLED = "cancelled"

    __str__ = str.__str__


FAILED_STATUSES = frozenset({"UNDELIV", "FAILED", "REJECTD", "EXPIRED", "NACK"})


@dataclass(frozen=True)
class ChannelStatus:
    """
    How far a message has come on one channel.

    :param channel: ``sms``, ``viber``, ``whatsapp`` or ``rcs``.
    :param status: Messente's word for it (``DELIVRD``), or ``None`` while it is in progress.
    :param error: the carrier's reason, in words.
    :param err: the same as a number; 0 is none.
    :param timestamp: when the status came, ISO 8601, UTC.
    :param message_id: the id of this channel's message.
    :param sender: who it came from.
    :param price: in all, once known.
    """

    channel: str | None
    status: str | None
    error: str | None = None
    err: int | None = None
    timestamp: str | None = None
    message_id: str | None = None
    sender: str | None = None
    price: str | None = None

    @classmethod
    def read(cls, entry: Mapping[str, Any]) -> ChannelStatus:
        """
        Read one entry of ``statuses``; what has not the expected type is left out.

        :param entry: as Messente sent it.
        """
        price_info = entry.get("price_info")
        price = price_info.get("total_price") if isinstance(price_info, Mapping) else None
        err = entry.get("err")
        return cls(
            channel=_text(entry.get("channel")),
            status=_text(entry.get("status")),
            error=_text(entry.get("error")),
            err=err if isinstance(err, int) and not isinstance(err, bool) else None,
            timestamp=_text(entry.get("timestamp")),
            message_id=_text(entry.get("message_id")),
            sender=_text(entry.get("sender")),
            price=None if price is None else str(price),
        )

    def __str__(self) -> str:
        """Say it in a few words: ``viber: UNDELIV (invalid number)``."""
        words = f"{self.channel or 'unknown channel'}: {self.status or 'in progress'}"
        return f"{words} ({self.error})" if self.error else words


@dataclass(frozen=True)
class DeliveryReport:
    """
    Messente's delivery report of one omnimessage.

    :param omnimessage_id: the message.
    :param to: the recipient.
    :param statuses: one per channel, in the order in which they are tried.
    """

    omnimessage_id: str
    to: str
    statuses: tuple[ChannelStatus, ...]

    @classmethod
    def read(cls, body: Mapping[str, Any]) -> DeliveryReport:
        """
        Read the answer to ``GET /omnimessage/{id}/status``.

        :param body: its JSON object.
        """
        entries = body.get("statuses")
        return cls(
            omnimessage_id=str(body.get("omnimessage_id", "")),
            to=str(body.get("to", "")),
            statuses=tuple(
                ChannelStatus.read(entry)
                for entry in (entries if isinstance(entries, list) else [])
                if isinstance(entry, Mapping)
            ),
        )

    @property
    def outcome(self) -> Outcome:
        """What it adds up to. ``FAILED`` may still change: a fallback channel can be on its way."""
        return outcome_of(status.status for status in self.statuses)


def outcome_of(statuses: Iterable[str | None]) -> Outcome:
    """
    Add the statuses of all channels up. A value that nobody knows yet counts as in progress.

    :param statuses: of one omnimessage, by channel.
    """
    present = list(statuses)
    if "SEEN" in present:
        return Outcome.SEEN
    if "DELIVRD" in present:
        return Outcome.DELIVERED
    if present and all(status in FAILED_STATUSES for status in present):
        return Outcome.FAILED
    if present and all(status == "DELETED" for status in present):
        return Outcome.CANCELLED
    return Outcome.IN_PROGRESS


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
