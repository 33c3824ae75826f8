"""
One listener for each event loop and connection: it follows the receiver's events for all waits of that connection.

It decides nothing about a wait. It hands events to subscribers, and says whether reports can be relied on, so that they
poll less often.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Protocol

from airflow_provider_omnimessage import metrics
from airflow_provider_omnimessage.api.delivery import DeliveryReport, Outcome
from airflow_provider_omnimessage.receiver.client import (
    IDS_AT_A_TIME,
    LONG_POLL,
    EventPage,
    ReceiverClient,
    ReceiverError,
)

if TYPE_CHECKING:
    from airflow_provider_omnimessage.hooks.settings import Settings

#: Polls in a row that find what no report brought, after which reports are no longer relied on.
MISSES = 3
#: Seconds for which a report may be on its way after Messente knows the status.
UNDER_WAY = 15.0
#: Seconds between two attempts to reach the receiver: the first ones, and at most.
RETRY_AFTER = 1.0
RETRY_AT_MOST = 60.0
#: Seconds in which the ids of new subscribers are collected, to be looked up together.
COLLECT = 0.05

log = logging.getLogger(__name__)


class Subscriber(Protocol):
    """What a listener needs of whoever waits."""

    @property
    def omnimessage_ids(self) -> Iterable[str]:
        """The messages that it waits for."""

    def on_events(
        self, omnimessage_id: str, events: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]
    ) -> None:
        """Take in what reports say about a message.

        :param events: of each channel, the latest event.
        :param new: those of them that are new.
        """

    def on_push(self, is_reliable: bool) -> None:
        """Learn whether reports arrive: then polling is only the fallback."""


class Listener:
    """Follows the events of one connection, from the first subscriber to the last.

    :param conn_id: the Airflow connection.
    :param look_up: looks the connection up.
    """

    def __init__(self, conn_id: str, look_up: Callable[[], Awaitable[Settings]]) -> None:
        self._conn_id = conn_id
        self._look_up = look_up
        self._subscribers: dict[str, set[Subscriber]] = {}
        self._all: set[Subscriber] = set()
        self._events: dict[str, dict[str, dict[str, Any]]] = {}
        self._unread: set[str] = set()
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
        """Whether reports arrive, as far as is known."""
        return self._is_connected and self._misses < MISSES

    def join(self, subscriber: Subscriber) -> None:
        """Hand events to a subscriber from now on, and first what is stored already about its messages."""
        self._all.add(subscriber)
        for id_ in subscriber.omnimessage_ids:
            self._subscribers.setdefault(id_, set()).add(subscriber)
            self._unread.add(id_)
        self._has_unread.set()
        subscriber.on_push(self.is_reliable)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())

    def leave(self, subscriber: Subscriber) -> None:
        """Hand no more events to a subscriber."""
        self._all.discard(subscriber)
        for id_ in subscriber.omnimessage_ids:
            others = self._subscribers.get(id_, set())
            others.discard(subscriber)
            if not others:
                self._subscribers.pop(id_, None)
                self._events.pop(id_, None)
                self._unread.discard(id_)

    async def close(self) -> None:
        """Stop following."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def record_poll(self, omnimessage_id: str, report: DeliveryReport) -> None:
        """Compare what a poll found with what reports have said, to notice reports that were lost."""
        if not self._is_connected or omnimessage_id in self._unread:
            return
        if report.outcome is Outcome.IN_PROGRESS or not _is_settled(report):
            return
        known = {event.get("status") for event in self._events.get(omnimessage_id, {}).values()}
        if all(status.status in known for status in report.statuses):
            return
        metrics.count("push_missed", {"conn_id": self._conn_id}, in_triggerer=True)
        self._misses += 1
        if self._misses == MISSES:
            log.warning(
                "connection '%s': Messente knows the status of %d messages of which no report has come; polling as "
                "often as without a receiver until one comes. Check push_url with 'airflow omnimessage doctor --push'",
                self._conn_id,
                MISSES,
            )
        self._spread_reliability()

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
            except Exception:  # the connection cannot be looked up: each wait says so itself
                self._disconnect(None)
            finally:
                if client is not None:
                    await client.close()
            failures += 1
            await asyncio.sleep(min(RETRY_AT_MOST, RETRY_AFTER * 2 ** min(failures, 6)) * random.uniform(0.5, 1.0))

    async def _connect(self, client: ReceiverClient) -> None:
        if self._position is None:
            # the place in the log comes first, then what is stored: so nothing falls in between
            self._start_at(await client.events())
        else:
            self._take(await client.events(after=self._position))
        self._is_connected = True
        if self._has_warned:
            log.warning("connection '%s': the receiver responds again", self._conn_id)
            self._has_warned = False
        self._spread_reliability()

    def _disconnect(self, reason: str | None) -> None:
        self._is_connected = False
        if reason and not self._has_warned:
            self._has_warned = True
            log.warning("connection '%s': no delivery reports, polling Messente instead: %s", self._conn_id, reason)
        self._spread_reliability()

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
            self._take(await client.events(after=self._position, wait=LONG_POLL))

    async def _read_stored(self, client: ReceiverClient) -> None:
        while True:
            await self._has_unread.wait()
            await asyncio.sleep(COLLECT)
            ids = [id_ for id_, _ in zip(self._unread, range(IDS_AT_A_TIME), strict=False)]
            if ids:
                page = await client.events(ids=ids)
                self._unread.difference_update(ids)
                for id_, events in page.stored.items():
                    self._hear(id_, events)
            if not self._unread:
                self._has_unread.clear()

    def _start_at(self, page: EventPage) -> None:
        self._log_id, self._position = page.log, page.position
        self._unread.update(self._subscribers)
        self._has_unread.set()

    def _take(self, page: EventPage) -> None:
        if page.log != self._log_id:  # another database: its numbers mean something else
            self._start_at(page)
        self._position = page.position
        if page.events and self._misses:
            self._misses = 0
            self._spread_reliability()
        by_id: dict[str, list[dict[str, Any]]] = {}
        for event in page.events:
            if event.get("omnimessage_id") in self._subscribers:
                by_id.setdefault(event["omnimessage_id"], []).append(event)
        for id_, events in by_id.items():
            self._hear(id_, events)
        metrics.count("push_received", {"conn_id": self._conn_id}, sum(map(len, by_id.values())), in_triggerer=True)

    def _hear(self, omnimessage_id: str, events: Iterable[dict[str, Any]]) -> None:
        subscribers = self._subscribers.get(omnimessage_id)
        if not subscribers:
            return
        known = self._events.setdefault(omnimessage_id, {})
        new: dict[str, dict[str, Any]] = {}
        for event in events:
            before = known.get(event["message_id"])
            # what is stored may be older than what has come in meanwhile
            if before is None or before["seq"] < event["seq"]:
                known[event["message_id"]] = new[event["message_id"]] = event
        if new:
            for subscriber in list(subscribers):
                subscriber.on_events(omnimessage_id, list(known.values()), list(new.values()))

    def _spread_reliability(self) -> None:
        if self.is_reliable is not self._was_reliable:
            self._was_reliable = self.is_reliable
            for subscriber in list(self._all):
                subscriber.on_push(self.is_reliable)


def _is_settled(report: DeliveryReport) -> bool:
    """Return whether Messente has had the time to post its reports."""
    now = datetime.now(timezone.utc)
    for status in report.statuses:
        try:
            at = datetime.fromisoformat((status.timestamp or "").replace("Z", "+00:00"))
        except ValueError:
            continue
        if 0 <= (now - (at if at.tzinfo else at.replace(tzinfo=timezone.utc))).total_seconds() < UNDER_WAY:
            return False
    return True
