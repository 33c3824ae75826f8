"""All messages, and what happens to them as time passes. No network and no clock: callers pass the time."""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from airflow_provider_omnimessage.sandbox.autoconvert import sent_text
from airflow_provider_omnimessage.sandbox.messages import Attempt, Message
from airflow_provider_omnimessage.sandbox.outcomes import (
    BLOCKS_REPEATED_TEXT,
    CANCEL_TOO_LATE,
    FAILED,
    planned_steps,
)
from airflow_provider_omnimessage.sandbox.validation import lifetime_seconds, parse_time_to_send

LONGEST_WAIT: Final = 100 * 365 * 86400.0
"""Seconds; a longer lifetime never ends."""
REPEAT_BLOCKED_FOR: Final = timedelta(hours=1)
FINAL_STATES: Final = {"DELIVRD": "delivered", "SEEN": "seen", "UNKNOWN": "unknown"}


class Report(NamedTuple):
    """A delivery report to be posted.

    :param message: the message that it is about.
    :param body: the flat object.
    :param key: signs the report instead of the API password.
    :param fault: the fault that applies to it, if any.
    :param was_held: whether it was delayed or reordered, and is now to be posted.
    """

    message: Message
    body: dict[str, Any]
    key: str | None = None
    fault: str | None = None
    was_held: bool = False


class Simulation:
    """All messages, and the queue of events that change them.

    :param delivery_seconds: how long a channel takes from the first try to its final status.
    :param block_repeated_text: whether the same text to the same number within an hour is rejected for every number,
        and not only for those that end in 0018.
    """

    def __init__(self, delivery_seconds: float, *, block_repeated_text: bool = False) -> None:
        self.delivery_seconds = delivery_seconds
        self.block_repeated_text = block_repeated_text
        self.messages: dict[str, Message] = {}
        self.states: Counter[str] = Counter()
        self.revision = 0
        self.outbox: deque[Report] = deque()
        self.on_change: Callable[[], None] = lambda: None
        # Ordered by the latest change, so that a reader who knows a revision gets only what came after it.
        self._changed: dict[str, Message] = {}
        self._queue: list[tuple[datetime, int, Callable[[Any, datetime], None], Any]] = []
        self._scheduled: list[tuple[datetime, int, Message]] = []
        self._sequence = 0
        self._last_texts: dict[tuple[str, str, str], datetime] = {}

    def clear(self) -> None:
        """Remove all messages and events. The revision goes on, so that a reader notices."""
        self.revision += 1
        for part in (
            self.messages,
            self.states,
            self.outbox,
            self._changed,
            self._queue,
            self._scheduled,
            self._last_texts,
        ):
            part.clear()
        self.on_change()

    def accept(self, body: dict[str, Any], now: datetime, unknown_fields: Sequence[str] = ()) -> Message:
        """Keep a valid omnimessage until its time, or send it.

        :param body: the omnimessage as received.
        :param now: the sandbox's time.
        :param unknown_fields: names of the fields that Messente does not know.
        """
        message = Message(body, now)
        self.messages[message.omnimessage_id] = message
        self.states["scheduled"] += 1
        if unknown_fields:
            message.unknown_fields = tuple(unknown_fields)
            message.notes += (f"Unknown fields, ignored: {', '.join(unknown_fields)}",)
        for content in body["messages"]:
            if content["channel"] == "sms" and (text := sent_text(content)) != content["text"]:
                message.notes += (f"autoconvert changed the SMS to: {text}",)
        time_to_send = body.get("time_to_send")
        if time_to_send is not None:
            message.time_to_send = parse_time_to_send(time_to_send)
        if message.time_to_send is None:
            self._send(message, now)
        elif message.time_to_send <= now:
            message.notes += ("time_to_send was in the past: sent immediately",)
            self._send(message, now)
        else:
            self.schedule(message.time_to_send, self._send, message)
            heapq.heappush(self._scheduled, (message.time_to_send, self._sequence, message))
            self._touch(message)
        return message

    def cancel(self, omnimessage_id: str, now: datetime) -> bool:
        """Cancel a scheduled message, and return whether that was possible.

        :param omnimessage_id: the id from the response to the send.
        :param now: the sandbox's time.
        """
        message = self.messages.get(omnimessage_id)
        if message is None or message.state != "scheduled":
            return False
        if message.to.endswith(CANCEL_TOO_LATE):
            message.notes += ("The cancel came too late: the message was already being sent",)
            self._send(message, now)
            return False
        message.cancelled_at = now
        self._enter(message, "cancelled")
        self._set_status(message, message.attempts[0], "DELETED", 0, now)
        return True

    @property
    def next_due(self) -> datetime | None:
        """When the next event happens."""
        return self._queue[0][0] if self._queue else None

    @property
    def next_time_to_send(self) -> datetime | None:
        """When the next scheduled message is sent."""
        while self._scheduled and self._scheduled[0][2].state != "scheduled":
            heapq.heappop(self._scheduled)
        return self._scheduled[0][0] if self._scheduled else None

    def run_next(self) -> None:
        """Run the next event."""
        due, _, action, subject = heapq.heappop(self._queue)
        action(subject, due)

    def schedule(self, due: datetime, action: Callable[[Any, datetime], None], subject: Any) -> None:
        """Queue an event. Events with the same time run in the order in which they were queued.

        :param due: when it runs.
        :param action: called with the subject and ``due``.
        :param subject: what the event is about.
        """
        self._sequence += 1
        heapq.heappush(self._queue, (due, self._sequence, action, subject))

    def changed_after(self, revision: int, limit: int) -> list[Message]:
        """Return the messages that changed after a revision, the most recently changed first.

        :param revision: the last one that the reader knows.
        :param limit: maximum number of messages.
        """
        found: list[Message] = []
        for message in reversed(self._changed.values()):
            if message.revision <= revision or len(found) == limit:
                break
            found.append(message)
        return found

    def record_post(self, message: Message, post: dict[str, Any]) -> None:
        """Keep the result of posting a delivery report."""
        if message.posts is None:
            message.posts = []
        message.posts.append(post)
        self._touch(message)

    def _send(self, message: Message, now: datetime) -> None:
        if message.state != "scheduled":
            return  # cancelled, or sent early, since this event was queued
        message.sent_at = now
        message.attempts.clear()
        self._enter(message, "in_progress")
        self._try_channel(message, 0, now)

    def _try_channel(self, message: Message, position: int, now: datetime) -> None:
        content = message.body["messages"][position]
        message.attempts.append(Attempt(position, now))
        message.pending = planned_steps(
            message.to,
            channel=content["channel"],
            position=position,
            lifetime=lifetime_seconds(content),
            delivery_seconds=self.delivery_seconds,
            repeated=self._is_repeated(message.to, content, now),
        )
        self._queue_next_step(message)
        self._touch(message)

    def _is_repeated(self, to: str, content: dict[str, Any], now: datetime) -> bool:
        text = content.get("text")
        if isinstance(text, dict):
            text = text.get("body")
        if text is None or not (self.block_repeated_text or to.endswith(BLOCKS_REPEATED_TEXT)):
            return False
        key = (to, content["channel"], text)
        earlier = self._last_texts.get(key)
        if earlier is not None and timedelta(0) <= now - earlier < REPEAT_BLOCKED_FOR:
            return True
        self._last_texts[key] = now
        return False

    def _queue_next_step(self, message: Message) -> None:
        if message.pending and message.pending[0].after < LONGEST_WAIT:
            due = message.attempts[-1].since + timedelta(seconds=message.pending[0].after)
            self.schedule(due, self._take_step, message)

    def _take_step(self, message: Message, now: datetime) -> None:
        step = message.pending[0]
        message.pending = message.pending[1:]
        attempt = message.attempts[-1]
        self._set_status(message, attempt, step.status, step.err, now)
        if step.status in FINAL_STATES:
            self._enter(message, FINAL_STATES[step.status])
        elif step.status in FAILED and attempt.position + 1 < len(message.message_ids):
            self._try_channel(message, attempt.position + 1, now)
            return
        elif step.status in FAILED:
            self._enter(message, "failed")
        self._queue_next_step(message)

    def _set_status(self, message: Message, attempt: Attempt, status: str, err: int, now: datetime) -> None:
        attempt.status, attempt.err, attempt.timestamp = status, err, now
        if message.body.get("dlr_url"):
            self.outbox.append(Report(message, message.status(attempt)))
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
