"""
One poller per event loop and connection, which all triggers of that connection share.

It owns the session, the bound on requests in flight, the pause after a 429, and the credentials. It has no task of its
own: a trigger that wants to know asks, in its own task and so in its own log.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar
from weakref import WeakKeyDictionary

from airflow_provider_omnimessage._compat import connection_of
from airflow_provider_omnimessage.api import backoff
from airflow_provider_omnimessage.api.errors import AuthenticationError, RateLimitedError

if TYPE_CHECKING:
    from airflow_provider_omnimessage.api.calls import Call
    from airflow_provider_omnimessage.hooks.aiohttp_transport import AiohttpTransport
    from airflow_provider_omnimessage.hooks.settings import Settings

T = TypeVar("T")

#: Requests that are in flight at a time, at most.
IN_FLIGHT = 16
#: After a pause, the waits come back spread over so much time that about so many ask in a second.
RETURNING_PER_SECOND = 50.0

_pollers: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Poller]] = WeakKeyDictionary()


@asynccontextmanager
async def polling(omnimessage_conn_id: str) -> AsyncIterator[Poller]:
    """
    Take part in the poller of a connection: the first one in makes it, the last one out closes its session.

    :param omnimessage_conn_id: the Airflow connection.
    """
    pollers = _pollers.setdefault(asyncio.get_running_loop(), {})
    poller = pollers.get(omnimessage_conn_id)
    if poller is None or poller.refusal is not None:
        poller = pollers[omnimessage_conn_id] = Poller(omnimessage_conn_id)
    poller.waits += 1
    try:
        yield poller
    finally:
        poller.waits -= 1
        if not poller.waits:
            if pollers.get(omnimessage_conn_id) is poller:
                del pollers[omnimessage_conn_id]
            await poller.close()


class Poller:
    """
    Asks for all who wait on one connection.

    :param omnimessage_conn_id: the Airflow connection: looked up with the first request, and again after a 401.
    :param share: gives random numbers from 0 to 1.
    """

    def __init__(self, omnimessage_conn_id: str, *, share: Callable[[], float] = random.random) -> None:
        self.waits = 0
        self.refusal: AuthenticationError | None = None
        self._conn_id = omnimessage_conn_id
        self._share = share
        self._loop = asyncio.get_running_loop()
        self._slots = asyncio.Semaphore(IN_FLIGHT)
        self._opening = asyncio.Lock()
        self._transport: AiohttpTransport | None = None
        self._replaced: list[AiohttpTransport] = []
        self._resting: set[asyncio.Future[None]] = set()
        self._limited: RateLimitedError | None = None
        self._limited_in_a_row = 0
        self._pauses = 0
        self._paused_until = 0.0

    async def ask(self, call: Call[T]) -> T:
        """
        Make a call as soon as a place in flight is free.

        :param call: which.
        :raises RateLimitedError: where Messente asks to slow down, or has asked others a moment ago.
        :raises AuthenticationError: where it refuses the credentials, and looking them up again changed nothing.
        :raises OmnimessageError: for anything else that came of it.
        """
        async with self._slots:
            for may_renew in (True, False):
                self._demand_leave()
                transport = self._transport or await self._open_transport(None)
                pauses = self._pauses
                try:
                    result = await transport.make(call)
                except RateLimitedError as error:
                    self._pause(error, pauses)
                    raise
                except AuthenticationError as error:
                    if may_renew and await self._open_transport(transport) is not transport:
                        continue
                    self._refuse(error)
                    raise
                self._limited_in_a_row = 0
                return result
        raise AssertionError("unreachable: the second attempt returns or raises")

    async def rest(self, seconds: float) -> None:
        """
        Let time pass; at least as much as a pause for all takes.

        :param seconds: how long.
        :raises AuthenticationError: as soon as Messente has refused the credentials to anybody who waits here.
        """
        if self.refusal:
            raise self.refusal
        woken = self._loop.create_future()
        timer = self._loop.call_later(max(0.0, seconds), _wake, woken)
        self._resting.add(woken)
        try:
            await woken
        finally:
            timer.cancel()
            self._resting.discard(woken)

    def pause_left(self) -> float:
        """Tell for how many seconds not to ask; not the same for all, so that they do not come back at once."""
        left = self._paused_until - self._loop.time()
        return left + self._share() * self.waits / RETURNING_PER_SECOND if left > 0 else 0.0

    async def close(self) -> None:
        """Close all sessions."""
        transports = [*self._replaced, *([self._transport] if self._transport else [])]
        self._transport, self._replaced = None, []
        for transport in transports:
            await transport.close()

    def _demand_leave(self) -> None:
        if self.refusal:
            raise self.refusal
        if self._limited and self._paused_until > self._loop.time():
            raise self._limited

    def _pause(self, error: RateLimitedError, pauses: int) -> None:
        if pauses != self._pauses:
            return  # asked before the pause that others have caused: one refusal, not many
        self._pauses += 1
        self._limited = error
        self._limited_in_a_row += 1
        self._paused_until = self._loop.time() + backoff.pause(error, self._limited_in_a_row, self._share())

    def _refuse(self, error: AuthenticationError) -> None:
        self.refusal = self.refusal or error
        for woken in self._resting:
            if not woken.done():
                woken.set_exception(self.refusal)

    async def _open_transport(self, refused: AiohttpTransport | None) -> AiohttpTransport:
        """Give the transport, made anew where there is none, or where the refused one's connection has changed."""
        async with self._opening:
            # importing takes a quarter of a second, once: too long to hold up everybody else on this loop
            await asyncio.to_thread(_import_what_is_needed)
            from airflow_provider_omnimessage.hooks.aiohttp_transport import AiohttpTransport

            current = self._transport
            if current is not None and current is not refused:
                return current
            settings = await _settings(self._conn_id)
            if current is not None:
                if settings == current.settings:
                    return current
                self._replaced.append(current)  # others may still be waiting for its answers
            self._transport = await AiohttpTransport.open(settings, connections=IN_FLIGHT)
            return self._transport


def _import_what_is_needed() -> None:
    import airflow_provider_omnimessage.hooks.aiohttp_transport
    import airflow_provider_omnimessage.hooks.settings  # noqa: F401


async def _settings(omnimessage_conn_id: str) -> Settings:
    from asgiref.sync import sync_to_async

    from airflow_provider_omnimessage.hooks.settings import Settings

    connection = await connection_of(omnimessage_conn_id)
    # reading the extra masks it in the logs, and for that Airflow 3.0 waits for its supervisor: never on this loop
    return await sync_to_async(Settings.read)(connection)


def _wake(woken: asyncio.Future[None]) -> None:
    if not woken.done():
        woken.set_result(None)
