"""Make the API's calls with aiohttp, for event loops. For tasks, ``requests_transport`` does the same."""

from __future__ import annotations

import asyncio
import ssl
from datetime import datetime, timezone
from typing import Any, TypeVar

import aiohttp
from yarl import URL

from airflow_provider_omnimessage import __version__
from airflow_provider_omnimessage.api.calls import Call
from airflow_provider_omnimessage.api.errors import LostResponseError, NotSentError, UntrustedError
from airflow_provider_omnimessage.api.responses import Response
from airflow_provider_omnimessage.hooks import network
from airflow_provider_omnimessage.hooks.pacing import pace_of
from airflow_provider_omnimessage.hooks.settings import CONNECT_TIMEOUT, Settings

T = TypeVar("T")


class AiohttpTransport:
    """
    One ``aiohttp.ClientSession`` for one connection, on one event loop.

    It is an :class:`~airflow_provider_omnimessage.hooks.repeating.AsyncTransport`. Use :meth:`open` to make one.

    :param settings: base URL, credentials, timeout and rate limit.
    :param session: closed together with this transport.
    :param proxy: the proxy's URL, if there is one.
    """

    def __init__(self, settings: Settings, session: aiohttp.ClientSession, proxy: str | None) -> None:
        self.settings = settings
        self._pace = pace_of(settings.base_url)
        self._session = session
        self._proxy = proxy
        self._headers = {
            "Accept": "application/json",
            "Authorization": settings.authorization,
            "User-Agent": f"airflow-provider-omnimessage/{__version__}",
        }

    @classmethod
    async def open(cls, settings: Settings, *, connections: int) -> AiohttpTransport:
        """
        Open a session. Files are read in a thread, off the event loop.

        :param settings: base URL, credentials, timeout and rate limit.
        :param connections: the largest number of open connections.
        """
        session, proxy = await open_session(settings.base_url, connections=connections)
        return cls(settings, session, proxy)

    async def make(self, call: Call[T], timeout: float | None = None) -> T:
        """
        Make one attempt at a call, when its turn comes.

        :param call: the call.
        :param timeout: seconds for the turn and the request; default: the connection's ``deadline``.
        :raises OmnimessageError: as :class:`~airflow_provider_omnimessage.hooks.repeating.Transport` documents.
        """
        left = self.settings.deadline if timeout is None else timeout
        wait = self._pace.take_turn(call.name, rate_limit=self.settings.rate_limit, left=left)
        if wait:
            await asyncio.sleep(wait)
        with self._pace.request(call.name):
            return call.result(await self._request(call, min(self.settings.timeout, left - wait)))

    async def close(self) -> None:
        """Close the session and its connections."""
        await self._session.close()

    async def _request(self, call: Call[Any], seconds: float) -> Response:
        url = URL(f"{self.settings.base_url}{call.path}", encoded=True)
        try:
            async with self._session.request(
                call.method,
                url,
                headers=self._headers if call.body is None else {**self._headers, "Content-Type": "application/json"},
                data=call.content,
                allow_redirects=False,
                proxy=self._proxy,
                timeout=aiohttp.ClientTimeout(total=seconds, connect=min(CONNECT_TIMEOUT, seconds)),
            ) as response:
                content = await response.read()
                return Response(response.status, response.headers, content, datetime.now(timezone.utc))
        except aiohttp.ClientConnectorCertificateError as error:
            reason = _describe(error.certificate_error)
            raise UntrustedError.of(call.name, self.settings.base_url, reason) from error
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise NotSentError.no_connection(call.name, self.settings.base_url, _describe(error)) from error
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            raise LostResponseError.of(call.name, self.settings.base_url, _describe(error)) from error


async def open_session(base_url: str, *, connections: int) -> tuple[aiohttp.ClientSession, str | None]:
    """
    Open a session for one server. Files are read in a thread, off the event loop.

    :param connections: the largest number of open connections.
    :return: the session, and the URL of the proxy, if there is one.
    """
    tls: ssl.SSLContext | bool = True
    if base_url.startswith("https:"):
        tls = await asyncio.to_thread(network.tls_context)
    proxy = await asyncio.to_thread(network.proxy_url, base_url)
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections, ssl=tls), cookie_jar=aiohttp.DummyCookieJar()
    )
    return session, proxy


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ")
