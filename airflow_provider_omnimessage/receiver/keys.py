"""Looks up the secrets of Airflow connections, caches them, and verifies signatures with them."""

from __future__ import annotations

import asyncio
import logging
import math
import re
import secrets
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial

#: Seconds for which a connection is cached, even if it does not exist.
CACHED_FOR = 30.0
#: After a bad signature, a connection that was looked up longer ago (seconds) is looked up again: its password may have
#: changed.
RENEWED_AFTER = 5.0
#: Seconds for which a connection that cannot be looked up, or is no longer found, is still used: while its database
#: restarts, Airflow reports that the connection does not exist.
KEPT_FOR = 300.0
#: Seconds to wait for the renewal of a connection whose cached password has signed the request.
RENEWAL_PATIENCE = 1.0
#: Maximum number of look-ups at the same time, including those that wait for a thread. While there are so many, no
#: unknown connection is looked up.
MAX_LOOK_UPS = 32
#: Number of look-ups of which the longest counts as how long one takes.
TIMED_LOOK_UPS = 100
#: Maximum number of cached connections.
CACHE_SIZE = 1000
#: Seconds after which a look-up has timed out.
LOOK_UP_TIMEOUT = 10.0

#: The connection ids that Airflow accepts, except those with slashes, which a path cannot hold.
CONN_ID = re.compile(r"[\w#!()\-.:]{1,250}")

log = logging.getLogger(__name__)


class SecretsUnavailableError(Exception):
    """A connection could not be looked up."""


@dataclass(frozen=True)
class ConnectionSecrets:
    """The secrets that sign the requests for one connection.

    :param api_password: signs delivery reports and this package's own requests.
    :param reply_secret: signs replies.
    """

    api_password: str = field(repr=False)
    reply_secret: str = field(repr=False)


def _random_secrets() -> ConnectionSecrets:
    return ConnectionSecrets(secrets.token_hex(32), secrets.token_hex(32))


@dataclass(frozen=True)
class _Cached:
    secrets: ConnectionSecrets
    at: float
    found_at: float | None


#: Stands for a connection that has not been looked up.
_NOT_CACHED = _Cached(_random_secrets(), -math.inf, None)


class SecretsCache:
    """Verifies signatures with the secrets of connections. For an unknown connection, it uses random secrets.

    Anybody can name any number of connections, also existing ones in several spellings if Airflow ignores their case.
    So only a connection that has signed a request is known; the others have threads of their own, and known connections
    do not wait for them.

    :param look_up: returns a connection's secrets, or ``None`` if there is no such connection; it may block.
    :param clock: returns seconds that never go back.
    """

    def __init__(
        self,
        look_up: Callable[[str], ConnectionSecrets | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._look_up = look_up
        self._clock = clock
        self._cache: dict[str, _Cached] = {}
        self._known: set[str] = set()
        self._pending: dict[str, asyncio.Task[_Cached]] = {}
        self._threads_for_known = ThreadPoolExecutor(2, thread_name_prefix="omnimessage-known")
        self._threads_for_unknown = ThreadPoolExecutor(4, thread_name_prefix="omnimessage-unknown")
        self._durations: deque[float] = deque(maxlen=TIMED_LOOK_UPS)

    @property
    def look_up_time(self) -> float:
        """How long a look-up takes, in seconds: the longest of the last ones."""
        return max(self._durations, default=0.0)

    async def verify(self, conn_id: str, is_signed: Callable[[ConnectionSecrets], bool]) -> bool:
        """Return whether a request is signed with the secrets of a connection.

        :param is_signed: verifies the request with these secrets.
        :raises SecretsUnavailableError: if they could not be looked up, or there are too many look-ups.
        """
        # whether the connection is known makes no difference to the response, so this is decided before
        is_busy = len(self._pending) >= MAX_LOOK_UPS
        cached = self._cache.get(conn_id, _NOT_CACHED)
        is_valid = self._is_signed(conn_id, cached, is_signed)
        now = self._clock()
        if now - cached.at >= (CACHED_FOR if is_valid else RENEWED_AFTER) and (conn_id in self._known or not is_busy):
            renewal = self._renewal(conn_id)
            if is_valid and cached.found_at is not None and now - cached.found_at < KEPT_FOR:
                await asyncio.wait([renewal], timeout=RENEWAL_PATIENCE)
                if not renewal.done() or renewal.exception():
                    return True  # an old password is better than none while the secrets backend is slow or down
            is_valid = self._is_signed(conn_id, await asyncio.shield(renewal), is_signed)
        if is_busy and not is_valid:
            raise SecretsUnavailableError("too many look-ups")
        return is_valid

    def _is_signed(self, conn_id: str, cached: _Cached, is_signed: Callable[[ConnectionSecrets], bool]) -> bool:
        is_valid = is_signed(cached.secrets)
        if is_valid:
            self._known.add(conn_id)
        return is_valid

    def close(self) -> None:
        """Cancel look-ups that have not finished."""
        for task in self._pending.values():
            task.cancel()
        for threads in (self._threads_for_known, self._threads_for_unknown):
            threads.shutdown(wait=False, cancel_futures=True)

    def _renewal(self, conn_id: str) -> asyncio.Task[_Cached]:
        task = self._pending.get(conn_id)
        if task is None:
            threads = self._threads_for_known if conn_id in self._known else self._threads_for_unknown
            task = self._pending[conn_id] = asyncio.get_running_loop().create_task(self._renew(conn_id, threads))
            task.add_done_callback(partial(self._finish, conn_id))
        return task

    def _finish(self, conn_id: str, task: asyncio.Task[_Cached]) -> None:
        self._pending.pop(conn_id, None)
        if not task.cancelled():
            task.exception()  # logged already; otherwise asyncio reports that nobody has read it

    async def _renew(self, conn_id: str, threads: ThreadPoolExecutor) -> _Cached:
        loop = asyncio.get_running_loop()
        started = self._clock()
        try:
            found = await asyncio.wait_for(
                loop.run_in_executor(threads, self._look_up, conn_id), timeout=LOOK_UP_TIMEOUT
            )
        except Exception as error:
            log.warning("Connections cannot be looked up (%s); requests get 503", type(error).__name__)
            raise SecretsUnavailableError from error
        now = self._clock()
        self._durations.append(now - started)
        before = self._cache.get(conn_id)
        if found is not None:
            renewed = _Cached(found, now, now)
        elif before is not None and before.found_at is not None and now - before.found_at < KEPT_FOR:
            renewed = replace(before, at=now)
        else:
            renewed = _Cached(_random_secrets(), now, None)
            self._known.discard(conn_id)
        self._make_room()
        self._cache[conn_id] = renewed
        return renewed

    def _make_room(self) -> None:
        if len(self._cache) < CACHE_SIZE:
            return
        # forged requests can name any number of connections: remove the oldest of those first
        unknown = [conn_id for conn_id in self._cache if conn_id not in self._known]
        for conn_id in unknown[: max(1, len(unknown) // 2)] or list(self._cache)[:1]:
            del self._cache[conn_id]
            self._known.discard(conn_id)


def airflow_secrets(conn_id: str) -> ConnectionSecrets | None:
    """Look up an Airflow connection of type ``omnimessage``, wherever the deployment stores it.

    :return: ``None`` if there is no such connection, or it has no password.
    """
    from airflow.exceptions import AirflowNotFoundException  # type: ignore[attr-defined]
    from airflow.models.connection import Connection

    try:
        connection = Connection.get_connection_from_secrets(conn_id)
    except AirflowNotFoundException:
        return None
    if connection.conn_type != "omnimessage":
        log.warning(
            "connection '%s': its type is %s; its reports are rejected until the type is omnimessage",
            conn_id,
            connection.conn_type,
        )
        return None
    if not connection.password:
        log.error(
            "connection '%s', password: is missing; its reports are rejected until you set the API password", conn_id
        )
        return None
    extra = connection.extra_dejson
    reply_secret = extra.get("reply_secret") if isinstance(extra, dict) else None
    # without a reply secret, no signature is valid
    return ConnectionSecrets(str(connection.password), str(reply_secret or secrets.token_hex(32)))
