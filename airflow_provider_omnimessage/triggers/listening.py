"""
One listener for each event loop and connection: it follows the receiver's events for all waits of that connection.

It decides nothing about a wait. It passes events to subscribers, and tells them whether reports are reliable, so that
they poll less often.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime, timezone
from itertools import islice
from typing import TYPE_CHECKING, Protocol

from airflow_provider_omnimessage import metrics
from airflow_provider_omnimessage.api import backoff
from airflow_provider_omnimessage.api.delivery import DeliveryReport, Outcome
from airflow_provider_omnimessage.receiver.client import (
    IDS_AT_A_TIME,
    LONG_POLL,
    EventPage,
    ReceiverClient,
    ReceiverError,
)
from airflow_provider_omnimessage.receiver.events import EventJson
from airflow_provider_omnimessage.triggers.log_lines import LogLines

if TYPE_CHECKING:
    from airflow_provider_omnimessage.hooks.settings import Settings

#: After this many polls in a row that find a status without a report, reports are considered unreliable.
MISSES = 3
#: Seconds that a report may take to arrive after Messente knows the status.
REPORT_DELAY = 15.0
#: Seconds between attempts to reach the receiver: the first pause, and the longest.
RETRY_AFTER = 1.0
MAX_RETRY_PAUSE = 60.0
#: Seconds for which the ids of new subscribers are collected, to be looked up together.
COLLECT = 0.05
#: Seconds between a page of events and the next request: in a burst, many events arrive with one request.
BURST_PAUSE = 0.25

log = LogLines(logging.getLogger(__name__))


class Subscriber(Protocol):
    """The interface of a wait, as a listener uses it."""

    @property
    def omnimessage_ids(self) -> Iterable[str]:
        """The ids of the awaited messages."""

    def on_events(self, omnimessage_id: str, events: Sequence[EventJson], new: Sequence[EventJson]) -> None:
        """Process the reports of a message.

        :param events: the latest event of each channel.
        :param new: those of them that are new to this subscriber.
        """

    def on_push(self, is_reliable: bool) -> None:
        """Note whether reports arrive: if they do, polling is only the fallback."""


class _Followed:
    """A message, its subscribers, and the latest event of each channel."""

    def __init__(self, omnimessage_id: str, subscribers: Iterable[Subscriber] = ()) -> None:
        self.omnimessage_id = omnimessage_id
        self.subscribers = set(subscribers)
        self._joining = set(subscribers)
        self._latest: dict[str, EventJson] = {}

    @property
    def statuses(self) -> set[str | None]:
        """The latest status of each channel."""
        return {event.get("status") for event in self._latest.values()}

    def join(self, subscriber: Subscriber) -> None:
        """Add a subscriber. To it, all events are new; it gets them when the stored ones have been read."""
        self.subscribers.add(subscriber)
        self._joining.add(subscriber)

    def leave(self, subscriber: Subscriber) -> None:
        """Remove a subscriber."""
        self.subscribers.discard(subscriber)
        self._joining.discard(subscriber)

    def add(self, events: Iterable[EventJson]) -> int:
        """Pass to each subscriber what is new to it, and return the number of events that are new."""
        new: dict[str, EventJson] = {}
        count = 0
        for event in events:
            before = self._latest.get(event["message_id"])
            # a stored report may be older than one that has arrived meanwhile
            if before is None or before["seq"] < event["seq"]:
                self._latest[event["message_id"]] = new[event["message_id"]] = event
                count += 1
        joining, self._joining = self._joining, set()
        for subscriber in list(self.subscribers):
            if news := self._latest if subscriber in joining else new:
                subscriber.on_events(self.omnimessage_id, list(self._latest.values()), list(news.values()))
        return count


class Listener:
    """Follows the events of one connection, from the first subscriber to the last.

    :param conn_id: the Airflow connection.
    :param look_up: returns the settings of the connection.
    """

    def __init__(self, conn_id: str, look_up: Callable[[], Awaitable[Settings]]) -> None:
        self._conn_id = conn_id
        self._look_up = look_up
        self._all: set[Subscriber] = set()
        self._followed: dict[str, _Followed] = {}
        self._unread: set[_Followed] = set()
        self._has_unread = asyncio.Event()
        self._log_id: str | None = None
        self._position: int | None = None
        self._is_connected = False
        self._misses = 0
        self._was_reliable = False
        self._has_warned = False
        self._task: asyncio.Task[None] | None = None

    @property
    def is_reliable(self) -> bool:
        """Whether reports arrive, as far as can be observed."""
        return self._is_connected and self._misses < MISSES

    def join(self, subscriber: Subscriber) -> None:
        """Start passing events to a subscriber, beginning with the stored reports of its messages."""
        self._all.add(subscriber)
        for id_ in subscriber.omnimessage_ids:
            followed = self._followed.setdefault(id_, _Followed(id_))
            followed.join(subscriber)
            self._unread.add(followed)
        self._has_unread.set()
        subscriber.on_push(self.is_reliable)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())

    def leave(self, subscriber: Subscriber) -> None:
        """Stop passing events to a subscriber."""
        self._all.discard(subscriber)
        for id_ in subscriber.omnimessage_ids:
            followed = self._followed.get(id_)
            if followed is None:
                continue
            followed.leave(subscriber)
            if not followed.subscribers:
                del self._followed[id_]
                self._unread.discard(followed)

    async def close(self) -> None:
        """Stop following the events."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def record_poll(self, omnimessage_id: str, report: DeliveryReport) -> None:
        """Compare the result of a poll with the reports, to notice lost reports."""
        followed = self._followed.get(omnimessage_id)
        if not self._is_connected or followed is None or followed in self._unread:
            return
        if report.outcome is Outcome.IN_PROGRESS or not _is_settled(report):
            return
        known = followed.statuses
        if all(status.status in known for status in report.statuses):
            return
        metrics.count("push_missed", {"conn_id": self._conn_id}, in_triggerer=True)
        self._misses += 1
        if self._misses == MISSES:
            log.warning(
                "connection '%s': no report arrived for the last %d statuses that polling found; polling as often as "
                "without a receiver until one arrives. Check push_url with 'airflow omnimessage doctor --push'",
                self._conn_id,
                MISSES,
            )
        self._notify_reliability()

    async def _run(self) -> None:
        failures = 0
        while True:
            client = None
            try:
                settings = await self._look_up()
                if not settings.receiver_url:
                    return
                client = await ReceiverClient.open(settings, self._conn_id)
                await self._connect(client)
                failures = 0
                await self._follow(client)
            except ReceiverError as error:
                self._disconnect(str(error))
            except Exception:  # the connection cannot be looked up, which each wait reports itself
                self._disconnect(None)
            finally:
                if client is not None:
                    await client.close()
            failures += 1
            await asyncio.sleep(backoff.reconnect_pause(failures, RETRY_AFTER, MAX_RETRY_PAUSE, random.random()))

    async def _connect(self, client: ReceiverClient) -> None:
        if self._position is None:
            # get the position first and the stored reports afterwards, so that none is missed in between
            self._start_at(await client.events())
        else:
            self._take(await client.events(after=self._position))
        self._is_connected = True
        if self._has_warned:
            log.warning("connection '%s': the receiver responds again", self._conn_id)
            self._has_warned = False
        self._notify_reliability()

    def _disconnect(self, reason: str | None) -> None:
        self._is_connected = False
        if reason and not self._has_warned:
            self._has_warned = True
            log.warning("connection '%s': no delivery reports, polling Messente instead: %s", self._conn_id, reason)
        self._notify_reliability()

    async def _follow(self, client: ReceiverClient) -> None:
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(self._follow_events(client)), loop.create_task(self._read_stored(client))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for task in tasks:
                task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome

    async def _follow_events(self, client: ReceiverClient) -> None:
        while True:
            page = await client.events(after=self._position, wait=LONG_POLL)
            self._take(page)
            if page.events:
                await asyncio.sleep(BURST_PAUSE)

    async def _read_stored(self, client: ReceiverClient) -> None:
        while True:
            await self._has_unread.wait()
            await asyncio.sleep(COLLECT)
            batch = list(islice(self._unread, IDS_AT_A_TIME))
            if batch:
                page = await client.events(ids=[followed.omnimessage_id for followed in batch])
                # those without subscribers by now are gone, even if the same id has been joined again
                current = self._unread.intersection(batch)
                self._unread -= current
                self._count(followed.add(page.stored.get(followed.omnimessage_id, ())) for followed in current)
            if not self._unread:
                self._has_unread.clear()

    def _start_at(self, page: EventPage) -> None:
        self._log_id, self._position = page.log, page.position
        # new objects: sequence numbers from before, and lookups that are under way, mean nothing in this log
        self._followed = {id_: _Followed(id_, before.subscribers) for id_, before in self._followed.items()}
        self._unread = set(self._followed.values())
        self._has_unread.set()

    def _take(self, page: EventPage) -> None:
        if page.log != self._log_id or page.position < (self._position or 0):
            # another database, or an earlier state of it: the numbers up to here are assigned anew
            self._start_at(page)
        self._position = page.position
        if page.events and self._misses:
            self._misses = 0
            self._notify_reliability()
        by_id: dict[str, list[EventJson]] = {}
        for event in page.events:
            if event.get("omnimessage_id") in self._followed:
                by_id.setdefault(event["omnimessage_id"], []).append(event)
        self._count(self._followed[id_].add(events) for id_, events in by_id.items())

    def _count(self, numbers: Iterable[int]) -> None:
        """Count the reports that waits have got."""
        if number := sum(numbers):
            metrics.count("push_received", {"conn_id": self._conn_id}, number, in_triggerer=True)

    def _notify_reliability(self) -> None:
        if self.is_reliable is not self._was_reliable:
            self._was_reliable = self.is_reliable
            for subscriber in list(self._all):
                subscriber.on_push(self.is_reliable)


def _is_settled(report: DeliveryReport) -> bool:
    """Return whether Messente has had time to post the reports."""
    now = datetime.now(timezone.utc)
    for status in report.statuses:
        try:
            at = datetime.fromisoformat((status.timestamp or "").replace("Z", "+00:00"))
        except ValueError:
            continue
        if 0 <= (now - (at if at.tzinfo else at.replace(tzinfo=timezone.utc))).total_seconds() < REPORT_DELAY:
            return False
    return True
