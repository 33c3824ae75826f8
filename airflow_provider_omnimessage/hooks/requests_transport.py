"""Make the API's calls with requests, for tasks. For event loops, ``aiohttp_transport`` does the same."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any, TypeVar

import requests
from requests.auth import AuthBase
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError
from urllib3.util import Timeout

from airflow_provider_omnimessage import __version__
from airflow_provider_omnimessage.api.calls import Call
from airflow_provider_omnimessage.api.errors import LostResponseError, NoResponseError, NotSentError, UntrustedError
from airflow_provider_omnimessage.api.responses import Response
from airflow_provider_omnimessage.hooks import network
from airflow_provider_omnimessage.hooks.pacing import pace_of
from airflow_provider_omnimessage.hooks.settings import CONNECT_TIMEOUT, Settings
from airflow_provider_omnimessage.hooks.sockets import DeadlineAdapter

T = TypeVar("T")

POOL_SIZE = 10
NOT_CONNECTED = (NewConnectionError, ConnectTimeoutError)


class RequestsTransport:
    """
    One pooled ``requests.Session`` for one connection.

    It is a :class:`~airflow_provider_omnimessage.hooks.repeating.Transport`.

    :param settings: base URL, credentials, timeout and rate limit.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._pace = pace_of(settings.base_url)
        # by thread, since a bulk send has several calls in flight
        self._in_flight: dict[int, tuple[Call[Any], _Body | None]] = {}
        self._session = session = requests.Session()
        session.auth = _BasicAuth(settings)
        session.headers["Accept"] = "application/json"
        session.headers["User-Agent"] = f"airflow-provider-omnimessage/{__version__}"
        self._adapter = DeadlineAdapter(pool_maxsize=POOL_SIZE, max_retries=0)
        for scheme in ("https://", "http://"):
            session.mount(scheme, self._adapter)
        # prepared once: requests would compute it again for every call
        self._template = session.prepare_request(requests.Request("GET", settings.base_url))
        self._base_url = (self._template.url or "").rstrip("/")
        self._verify = network.ca_bundle()
        self._proxies = network.proxies(settings.base_url)

    def make(self, call: Call[T], timeout: float | None = None) -> T:
        """
        Make one attempt at a call, when its turn comes.

        :param call: the call.
        :param timeout: seconds for the turn and the request; default: the connection's ``deadline``.
        :raises OmnimessageError: as :class:`~airflow_provider_omnimessage.hooks.repeating.Transport` documents.
        """
        left = self._settings.deadline if timeout is None else timeout
        wait = self._pace.take_turn(call.name, rate_limit=self._settings.rate_limit, left=left)
        if wait:
            time.sleep(wait)
        with self._pace.request(call.name):
            return call.result(self._request(call, min(self._settings.timeout, left - wait)))

    def close(self) -> None:
        """Close the connections of the pool."""
        self._session.close()

    @property
    def unanswered(self) -> Call[Any] | None:
        """The call that may be at Messente right now without a response yet; ``None`` if there is none."""
        in_flight = list(self._in_flight.values())
        return next((call for call, body in in_flight if body is None or body.begun), None)

    def _request(self, call: Call[Any], seconds: float) -> Response:
        body = None if call.content is None else _Body(call.content)
        request = self._prepare(call, body)
        limit = Timeout(total=seconds, connect=min(CONNECT_TIMEOUT, seconds), read=seconds)
        self._in_flight[threading.get_ident()] = (call, body)
        try:
            # Not Session.send, which keeps cookies and follows redirects. requests passes the timeout to urllib3 as it
            # is; only its type stubs do not know this type.
            response = self._adapter.send(
                request,
                stream=True,
                timeout=limit,  # type: ignore[arg-type]
                verify=self._verify,
                proxies=self._proxies,
            )
            with response:
                content = self._content(response)
        except Exception as error:
            # any exception: a broken Location or certificate bundle raises others than those of requests
            self._in_flight.pop(threading.get_ident(), None)
            raise self._no_response(call, body, error) from error
        # not in a finally: a call that is interrupted here, by a timeout in Airflow or a kill, stays unanswered
        self._in_flight.pop(threading.get_ident(), None)
        return Response(response.status_code, response.headers, content, datetime.now(timezone.utc))

    def _content(self, response: requests.Response) -> bytes:
        content: bytes = response.raw.read(decode_content=True)
        return content

    def _prepare(self, call: Call[Any], body: _Body | None) -> requests.PreparedRequest:
        request = self._template.copy()
        request.method = call.method
        request.url = f"{self._base_url}{call.path}"
        if body is not None:
            request.headers["Content-Type"] = "application/json"
            request.prepare_body(body, None)
        return request

    def _no_response(self, call: Call[Any], body: _Body | None, error: Exception) -> NoResponseError:
        causes = list(_causes(error))
        reason = f"{type(causes[-1]).__name__}: {causes[-1]}".rstrip(": ")
        connected = not any(isinstance(cause, NOT_CONNECTED) for cause in causes)
        if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
            return UntrustedError.of(call.name, self._settings.base_url, reason)
        if not (connected if body is None else body.begun):
            return NotSentError.no_connection(call.name, self._settings.base_url, reason)
        return LostResponseError.of(call.name, self._settings.base_url, reason)


class _Body:
    """A request body that records when it is sent. Before that, nothing can have been processed."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.begun = False

    def __len__(self) -> int:
        return len(self._content)

    def __iter__(self) -> Iterator[bytes]:
        self.begun = True
        yield self._content


class _BasicAuth(AuthBase):
    """
    Basic authentication in UTF-8, as RFC 7617 requires; requests itself uses Latin-1.

    Since the session has its own authentication, requests does not read a ``.netrc``.
    """

    def __init__(self, settings: Settings) -> None:
        self._header = settings.authorization

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = self._header
        return request


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and its causes, down to the innermost one, which names the problem best."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        # not __context__: it may be an unrelated error that the caller was handling
        nested = (getattr(current, "reason", None), *current.args, current.__cause__)
        current = next((cause for cause in nested if isinstance(cause, BaseException)), None)
