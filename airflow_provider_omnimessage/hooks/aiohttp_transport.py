"""Makes the API's calls with aiohttp, for triggers: the asynchronous sibling of the transport for tasks."""

from __future__ import annotations

import asyncio
import os
import ssl
from datetime import datetime, timezone
from typing import Any, TypeVar
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from airflow_provider_omnimessage import __version__
from airflow_provider_omnimessage.api.calls import Call, Response
from airflow_provider_omnimessage.api.errors import (
    DeadlineExceededError,
    LostResponseError,
    NotSentError,
    UntrustedError,
)
from airflow_provider_omnimessage.hooks.settings import Settings

T = TypeVar("T")

CONNECT_TIMEOUT = 10.0


class AiohttpTransport:
    """
    One ``aiohttp.ClientSession`` for one connection, on one event loop. Use :meth:`open` to make it.

    :param settings: base URL, credentials and timeout.
    :param session: with nothing of its own; closed with this.
    :param proxy: its URL, if there is one.
    """

    def __init__(self, settings: Settings, session: aiohttp.ClientSession, proxy: str | None) -> None:
        self.settings = settings
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
        Open a session. What reads files does so in a thread, off the event loop.

        :param settings: base URL, credentials and timeout.
        :param connections: at most so many at a time.
        """
        tls: ssl.SSLContext | bool = True
        proxy = None
        if settings.base_url.startswith("https:"):
            tls = await asyncio.to_thread(_tls)
        if not settings.is_loopback:
            proxy = await asyncio.to_thread(_proxy, settings.base_url)
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=connections, ssl=tls),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return cls(settings, session, proxy)

    async def make(self, call: Call[T], timeout: float | None = None) -> T:
        """
        Make one call, once.

        :param call: which call.
        :param timeout: seconds for the whole request; default, and most: the connection's.
        :raises DeadlineExceededError: if no time is left; nothing was sent.
        :raises NotSentError: where the request surely did not reach Messente.
        :raises LostResponseError: where it may have been processed, but no whole answer came back.
        :raises ApiError: where Messente answered, and not with success.
        """
        seconds = self.settings.timeout if timeout is None else min(timeout, self.settings.timeout)
        if seconds <= 0:
            raise DeadlineExceededError.of(call.name)
        return call.result(await self._ask(call, seconds))

    async def close(self) -> None:
        """Close the session and its connections."""
        await self._session.close()

    async def _ask(self, call: Call[Any], seconds: float) -> Response:
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
            reason = _words(error.certificate_error)
            raise UntrustedError.of(call.name, self.settings.base_url, reason) from error
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise NotSentError(
                f"{call.name}: could not reach {self.settings.base_url}, nothing was sent: {_words(error)}"
            ) from error
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            raise LostResponseError(
                f"{call.name}: no whole answer came back from {self.settings.base_url}: {_words(error)}"
            ) from error


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ")


def _tls() -> ssl.SSLContext:
    """Trust whom requests trusts, so that a task and its trigger agree."""
    import certifi

    bundle = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or certifi.where()
    if os.path.isdir(bundle):
        return ssl.create_default_context(capath=bundle)
    return ssl.create_default_context(cafile=bundle)


def _proxy(base_url: str) -> str | None:
    """Find the proxy that requests would take; without aiohttp's own way, which reads a ``.netrc``, too."""
    from requests.utils import get_environ_proxies, select_proxy

    proxy: str | None = select_proxy(base_url, get_environ_proxies(base_url))
    return f"http://{proxy}" if proxy and not urlsplit(proxy).scheme else proxy
