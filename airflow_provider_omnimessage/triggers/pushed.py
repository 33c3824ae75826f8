"""Connects one wait with the listener: records reports, and wakes the wait."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from airflow_provider_omnimessage.receiver.client import channel_status, delivery_report

if TYPE_CHECKING:
    from airflow_provider_omnimessage.api.waiting import Wait
    from airflow_provider_omnimessage.receiver.events import EventJson
    from airflow_provider_omnimessage.triggers.log_lines import LogLines
    from airflow_provider_omnimessage.triggers.polling import Poller


class PushedWait:
    """One wait as a subscriber of the listener.

    :param log: gets a line for each new status.
    """

    def __init__(self, wait: Wait, poller: Poller, log: LogLines) -> None:
        self._wait = wait
        self._poller = poller
        self._log = log

    @property
    def omnimessage_ids(self) -> Iterable[str]:
        """The ids of the awaited messages."""
        return [message.omnimessage_id for message in self._wait.messages]

    def on_events(self, omnimessage_id: str, events: Sequence[EventJson], new: Sequence[EventJson]) -> None:
        """Record the reports, and wake the wait if it is over or must poll."""
        message = self._wait.find(omnimessage_id)
        if message is None:
            return
        now = datetime.now(timezone.utc)
        report = delivery_report(omnimessage_id, events)
        news = self._wait.record_push(message, report, map(channel_status, new), now)
        if news and not self._wait.only_count:
            self._log.info(news)
        if message.ending or (message.next_poll and message.next_poll <= now):
            self._poller.wake(self._wait)

    def on_push(self, is_reliable: bool) -> None:
        """Make the wait poll less often while reports arrive."""
        self._wait.rely_on_push(is_reliable, datetime.now(timezone.utc))
        if not is_reliable:
            self._poller.wake(self._wait)
