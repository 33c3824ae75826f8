"""Makes the API's calls with requests, and tells what surely was not sent from what may have been processed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, TypeVar

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from airflow_provider_omnimessage import __version__
from airflow_provider_omnimessage.api.calls import Answer, Call
from airflow_provider_omnimessage.api.errors import LostAnswerError, NoAnswerError, NotSentError
from airflow_provider_omnimessage.hooks.settings import Settings

T = TypeVar("T")

CONNECT_TIMEOUT = 10.0
POOL_SIZE = 10


class RequestsTransport:
    """
    One pooled ``requests.Session`` for one connection.

    :param settings: base URL, credentials and timeout.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._timeout = (min(CONNECT_TIMEOUT, settings.timeout), settings.timeout)
        self._session = session = requests.Session()
        session.auth = _BasicAuth(settings)
        session.headers["Accept"] = "application/json"
        session.headers["User-Agent"] = f"airflow-provider-omnimessage/{__version__}"
        # A proxy is for what is far away; no proxy is to see a password that goes over http.
        session.trust_env = not settings.is_loopback
        for scheme in ("https://", "http://"):
            session.mount(scheme, HTTPAdapter(pool_maxsize=POOL_SIZE, max_retries=0))
        # What is the same for every call is made once; requests would work it out anew for each.
        self._template = session.prepare_request(requests.Request("GET", settings.base_url))
        self._base_url = (self._template.url or "").rstrip("/")
        self._environment = session.merge_environment_settings(settings.base_url, {}, False, None, None)

    def make(self, call: Call[T]) -> T:
        """
        Make one call, once.

        :param call: which call.
        :raises NotSentError: where the request surely did not reach Messente.
        :raises LostAnswerError: where it may have been processed, but no whole answer came back.
        :raises ApiError: where Messente answered, and not with success.
        """
        return call.result(self._ask(call))

    def close(self) -> None:
        """Close the connections of the pool."""
        self._session.close()

    def _ask(self, call: Call[Any]) -> Answer:
        body = None if call.body is None else _Body(json.dumps(call.body).encode())
        try:
            response = self._session.send(
                self._prepare(call, body), timeout=self._timeout, allow_redirects=False, **self._environment
            )
        except requests.RequestException as error:
            raise self._no_answer(call, body, error) from error
        return Answer(response.status_code, response.headers, response.content)

    def _prepare(self, call: Call[Any], body: _Body | None) -> requests.PreparedRequest:
        request = self._template.copy()
        request.method = call.method
        request.url = f"{self._base_url}{call.path}"
        if body is not None:
            request.headers["Content-Type"] = "application/json"
            request.prepare_body(body, None)
        return request

    def _no_answer(self, call: Call[Any], body: _Body | None, error: requests.RequestException) -> NoAnswerError:
        causes = list(_causes(error))
        reason = f"{type(causes[-1]).__name__}: {causes[-1]}".rstrip(": ")
        not_begun = body is not None and not body.begun
        if not_begun or any(isinstance(cause, (NewConnectionError, ConnectTimeoutError)) for cause in causes):
            return NotSentError(f"{call.name}: could not reach {self._settings.base_url}, nothing was sent: {reason}")
        return LostAnswerError(f"{call.name}: no whole answer came back from {self._settings.base_url}: {reason}")


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
        nested = (getattr(current, "reason", None), *current.args, current.__cause__, current.__context__)
        current = next((cause for cause in nested if isinstance(cause, BaseException)), None)
