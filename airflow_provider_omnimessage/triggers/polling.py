"""
One poller for each event loop and connection, shared by all triggers of that connection.

It owns the session, the limit on requests in flight, and the credentials; the pause after a 429 is that of the whole
process. It has no task of its own: each trigger polls in its own task, and so in its own log.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar
from weakref import WeakKeyDictionary

from airflow_provider_omnimessage._compat import is_connection_missing
from airflow_provider_omnimessage.api import backoff
from airflow_provider_omnimessage.api.errors import (
    AuthenticationError,
    DeadlineExceededError,
    InvalidInputError,
    NotSentError,
    OmnimessageError,
    RateLimitedError,
)
from airflow_provider_omnimessage.hooks.lookup import import_transport, look_up_settings
from airflow_provider_omnimessage.hooks.pacing import Pace, pace_of
from airflow_provider_omnimessage.triggers.listening import Listener

if TYPE_CHECKING:
    from airflow_provider_omnimessage.api.calls import Call
    from airflow_provider_omnimessage.api.waiting import Wait
    from airflow_provider_omnimessage.hooks.aiohttp_transport import AiohttpTransport
    from airflow_provider_omnimessage.hooks.settings import Settings

T = TypeVar("T")

#: The most requests in flight at the same time.
IN_FLIGHT = 16
#: After a pause, waits return spread over time, so that about this many poll in each second.
RETURNING_PER_SECOND = 50.0
#: Look-ups in a row that find no such connection, after which the waits end: a secrets backend may fail once.
LOOKUPS = 3

_pollers: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Poller]] = WeakKeyDictionary()


@asynccontextmanager
async def polling(omnimessage_conn_id: str, wait: Wait) -> AsyncIterator[Poller]:
    """
    Join the poller of a connection: the first wait creates it, and the last one to leave closes its session.

    :param wait: for whose messages it is used. It stays among :attr:`Poller.waits` meanwhile.
    """
    pollers = _pollers.setdefault(asyncio.get_running_loop(), {})
    poller = pollers.get(omnimessage_conn_id)
    if poller is None or poller.rejection is not None:
        poller = pollers[omnimessage_conn_id] = Poller(omnimessage_conn_id)
    poller.waits.add(wait)
    try:
        yield poller
    finally:
        poller.waits.discard(wait)
        if not poller.waits:
            if pollers.get(omnimessage_conn_id) is poller:
                del pollers[omnimessage_conn_id]
            await poller.close()


class Poller:
    """
    Makes the requests of all waits on one connection.

    :param omnimessage_conn_id: the Airflow connection: looked up for the first request, and again after a 401.
    :param random_share: returns random numbers from 0 to 1.
    """

    def __init__(self, omnimessage_conn_id: str, *, random_share: Callable[[], float] = random.random) -> None:
        self.waits: set[Wait] = set()
        self.rejection: AuthenticationError | None = None
        self.listener = Listener(omnimessage_conn_id, lambda: look_up_settings(omnimessage_conn_id))
        self._conn_id = omnimessage_conn_id
        self._random_share = random_share
        self._loop = asyncio.get_running_loop()
        self._slots = asyncio.Semaphore(IN_FLIGHT)
        self._probe = asyncio.Lock()
        self._is_probed = False
        self._opening = asyncio.Lock()
        self._transport: AiohttpTransport | None = None
        self._replaced: list[AiohttpTransport] = []
        self._resting: dict[Wait, asyncio.Future[None]] = {}
        self._failed_lookups = 0
        self._pace: Pace | None = None
        self._rate_limited_by: RateLimitedError | None = None
        self._lookup_error: OmnimessageError | None = None
        self._next_lookup = 0.0

    async def make(self, call: Call[T], *, timeout: float) -> T:
        """
        Make a call as soon as fewer than :data:`IN_FLIGHT` are in flight. The first one is made alone.

        :param timeout: seconds until the call must have ended, including the time in which it waits for its turn.
        :raises RateLimitedError: after a 429, to this call or another one, until the pause is over.
        :raises AuthenticationError: if the credentials are rejected, and looking them up again changes nothing.
        :raises OmnimessageError: for any other failure.
        """
        end = self._loop.time() + timeout
        if not self._is_probed:
            # if the credentials are wrong, one request is enough to find out
            async with _turn(self._probe, end - self._loop.time(), call):
                if not self._is_probed:
                    try:
                        return await self._make(call, end)
                    finally:
                        self._is_probed = True
        async with _turn(self._slots, end - self._loop.time(), call):
            return await self._make(call, end)

    async def rest(self, seconds: float, wait: Wait) -> None:
        """
        Sleep for ``seconds``, or until :meth:`wake` is called for this wait.

        :raises AuthenticationError: as soon as Messente has rejected the credentials of any wait.
        """
        if self.rejection:
            raise self.rejection
        woken = self._resting[wait] = self._loop.create_future()
        timer = self._loop.call_later(max(0.0, seconds), _wake, woken)
        try:
            await woken
        finally:
            timer.cancel()
            self._resting.pop(wait, None)

    def wake(self, wait: Wait) -> None:
        """Let a wait that rests look again at what is due, and at whether it is over."""
        if woken := self._resting.get(wait):
            _wake(woken)

    def pause_left(self) -> float:
        """Return for how many seconds not to poll. It differs between waits, so that they do not return at once."""
        left = max(self._pace.pause_left() if self._pace else 0.0, self._next_lookup - self._loop.time())
        return left + self._random_share() * len(self.waits) / RETURNING_PER_SECOND if left > 0 else 0.0

    @property
    def paused_by(self) -> OmnimessageError | None:
        """The error that made all waits pause, while they do."""
        if self._next_lookup > self._loop.time():
            return self._lookup_error
        return self._rate_limited_by if self._pace and self._pace.pause_left() else None

    async def close(self) -> None:
        """Close all sessions."""
        await self.listener.close()
        transports = [*self._replaced, *([self._transport] if self._transport else [])]
        self._transport, self._replaced = None, []
        for transport in transports:
            await transport.close()

    async def _make(self, call: Call[T], end: float) -> T:
        for may_renew in (True, False):
            self._raise_if_stopped()
            transport = self._transport or await self._open_transport(None)
            try:
                result = await transport.make(call, end - self._loop.time())
            except RateLimitedError as error:
                self._rate_limited_by = error
                raise
            except AuthenticationError as error:
                if may_renew and await self._open_transport(transport) is not transport:
                    continue
                self._reject(error)
                raise
            return result
        raise AssertionError("unreachable: the second attempt returns or raises")

    def _raise_if_stopped(self) -> None:
        if self.rejection:
            raise self.rejection
        if error := self.paused_by:
            raise error

    def _reject(self, error: AuthenticationError) -> None:
        self.rejection = self.rejection or error
        for woken in self._resting.values():
            if not woken.done():
                woken.set_exception(self.rejection)

    async def _open_transport(self, rejected: AiohttpTransport | None) -> AiohttpTransport:
        """Return the transport; a new one if there is none, or if the connection has changed since the rejected one."""
        async with self._opening:
            self._raise_if_stopped()
            await import_transport()
            from airflow_provider_omnimessage.hooks.aiohttp_transport import AiohttpTransport

            current = self._transport
            if current is not None and current is not rejected:
                return current
            settings = await self._look_up()
            if current is not None:
                if settings == current.settings:
                    return current
                self._replaced.append(current)  # others may still wait for its responses
            self._transport = await AiohttpTransport.open(settings, connections=IN_FLIGHT)
            return self._transport

    async def _look_up(self) -> Settings:
        """
        Look the connection up. A failure may pass, so all waits pause and then try again.

        :raises InvalidInputError: if the connection's fields are wrong, or it is missing again and again.
        """
        try:
            settings = await look_up_settings(self._conn_id)
        except OmnimessageError:
            raise
        except Exception as error:
            self._failed_lookups += 1
            if is_connection_missing(error) and self._failed_lookups >= LOOKUPS:
                raise InvalidInputError.of(
                    "omnimessage_conn_id", f"connection '{self._conn_id}' does not exist; create it in Airflow"
                ) from error
            failure = NotSentError(
                f"could not look up connection '{self._conn_id}', nothing was sent: {type(error).__name__}: {error}"
            )
            self._lookup_error = failure
            self._next_lookup = self._loop.time() + backoff.pause(failure, self._failed_lookups, self._random_share())
            raise failure from error
        self._failed_lookups = 0
        self._pace = pace_of(settings.base_url)
        return settings


@asynccontextmanager
async def _turn(lock: asyncio.Lock | asyncio.Semaphore, seconds: float, call: Call[T]) -> AsyncIterator[None]:
    """Hold a lock, if it can be had within ``seconds``."""
    if lock.locked():
        if not await _acquire(lock, max(0.0, seconds)):
            raise DeadlineExceededError.of(call.name)
    else:
        await lock.acquire()
    try:
        yield
    finally:
        lock.release()


async def _acquire(lock: asyncio.Lock | asyncio.Semaphore, seconds: float) -> bool:
    """Wait for a lock, at most ``seconds``.

    Not with ``asyncio.wait_for``: before Python 3.12, it returns the lock to a wait that is cancelled just then, which
    goes on.
    """
    acquiring = asyncio.ensure_future(lock.acquire())
    is_mine = False
    try:
        is_mine = bool((await asyncio.wait({acquiring}, timeout=seconds))[0])
    finally:
        if not is_mine:
            acquiring.cancel()
            # it may have got the lock just before
            acquiring.add_done_callback(lambda ended: None if ended.cancelled() else lock.release())
    return is_mine


def _wake(woken: asyncio.Future[None]) -> None:
    if not woken.done():
        woken.set_result(None)
