"""One receiver: its parts, wired together, and its background work."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from airflow_provider_omnimessage.receiver.claims import Claims
from airflow_provider_omnimessage.receiver.database import DatabaseError
from airflow_provider_omnimessage.receiver.intake import Intake
from airflow_provider_omnimessage.receiver.keys import ConnectionSecrets, SecretsCache, airflow_secrets
from airflow_provider_omnimessage.receiver.migrate import migrate
from airflow_provider_omnimessage.receiver.news import News
from airflow_provider_omnimessage.receiver.store import Store, StoreUnavailableError

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

T = TypeVar("T")

#: Seconds after which a read has timed out.
READ_TIMEOUT = 10.0
#: Seconds between attempts to set up a database that cannot be used.
SET_UP_EVERY = 15.0
#: Seconds between rounds of deletion, and between the batches of one round.
DELETE_EVERY = 300.0
DELETE_PAUSE = 0.2

log = logging.getLogger(__name__)


class Receiver:
    """Receives reports and serves them, in one process.

    :param open_engine: returns the engine of the database; it may block.
    :param retention_days: how long events are kept.
    :param look_up: returns a connection's secrets.
    """

    def __init__(
        self,
        open_engine: Callable[[], Engine],
        *,
        retention_days: float = 7.0,
        look_up: Callable[[str], ConnectionSecrets | None] = airflow_secrets,
    ) -> None:
        self.schema: str | None = None
        self.is_stopping = False
        self.keys = SecretsCache(look_up)
        self._open_engine = open_engine
        self._retention = retention_days * 86_400
        self._readers = ThreadPoolExecutor(2, thread_name_prefix="omnimessage-receiver")
        self._tasks: set[asyncio.Task[None]] = set()
        self._store: Store | None = None
        self._claims: Claims | None = None
        self._intake: Intake | None = None
        self._news: News | None = None

    @property
    def is_ready(self) -> bool:
        """Whether reports can be received."""
        return self._intake is not None

    @property
    def store(self) -> Store:
        """The log.

        :raises StoreUnavailableError: until the database is set up.
        """
        return _set_up(self._store)

    @property
    def claims(self) -> Claims:
        """The claims of processes that would do the same.

        :raises StoreUnavailableError: until the database is set up.
        """
        return _set_up(self._claims)

    @property
    def intake(self) -> Intake:
        """Stores events.

        :raises StoreUnavailableError: until the database is set up.
        """
        return _set_up(self._intake)

    @property
    def news(self) -> News:
        """Wakes long polls.

        :raises StoreUnavailableError: until the database is set up.
        """
        return _set_up(self._news)

    async def read(self, function: Callable[..., T], *arguments: object) -> T:
        """Call a blocking function of the store, off the event loop.

        :raises StoreUnavailableError: if the database does not respond.
        """
        loop = asyncio.get_running_loop()
        try:
            return await asyncio.wait_for(loop.run_in_executor(self._readers, function, *arguments), READ_TIMEOUT)
        except asyncio.TimeoutError:
            raise StoreUnavailableError(f"no response from the database for {READ_TIMEOUT:.0f} s") from None

    def set_up(self) -> None:
        """Open the database and migrate its tables. This blocks.

        :raises DatabaseError: if it cannot be used.
        """
        engine = self._open_engine()
        schema = migrate(engine)
        self._claims = Claims(engine)
        self._store = Store(engine)
        self.schema = schema

    def start(self) -> None:
        """Start the background work on the running event loop."""
        self._spawn(self._run())

    def let_go(self) -> None:
        """End all long polls, so that the server can stop."""
        self.is_stopping = True
        if self._news is not None:
            self._news.close()

    def stop(self) -> None:
        """Stop the background work. Nothing can be received after this."""
        self.let_go()
        for task in self._tasks:
            task.cancel()
        if self._intake is not None:
            self._intake.close()
        self.keys.close()
        self._readers.shutdown(wait=False, cancel_futures=True)

    def _spawn(self, coroutine: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self) -> None:
        while self._store is None:
            try:
                await asyncio.to_thread(self.set_up)
            except Exception as error:
                log.error("The receiver cannot store reports; trying again in %.0f s. %s", SET_UP_EVERY, _cause(error))
                await asyncio.sleep(SET_UP_EVERY)
        self._news = News(self._store, self.read)
        self._intake = Intake(self._store, self._news.spread)
        log.info("The receiver is ready: schema %s", self.schema)
        await self._keep_small(self._store)

    async def _keep_small(self, store: Store) -> None:
        while True:
            # spread over time, so that processes do not delete simultaneously
            await asyncio.sleep(DELETE_EVERY * random.uniform(0.8, 1.2))
            try:
                await self.delete_expired(store)
            except Exception as error:
                log.warning("Old events could not be deleted: %s", _cause(error))

    async def delete_expired(self, store: Store) -> int:
        """Delete expired events, in small batches.

        :return: number of deleted events.
        """
        cutoff = time.time() - self._retention
        deleted = 0
        while batch := await self.read(store.delete_before, cutoff):
            deleted += batch
            await asyncio.sleep(DELETE_PAUSE)
        await self.read(self.claims.forget, cutoff)
        await self.read(store.forget_consumers, time.time() - max(self._retention, 30 * 86_400))
        return deleted


def _cause(error: Exception) -> str:
    # the message of any other error may contain a part of the database's URL
    return str(error) if isinstance(error, DatabaseError | StoreUnavailableError) else type(error).__name__


def _set_up(part: T | None) -> T:
    if part is None:
        raise StoreUnavailableError("the database is not set up")
    return part
