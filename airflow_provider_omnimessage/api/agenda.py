"""When each message of a wait is polled next. Of thousands of messages, only those that are due are looked at."""

from __future__ import annotations

import heapq
from datetime import datetime

from airflow_provider_omnimessage.api.awaited_message import AwaitedMessage


class Agenda:
    """The next poll of each message that has not ended. A later entry for a message replaces an earlier one."""

    def __init__(self) -> None:
        self._heap: list[tuple[datetime, int, AwaitedMessage]] = []
        self._entries = 0
        self._paused_until: datetime | None = None

    def schedule(self, message: AwaitedMessage, time: datetime) -> None:
        """Poll for a message at ``time``."""
        message.next_poll = time
        self._entries += 1
        heapq.heappush(self._heap, (time, self._entries, message))

    def pause(self, until: datetime) -> None:
        """Let no message be due before ``until``."""
        self._paused_until = max(until, self._paused_until or until)

    def due(self, now: datetime) -> list[AwaitedMessage]:
        """Return the messages that are due. They stay due until they are scheduled again or end."""
        if self._paused_until and now < self._paused_until:
            return []
        entries = []
        while self._heap and self._heap[0][0] <= now:
            entry = heapq.heappop(self._heap)
            if _is_current(entry):
                entries.append(entry)
        for entry in entries:
            heapq.heappush(self._heap, entry)
        return [message for _, _, message in entries]

    @property
    def next_poll(self) -> datetime | None:
        """When the next message is due; ``None`` if all of them have ended."""
        while self._heap and not _is_current(self._heap[0]):
            heapq.heappop(self._heap)
        if not self._heap:
            return None
        return max(self._heap[0][0], self._paused_until or self._heap[0][0])


def _is_current(entry: tuple[datetime, int, AwaitedMessage]) -> bool:
    time, _, message = entry
    return message.ending is None and message.next_poll is time
