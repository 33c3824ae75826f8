"""What is at Messente: the messages, their state, and what becomes of them as time passes. No network, no clock."""

from __future__ import annotations

import heapq
import random
from collections import Counter, deque
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from airflow_provider_omnimessage.sandbox.outcomes import (
    CANCEL_TOO_LATE,
    DELIVERED,
    ERRORS,
    FAILED,
    Step,
    course,
)
from airflow_provider_omnimessage.sandbox.prices import price_info
from airflow_provider_omnimessage.sandbox.validation import KNOWN_FIELDS, lifetime, parse_time_to_send

STATES: Final = ("scheduled", "in_progress", "delivered", "seen", "failed", "cancelled")
DEFAULT_SENDER: Final = "Sandbox"
FAR: Final = 100 * 365 * 86400.0
"""Seconds; a longer lifetime never ends."""


def without_zone(moment: datetime) -> str:
    """Write a moment as delivery reports do: ISO 8601 in UTC that does not say so.

    :param moment: a moment in UTC.
    """
    return moment.replace(tzinfo=None).isoformat()


def _nobody() -> None:
    pass


_bits = random.Random().getrandbits


def _new_id() -> str:
    """Make an id in the form of a UUID, version 4; ``uuid`` itself takes five times as long, and a bulk needs many."""
    digits = f"{_bits(128):032x}"
    return (
        f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{'89ab'[int(digits[16], 16) & 3]}{digits[17:20]}-{digits[20:]}"
    )


class Attempt:
    """One channel that a message has been tried on, or will be tried on first."""

    __slots__ = ("position", "since", "status", "timestamp")

    def __init__(self, position: int, since: datetime) -> None:
        self.position = position
        self.since = since
        self.status: str | None = None
        self.timestamp = since


class Message:
    """An accepted omnimessage and all that has happened to it."""

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
    )

    def __init__(self, body: dict[str, Any], accepted_at: datetime) -> None:
        self.omnimessage_id = _new_id()
        self.message_ids = [_new_id() for _ in body["messages"]]
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
        self.revision = 0

    @property
    def to(self) -> str:
        """The recipient."""
        to: str = self.body["to"]
        return to

    def sender(self, position: int) -> str:
        """Tell the sender of one channel.

        :param position: the channel's place in the message.
        """
        return self.body["messages"][position].get("sender") or DEFAULT_SENDER

    def accepted(self) -> dict[str, Any]:
        """Write the answer to a send."""
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
        """Write one entry of the delivery report.

        :param attempt: the channel.
        """
        content = self.body["messages"][attempt.position]
        err, error = ERRORS[attempt.status] if attempt.status else (None, None)
        final = attempt.status in DELIVERED or attempt.status in FAILED or attempt.status == "DELETED"
        return {
            "status": attempt.status,
            "channel": content["channel"],
            "message_id": self.message_ids[attempt.position],
            "sender": self.sender(attempt.position),
            "err": err,
            "error": error,
            "timestamp": without_zone(attempt.timestamp),
            "price_info": price_info(content, free=attempt.status == "DELETED") if final else None,
        }

    def report(self) -> dict[str, Any]:
        """Write the delivery report: one entry for each channel so far, the first one included while it waits."""
        return {
            "omnimessage_id": self.omnimessage_id,
            "to": self.to,
            "statuses": [self.status(attempt) for attempt in self.attempts],
        }

    def as_dict(self) -> dict[str, Any]:
        """Write the journal's entry as plain data."""

        def written(moment: datetime | None) -> str | None:
            return moment.isoformat() if moment else None

        return {
            "omnimessage_id": self.omnimessage_id,
            "to": self.to,
            "state": self.state,
            "body": self.body,
            "message_ids": self.message_ids,
            "time_to_send": written(self.time_to_send),
            "accepted_at": written(self.accepted_at),
            "sent_at": written(self.sent_at),
            "cancelled_at": written(self.cancelled_at),
            "statuses": [self.status(attempt) for attempt in self.attempts],
            "posts": self.posts or [],
            "notes": list(self.notes),
            "revision": self.revision,
        }


class Post(NamedTuple):
    """A delivery report on its way to a ``dlr_url``."""

    message: Message
    report: dict[str, Any]
    attempt: int


class World:
    """All messages, and the queue of what happens to them next.

    :param delivery_seconds: how long a channel takes from the try to its final status.
    """

    def __init__(self, delivery_seconds: float) -> None:
        self.delivery_seconds = delivery_seconds
        self.messages: dict[str, Message] = {}
        self.states: Counter[str] = Counter()
        self.outbox: deque[Post] = deque()
        self.revision = 0
        self.on_change: Callable[[], None] = _nobody
        # In order of the latest change, so that a reader who knows a revision is told only what came after it.
        self._changed: dict[str, Message] = {}
        self._queue: list[tuple[datetime, int, Callable[[Any, datetime], None], Any]] = []
        self._waiting: list[tuple[datetime, int, Message]] = []
        self._sequence = 0

    def clear(self) -> None:
        """Forget every message; revisions go on counting, so that a reader notices."""
        self.revision += 1
        self._sequence = 0
        for part in (self.messages, self.states, self.outbox, self._changed, self._queue, self._waiting):
            part.clear()
        self.on_change()

    def accept(self, body: dict[str, Any], now: datetime) -> Message:
        """Take a valid omnimessage: keep it until its time, or send it.

        :param body: the omnimessage as received.
        :param now: the time on the sandbox's clock.
        """
        message = Message(body, now)
        self.messages[message.omnimessage_id] = message
        self.states["scheduled"] += 1
        unknown = sorted(body.keys() - KNOWN_FIELDS)
        if unknown:
            message.notes += (f"Unknown and ignored: {', '.join(unknown)}",)
        wanted = body.get("time_to_send")
        if wanted is not None:
            message.time_to_send = parse_time_to_send(wanted)
        if message.time_to_send is None:
            self._send(message, now)
        elif message.time_to_send <= now:
            message.notes += ("time_to_send had passed: sent at once",)
            self._send(message, now)
        else:
            self.schedule(message.time_to_send, self._send, message)
            heapq.heappush(self._waiting, (message.time_to_send, self._sequence, message))
            self._touch(message)
        return message

    def cancel(self, omnimessage_id: str, now: datetime) -> bool:
        """Cancel a message that still waits, and tell whether that was possible.

        :param omnimessage_id: the id from the answer to the send.
        :param now: the time on the sandbox's clock.
        """
        message = self.messages.get(omnimessage_id)
        if message is None or message.state != "scheduled":
            return False
        if message.to.endswith(CANCEL_TOO_LATE):
            message.notes += ("The cancel came too late: it was on its way already",)
            self._send(message, now)
            return False
        message.cancelled_at = now
        self._enter(message, "cancelled")
        self._report(message, message.attempts[0], "DELETED", now)
        return True

    @property
    def next_due(self) -> datetime | None:
        """When something happens next."""
        return self._queue[0][0] if self._queue else None

    @property
    def next_time_to_send(self) -> datetime | None:
        """When the next scheduled message goes out."""
        while self._waiting and self._waiting[0][2].state != "scheduled":
            heapq.heappop(self._waiting)
        return self._waiting[0][0] if self._waiting else None

    def step(self) -> None:
        """Let the next thing happen."""
        due, _, action, subject = heapq.heappop(self._queue)
        action(subject, due)

    def schedule(self, due: datetime, action: Callable[[Any, datetime], None], subject: Any) -> None:
        """Let something happen later; what is due at the same time happens in the order of these calls.

        :param due: when.
        :param action: called with the subject and that time.
        :param subject: what it happens to.
        """
        self._sequence += 1
        heapq.heappush(self._queue, (due, self._sequence, action, subject))

    def changed_after(self, revision: int, limit: int) -> list[Message]:
        """Tell the messages that changed after a revision, the latest first.

        :param revision: the last one that the reader knows.
        :param limit: the most messages to tell.
        """
        found: list[Message] = []
        for message in reversed(self._changed.values()):
            if message.revision <= revision or len(found) == limit:
                break
            found.append(message)
        return found

    def record_post(self, message: Message, post: dict[str, Any]) -> None:
        """Keep what came of posting a delivery report.

        :param message: the message it is about.
        :param post: the attempt as plain data.
        """
        if message.posts is None:
            message.posts = []
        message.posts.append(post)
        self._touch(message)

    def _send(self, message: Message, now: datetime) -> None:
        if message.state != "scheduled":
            return  # cancelled, or sent before its time, while this waited in the queue
        message.sent_at = now
        message.attempts.clear()
        self._enter(message, "in_progress")
        self._try(message, 0, now)

    def _try(self, message: Message, position: int, now: datetime) -> None:
        content = message.body["messages"][position]
        message.attempts.append(Attempt(position, now))
        message.pending = course(
            message.to,
            channel=content["channel"],
            position=position,
            lifetime=lifetime(content),
            delivery_seconds=self.delivery_seconds,
        )
        self._wait_for_next_step(message)
        self._touch(message)

    def _wait_for_next_step(self, message: Message) -> None:
        if message.pending and message.pending[0].after < FAR:
            due = message.attempts[-1].since + timedelta(seconds=message.pending[0].after)
            self.schedule(due, self._advance, message)

    def _advance(self, message: Message, now: datetime) -> None:
        status = message.pending[0].status
        message.pending = message.pending[1:]
        attempt = message.attempts[-1]
        self._report(message, attempt, status, now)
        if status == "SEEN":
            self._enter(message, "seen")
        elif status == "DELIVRD":
            self._enter(message, "delivered")
        elif status in FAILED and attempt.position + 1 < len(message.message_ids):
            self._try(message, attempt.position + 1, now)
            return
        elif status in FAILED:
            self._enter(message, "failed")
        self._wait_for_next_step(message)

    def _report(self, message: Message, attempt: Attempt, status: str, now: datetime) -> None:
        attempt.status = status
        attempt.timestamp = now
        if message.body.get("dlr_url"):
            report = {"omnimessage_id": message.omnimessage_id, "to": message.to, **message.status(attempt)}
            del report["price_info"]
            self.outbox.append(Post(message, report, attempt=1))
        self._touch(message)

    def _enter(self, message: Message, state: str) -> None:
        self.states[message.state] -= 1
        message.state = state
        self.states[state] += 1

    def _touch(self, message: Message) -> None:
        self.revision += 1
        message.revision = self.revision
        self._changed.pop(message.omnimessage_id, None)
        self._changed[message.omnimessage_id] = message
        self.on_change()
