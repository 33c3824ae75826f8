"""Wakes long polls, with one light query for all of them in a process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from airflow_provider_omnimessage.receiver.store import Position, Store, StoreUnavailableError

T = TypeVar("T")

#: Seconds between checks for what other processes have stored.
CHECK_EVERY = 0.25
#: The same while the database does not respond.
CHECK_EVERY_WHILE_DOWN = 5.0

log = logging.getLogger(__name__)


class News:
    """Tracks which long polls wait for events of which connection.

    An event that this process stores wakes them at once; one that another process stores, or that was stored just
    before they began to wait, with the next check. A long poll holds no database connection while it waits.

    :param store: the log.
    :param read: calls a blocking function of the store, off the event loop.
    """

    def __init__(self, store: Store, read: Callable[..., Awaitable[Position | Mapping[str, int]]]) -> None:
        self._store = store
        self._read = read
        self._waiting: dict[str, dict[asyncio.Future[None], int]] = {}
        self._checked: Position | None = None
        self._checking: asyncio.Task[None] | None = None
        self._closed = False

    async def wait(self, conn_id: str, position: Position, seconds: float) -> None:
        """Return when a connection may have events after a position, or after ``seconds``.

        :param position: how far the caller has read.
        """
        if self._closed or seconds <= 0:
            return
        # the next check must include what was stored since the caller's read
        if self._checked is None or position.seq < self._checked.seq:
            self._checked = position
        loop = asyncio.get_running_loop()
        woken = loop.create_future()
        waiting = self._waiting.setdefault(conn_id, {})
        waiting[woken] = position.seq
        if self._checking is None:
            self._checking = loop.create_task(self._check())
        try:
            await asyncio.wait([woken], timeout=seconds)
        finally:
            waiting.pop(woken, None)
            if not waiting and self._waiting.get(conn_id) is waiting:
                del self._waiting[conn_id]

    def spread(self, news: Mapping[str, int]) -> None:
        """Wake the long polls that wait for stored events.

        :param news: for each connection with new events, the sequence number of the last one.
        """
        for conn_id, seq in news.items():
            for woken, after in self._waiting.get(conn_id, {}).items():
                if seq > after and not woken.done():
                    woken.set_result(None)

    def close(self) -> None:
        """End all waiting, permanently."""
        self._closed = True
        if self._checking is not None:
            self._checking.cancel()
        self._wake_all()

    def _wake_all(self) -> None:
        for waiting in self._waiting.values():
            for woken in waiting:
                if not woken.done():
                    woken.set_result(None)

    async def _check(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(CHECK_EVERY)
                try:
                    await self._check_once()
                except StoreUnavailableError as error:
                    log.warning("The event log cannot be read: %s", error)
                    await asyncio.sleep(CHECK_EVERY_WHILE_DOWN)
        finally:
            self._checking = None

    async def _check_once(self) -> None:
        before = self._checked
        now = await self._read(self._store.position)
        assert isinstance(now, Position)
        if before is None or now == before:
            return
        if now.log_id != before.log_id or now.seq < before.seq:  # another database
            self._checked = now
            self._wake_all()
            return
        news = await self._read(self._store.news, before.seq, now.seq)
        assert isinstance(news, Mapping)
        if self._checked is before:  # no caller with an older position has joined meanwhile
            self._checked = now
        self.spread(news)
