"""Brings what a listener hears to one wait, and wakes it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from airflow_provider_omnimessage.receiver.client import channel_status, delivery_report

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

    from airflow_provider_omnimessage.api.waiting import Wait
    from airflow_provider_omnimessage.triggers.polling import Poller


class PushedWait:
    """One wait as a subscriber of the listener.

    :param log: receives what is new about a message.
    """

    def __init__(self, wait: Wait, poller: Poller, log: Logger) -> None:
        self._wait = wait
        self._poller = poller
        self._log = log

    @property
    def omnimessage_ids(self) -> Iterable[str]:
        """The messages of the wait."""
        return [message.omnimessage_id for message in self._wait.messages]

    def on_events(
        self, omnimessage_id: str, events: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]
    ) -> None:
        """Record what reports say, and let the wait act on it."""
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
        """Let the wait poll less often while reports arrive."""
        self._wait.rely_on_push(is_reliable, datetime.now(timezone.utc))
        if not is_reliable:
            self._poller.wake(self._wait)
