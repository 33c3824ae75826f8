"""Group commit: what comes in while a transaction is under way is stored together in the next one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from airflow_provider_omnimessage.receiver.events import Event
from airflow_provider_omnimessage.receiver.store import Store, StoreUnavailableError

#: Most events of one transaction.
BATCH = 200
#: Most events that wait for the database; the next ones get 503 at once.
MOST_WAITING = 5000
#: Seconds after which the database counts as not answering.
TIMEOUT = 10.0

log = logging.getLogger(__name__)


class Intake:
    """Stores events, each of them before :meth:`add` returns, in few transactions.

    :param store: the log.
    :param on_stored: called with what :meth:`Store.append` returned.
    """

    def __init__(self, store: Store, on_stored: Callable[[dict[str, int]], None]) -> None:
        self._store = store
        self._on_stored = on_stored
        self._waiting: list[tuple[Event, asyncio.Future[None]]] = []
        self._writing: asyncio.Task[None] | None = None
        # one thread and so one connection: transactions would only wait for each other
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="omnimessage-intake")

    async def add(self, event: Event) -> None:
        """Store an event: it is committed when this returns.

        :raises StoreUnavailableError: if it is not known to be stored; it may be added again.
        """
        if len(self._waiting) >= MOST_WAITING:
            raise StoreUnavailableError("too many events wait for the database")
        stored = asyncio.get_running_loop().create_future()
        self._waiting.append((event, stored))
        if self._writing is None:
            self._writing = asyncio.get_running_loop().create_task(self._write())
        try:
            await asyncio.wait_for(stored, TIMEOUT)
        except asyncio.TimeoutError:
            raise StoreUnavailableError(f"no response from the database for {TIMEOUT:.0f} s") from None

    def close(self) -> None:
        """Drop what has not been stored; whoever waits for it gets an error."""
        for _, stored in self._waiting:
            _fail(stored, StoreUnavailableError("the receiver stops"))
        self._waiting.clear()
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _write(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
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
