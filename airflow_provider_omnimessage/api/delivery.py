"""Read delivery reports: what each channel's status means, and the outcome of all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from decimal import Decimal, InvalidOperation
from enum import Enum
from typing import Any, NamedTuple

from airflow_provider_omnimessage.api.masking import mask_numbers


class Outcome(str, Enum):
    """The outcome of a message, by its delivery report."""

    IN_PROGRESS = "in_progress"
    DELIVERED = "delivered"
    SEEN = "seen"
    FAILED = "failed"
    CANCELLED = "cancelled"

    __str__ = str.__str__


FAILED_STATUSES = frozenset({"UNDELIV", "FAILED", "REJECTD", "EXPIRED", "NACK"})
#: Statuses of a channel that will not deliver the message.
ENDED_STATUSES = FAILED_STATUSES | {"DELETED"}

#: How far along a channel's statuses are. A status that is not listed, such as a new one, is in progress: 0.
STATUS_RANKS = {
    "ACK": 1,
    "ACCEPTD": 2,
    "UNKNOWN": 3,
    **dict.fromkeys(ENDED_STATUSES, 4),
    "DELIVRD": 5,
    "SEEN": 6,
}

#: Seconds for which a report must look failed before the message counts as failed: a fallback channel may follow.
CONFIRM_FAILED_AFTER = 5.0
#: The same if a channel's status is UNKNOWN: the carrier may still find out.
CONFIRM_UNKNOWN_AFTER = 900.0

#: Channels that cannot report that a message was read.
BLIND_CHANNELS = frozenset({"sms"})


class ChannelStatus(NamedTuple):
    """
    The status of a message on one channel.

    :param channel: ``sms``, ``viber``, ``whatsapp`` or ``rcs``.
    :param status: Messente's word, such as ``DELIVRD``; ``None`` while it is in progress.
    :param error: the carrier's reason.
    :param err: the same as a number; 0: no error.
    :param timestamp: of the status: ISO 8601, UTC.
    :param message_id: the id of this channel's message.
    :param price: in total, once known.
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
    def read(cls, entry: Mapping[str, object]) -> ChannelStatus:
        """
        Read one entry of ``statuses``. Values of an unexpected type are left out.

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

    @property
    def rank(self) -> int:
        """How far along the status is."""
        return STATUS_RANKS.get(self.status or "", 0)

    @property
    def needs_poll(self) -> bool:
        """Whether the whole report is needed to know what this status means for the message."""
        if self.status == "DELIVRD":
            return self.channel in BLIND_CHANNELS
        return self.status == "UNKNOWN" or self.status in ENDED_STATUSES

    def __str__(self) -> str:
        """Return the status in a few words: ``viber: UNDELIV (invalid number)``."""
        words = f"{self.channel or 'unknown channel'}: {self.status or 'in progress'}"
        return f"{words} ({mask_numbers(self.error)})" if self.error else words


class DeliveryReport(NamedTuple):
    """
    Messente's delivery report of one omnimessage.

    :param to: the recipient.
    :param statuses: one for each channel, in the order in which they are tried.
    """

    omnimessage_id: str
    to: str
    statuses: tuple[ChannelStatus, ...]

    @classmethod
    def read(cls, body: Mapping[str, object]) -> DeliveryReport:
        """
        Read the response to ``GET /omnimessage/{id}/status``.

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

    def merged_over(self, other: DeliveryReport | None) -> DeliveryReport:
        """
        Return both reports as one: for each channel, the status that is further along.

        :param other: an earlier report of the same message.
        """
        if other is None:
            return self
        channels = {(status.channel, status.message_id): status for status in other.statuses}
        for status in self.statuses:
            before = channels.get((status.channel, status.message_id))
            if before is None or before.rank <= status.rank:
                channels[status.channel, status.message_id] = status
        return DeliveryReport(self.omnimessage_id, self.to or other.to, tuple(channels.values()))

    @property
    def outcome(self) -> Outcome:
        """The outcome. ``FAILED`` may still change: a fallback channel can follow."""
        return outcome_of(status.status for status in self.statuses)

    @property
    def delivered_by(self) -> ChannelStatus | None:
        """The channel that delivered, preferably the one on which it was read; ``None`` if none has."""
        return next((status for word in ("SEEN", "DELIVRD") for status in self.statuses if status.status == word), None)

    @property
    def may_be_seen(self) -> bool:
        """Whether it was read or can be: false if only channels have delivered that cannot report it."""
        return not self.statuses or any(
            status.channel not in BLIND_CHANNELS and status.status not in ENDED_STATUSES for status in self.statuses
        )

    @property
    def seconds_to_confirm(self) -> float | None:
        """Seconds after which the message has failed if the report stays as it is; ``None`` if it has not failed."""
        if self.outcome is Outcome.FAILED:
            return CONFIRM_FAILED_AFTER
        words = {status.status for status in self.statuses}
        if "UNKNOWN" in words and words <= ENDED_STATUSES | {"UNKNOWN"}:
            return CONFIRM_UNKNOWN_AFTER
        return None

    @property
    def channels(self) -> list[tuple[str | None, str | None]]:
        """The name and message id of each channel."""
        return [(status.channel, status.message_id) for status in self.statuses]

    @property
    def changed_at(self) -> datetime | None:
        """The latest timestamp of a status; ``None`` if there is none."""
        times = [time for status in self.statuses if (time := _parse_time(status.timestamp))]
        return max(times, default=None)

    @property
    def price(self) -> str | None:
        """The total price of all channels, as Messente writes prices; ``None`` while none is known."""
        try:
            prices = [Decimal(status.price) for status in self.statuses if status.price is not None]
        except InvalidOperation:
            return None
        return format(sum(prices, Decimal(0)).normalize(), "f") if prices else None

    def seconds_from(self, time_to_send: datetime | None) -> float | None:
        """
        Return the seconds from ``time_to_send`` to the status of the channel that delivered.

        :param time_to_send: with a zone; ``None`` if it is not known.
        """
        if time_to_send is None or self.delivered_by is None:
            return None
        delivered = _parse_time(self.delivered_by.timestamp)
        return None if delivered is None else (delivered - time_to_send).total_seconds()

    def summary(self, time_to_send: datetime | None = None) -> dict[str, Any]:
        """
        Return the report as small plain data, without the recipient: the sensor's XCom.

        :param time_to_send: with a zone; ``None`` if it is not known.
        """
        delivered_by = self.delivered_by
        return {
            "omnimessage_id": self.omnimessage_id,
            "outcome": self.outcome.value,
            "delivered_by": delivered_by.channel if delivered_by else None,
            "seconds_to_delivery": self.seconds_from(time_to_send),
            "price": self.price,
            "channels": [
                {
                    "channel": status.channel,
                    "status": status.status,
                    "error": status.error and mask_numbers(status.error),
                    "err": status.err,
                }
                for status in self.statuses
            ],
        }

    def __str__(self) -> str:
        """Return the status of each channel: ``viber: UNDELIV (invalid number); sms: in progress``."""
        return "; ".join(map(str, self.statuses)) or "no channel tried yet"


def total_price(prices: Iterable[str | None]) -> str | None:
    """Return the sum of prices as Messente writes them; ``None`` if none is known."""
    known = [Decimal(price) for price in prices if price is not None]
    return format(sum(known, Decimal(0)).normalize(), "f") if known else None


def outcome_of(statuses: Iterable[str | None]) -> Outcome:
    """
    Return the outcome of a message. An unknown status counts as in progress.

    :param statuses: one for each channel.
    """
    present = set(statuses)
    if "SEEN" in present:
        return Outcome.SEEN
    if "DELIVRD" in present:
        return Outcome.DELIVERED
    if present == {"DELETED"}:
        return Outcome.CANCELLED
    if present and present <= ENDED_STATUSES:
        return Outcome.FAILED
    return Outcome.IN_PROGRESS


def _parse_time(timestamp: str | None) -> datetime | None:
    try:
        # Python 3.10 does not read the Z
        time = datetime.fromisoformat((timestamp or "").replace("Z", "+00:00"))
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=timezone.utc)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
