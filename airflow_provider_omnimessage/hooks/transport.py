"""Makes the API's calls with requests, repeats what is safe, and tells what was not sent from what may have been."""

from __future__ import annotations

import http.client
import io
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from typing import Any, TypeVar

import requests
import tenacity
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError
from urllib3.util import Timeout

from airflow_provider_omnimessage import __version__
from airflow_provider_omnimessage.api import backoff
from airflow_provider_omnimessage.api.calls import Call, Response
from airflow_provider_omnimessage.api.errors import (
    DeadlineExceededError,
    LostResponseError,
    NoResponseError,
    NotSentError,
    OmnimessageError,
    UntrustedError,
)
from airflow_provider_omnimessage.hooks.settings import Settings

T = TypeVar("T")

#: Told of each repeat before its pause: the call, what became of the attempt, its number, and the seconds to wait.
OnRepeat = Callable[[Call[Any], OmnimessageError, int, float], None]

CONNECT_TIMEOUT = 10.0
POOL_SIZE = 10
NOT_CONNECTED = (NewConnectionError, ConnectTimeoutError)


class RequestsTransport:
    """
    One pooled ``requests.Session`` for one connection.

    :param settings: base URL, credentials, timeout and deadline.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        # by thread: a bulk send has several calls under way
        self._asked: dict[int, tuple[Call[Any], _Body | None]] = {}
        self._session = session = requests.Session()
        session.auth = _BasicAuth(settings)
        session.headers["Accept"] = "application/json"
        session.headers["User-Agent"] = f"airflow-provider-omnimessage/{__version__}"
        self._adapter = _Adapter(pool_maxsize=POOL_SIZE, max_retries=0)
        for scheme in ("https://", "http://"):
            session.mount(scheme, self._adapter)
        # What is the same for every call is made once; requests would work it out anew for each.
        self._template = session.prepare_request(requests.Request("GET", settings.base_url))
        self._base_url = (self._template.url or "").rstrip("/")
        environment = session.merge_environment_settings(settings.base_url, {}, False, None, None)
        if settings.is_loopback:
            # A proxy is for what is far away; no proxy is to see a password that goes over http.
            environment["proxies"] = {}
        self._environment: dict[str, Any] = {key: value for key, value in environment.items() if key != "stream"}

    def make(self, call: Call[T], on_repeat: OnRepeat | None = None, until: float | None = None) -> T:
        """
        Make one call; again where :func:`~airflow_provider_omnimessage.api.backoff.may_repeat` allows it.

        :param call: which call.
        :param on_repeat: told of each repeat before its pause; ``None``: the call is made once.
        :param until: the time on the monotonic clock by which the call must end; default: the connection's deadline.
        :raises DeadlineExceededError: if no time is left; nothing was sent.
        :raises NotSentError: where the request surely did not reach Messente.
        :raises LostResponseError: where it may have been processed, but no whole answer came back.
        :raises ApiError: where Messente answered, and not with success.
        """
        if until is None:
            until = time.monotonic() + self._settings.deadline
        try:
            return call.result(self._ask(call, until))
        except OmnimessageError as error:
            if on_repeat is None or not backoff.may_repeat(call, error):
                raise
            failed = [error]
        # What goes well at once, as nearly all does, needs nothing of this.
        return self._repeat(call, failed, until, on_repeat)

    def _repeat(self, call: Call[T], failed: list[OmnimessageError], until: float, on_repeat: OnRepeat) -> T:
        def attempt() -> T:
            if failed:
                raise failed.pop()  # the first attempt, which has been made
            return call.result(self._ask(call, until))

        def failure(state: tenacity.RetryCallState) -> Any:
            return state.outcome and state.outcome.exception()

        repeating = tenacity.Retrying(
            sleep=lambda seconds: time.sleep(seconds),
            retry=tenacity.retry_if_exception(lambda error: backoff.may_repeat(call, error)),
            wait=lambda state: backoff.pause(failure(state), state.attempt_number, random.random()),
            # A pause that leads past the deadline is not begun: to know the error now is of more use.
            stop=lambda state: time.monotonic() + state.upcoming_sleep >= until,
            before_sleep=lambda state: on_repeat(call, failure(state), state.attempt_number, state.upcoming_sleep),
            reraise=True,
        )
        return repeating(attempt)

    @property
    def unanswered(self) -> Call[Any] | None:
        """The call that may be at Messente at this moment, and has no answer yet; ``None`` where there is none."""
        asked = list(self._asked.values())
        return next((call for call, body in asked if body is None or body.begun), None)

    def close(self) -> None:
        """Close the connections of the pool."""
        self._session.close()

    def _ask(self, call: Call[Any], until: float) -> Response:
        left = min(self._settings.timeout, until - time.monotonic())
        if left <= 0:
            raise DeadlineExceededError.of(call.name)
        body = None if call.content is None else _Body(call.content)
        request = self._prepare(call, body)
        self._asked[threading.get_ident()] = (call, body)
        try:
            # Not by way of Session.send, which keeps cookies and looks for redirects.
            response = self._adapter.send(
                request,
                stream=True,
                # requests passes it on to urllib3 as it is; only its type stubs do not know it
                timeout=Timeout(total=left, connect=min(CONNECT_TIMEOUT, left), read=left),  # type: ignore[arg-type]
                **self._environment,
            )
            with response:
                content = self._content(response)
        except Exception as error:
            # Not only what requests calls its own: a broken Location or certificate bundle raises what it likes.
            self._asked.pop(threading.get_ident(), None)
            raise self._no_answer(call, body, error) from error
        # Not in a finally: what is interrupted here, by a timeout of Airflow's or a kill, stays unanswered.
        self._asked.pop(threading.get_ident(), None)
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

    def _no_answer(self, call: Call[Any], body: _Body | None, error: Exception) -> NoResponseError:
        causes = list(_causes(error))
        reason = f"{type(causes[-1]).__name__}: {causes[-1]}".rstrip(": ")
        connected = not any(isinstance(cause, NOT_CONNECTED) for cause in causes)
        if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
            return UntrustedError.of(call.name, self._settings.base_url, reason)
        if not (connected if body is None else body.begun):
            return NotSentError(f"{call.name}: could not reach {self._settings.base_url}, nothing was sent: {reason}")
        return LostResponseError(f"{call.name}: no whole answer came back from {self._settings.base_url}: {reason}")


class _WholeAnswer(http.client.HTTPResponse):
    """
    An answer that is there, headers and body, within the timeout.

    The timeout of a socket is for each packet: an answer that drips would take for ever.
    """

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        raw = self.fp.detach()
        self.fp = io.BufferedReader(_UntilThen(sock, raw))


class _UntilThen(io.RawIOBase):
    """Reads a socket, all of it within the timeout that the socket has when the reading begins."""

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
            raise TimeoutError(f"the answer was not complete after {round(self._timeout, 1):g} s") from None
        finally:
            # what is sent over this connection next has a timeout of its own
            self._sock.settimeout(self._timeout)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _HTTPConnection(HTTPConnection):
    response_class = _WholeAnswer


class _HTTPSConnection(HTTPSConnection):
    response_class = _WholeAnswer


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls = _HTTPConnection


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _HTTPSConnection


_POOLS: dict[type, type] = {HTTPConnectionPool: _HTTPPool, HTTPSConnectionPool: _HTTPSPool}


class _Adapter(HTTPAdapter):
    """Asks for answers that come whole, through a proxy as well."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        _demand_whole_answers(self.poolmanager)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        _demand_whole_answers(manager)
        return manager


def _demand_whole_answers(manager: Any) -> None:
    pools = manager.pool_classes_by_scheme
    manager.pool_classes_by_scheme = {scheme: _POOLS.get(pool, pool) for scheme, pool in pools.items()}


class _Body:
    """A request body that knows whether its sending was begun: before that, nothing can have been processed."""

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
    Basic authentication in UTF-8, as RFC 7617 has it; requests itself would write Latin-1.

    Being the session's own, it also keeps a ``.netrc`` from replacing the connection's credentials.
    """

    def __init__(self, settings: Settings) -> None:
        self._header = settings.authorization

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = self._header
        return request


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Go from an error to its innermost cause, which says what went wrong without the layers around it."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        # Not __context__: it may lead to what the caller was handling when it called.
        nested = (getattr(current, "reason", None), *current.args, current.__cause__)
        current = next((cause for cause in nested if isinstance(cause, BaseException)), None)
