"""Group commit: events that arrive during a transaction are stored together in the next one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from airflow_provider_omnimessage.receiver.events import Event
from airflow_provider_omnimessage.receiver.store import Store, StoreUnavailableError

#: Maximum number of events in one transaction.
BATCH = 200
#: Maximum number of queued events; further ones get 503 at once.
MAX_QUEUED = 5000
#: Seconds after which storing an event has timed out.
TIMEOUT = 10.0

log = logging.getLogger(__name__)


class Intake:
    """Stores events in few transactions, each event before :meth:`add` returns.

    :param store: the log.
    :param on_stored: called with the result of :meth:`Store.append`.
    """

    def __init__(self, store: Store, on_stored: Callable[[dict[str, int]], None]) -> None:
        self._store = store
        self._on_stored = on_stored
        self._queued: list[tuple[Event, asyncio.Future[None]]] = []
        self._writing: asyncio.Task[None] | None = None
        # one thread, hence one connection: parallel transactions would only wait for each other
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="omnimessage-intake")

    async def add(self, event: Event) -> None:
        """Store an event: it is committed when this returns.

        :raises StoreUnavailableError: if it may not have been stored; adding it again is safe.
        """
        if len(self._queued) >= MAX_QUEUED:
            raise StoreUnavailableError("too many events are waiting for the database")
        stored = asyncio.get_running_loop().create_future()
        self._queued.append((event, stored))
        if self._writing is None:
            self._writing = asyncio.get_running_loop().create_task(self._write())
        try:
            await asyncio.wait_for(stored, TIMEOUT)
        except asyncio.TimeoutError:
            raise StoreUnavailableError(f"no response from the database for {TIMEOUT:.0f} s") from None

    def close(self) -> None:
        """Drop the events that are not stored yet; their callers get an error."""
        for _, stored in self._queued:
            _fail(stored, StoreUnavailableError("the receiver is stopping"))
        self._queued.clear()
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _write(self) -> None:
        try:
            while self._queued:
                batch, self._queued = self._queued[:BATCH], self._queued[BATCH:]
                try:
                    await self._write_batch(batch)
                except StoreUnavailableError as error:
                    log.warning("Reports cannot be stored: %s", error)
                    for _, stored in batch:
                        _fail(stored, error)
                except Exception as error:
                    log.exception("Reports cannot be stored")
                    for _, stored in batch:
                        _fail(stored, StoreUnavailableError(type(error).__name__))
        finally:
            self._writing = None

    async def _write_batch(self, batch: list[tuple[Event, asyncio.Future[None]]]) -> None:
        loop = asyncio.get_running_loop()
        news = await loop.run_in_executor(self._thread, self._store.append, [event for event, _ in batch])
        for _, stored in batch:
            if not stored.done():
                stored.set_result(None)
        self._on_stored(news)


def _fail(stored: asyncio.Future[None], error: Exception) -> None:
    if not stored.done():
        stored.set_exception(error)
