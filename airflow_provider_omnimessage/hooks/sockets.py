"""
HTTP connections whose timeout applies to the whole response.

The timeout of a socket applies to each packet: a response that arrives byte by byte would never time out.
"""

from __future__ import annotations

import http.client
import io
import socket
import time
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool


class _WholeResponse(http.client.HTTPResponse):
    """A response whose headers and body must arrive within the timeout."""

    def __init__(
        self, sock: socket.socket, debuglevel: int = 0, method: str | None = None, url: str | None = None
    ) -> None:
        super().__init__(sock, debuglevel, method, url)
        raw = self.fp.detach()
        self.fp = io.BufferedReader(_DeadlineReader(sock, raw))


class _DeadlineReader(io.RawIOBase):
    """Reads a socket to its end, within the timeout that the socket has at the start."""

    def __init__(self, sock: socket.socket, raw: io.RawIOBase) -> None:
        self._sock = sock
        self._raw = raw
        self._timeout = sock.gettimeout()
        self._until = time.monotonic() + (self._timeout or 0.0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._timeout is None:
            return self._raw.readinto(buffer)
        left = self._until - time.monotonic()
        try:
            if left <= 0:
                raise TimeoutError
            self._sock.settimeout(left)
            return self._raw.readinto(buffer)
        except TimeoutError:
            raise TimeoutError(f"the response was not complete after {round(self._timeout, 1):g} s") from None
        finally:
            # the next request over this connection has a timeout of its own
            self._sock.settimeout(self._timeout)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _HTTPConnection(HTTPConnection):
    response_class = _WholeResponse


class _HTTPSConnection(HTTPSConnection):
    response_class = _WholeResponse


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls = _HTTPConnection


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _HTTPSConnection


_POOLS: dict[type, type] = {HTTPConnectionPool: _HTTPPool, HTTPSConnectionPool: _HTTPSPool}


class DeadlineAdapter(HTTPAdapter):
    """Applies a request's timeout to the whole response, also through a proxy."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make the pools of direct connections."""
        super().init_poolmanager(*args, **kwargs)
        _require_whole_responses(self.poolmanager)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        """Make the pools of connections through a proxy."""
        manager = super().proxy_manager_for(*args, **kwargs)
        _require_whole_responses(manager)
        return manager


def _require_whole_responses(manager: Any) -> None:
    pools = manager.pool_classes_by_scheme
    manager.pool_classes_by_scheme = {scheme: _POOLS.get(pool, pool) for scheme, pool in pools.items()}
