"""Signed requests to the receiver, with which tasks and triggers read its events."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from airflow_provider_omnimessage.api.delivery import ChannelStatus, DeliveryReport
from airflow_provider_omnimessage.hooks.lookup import import_transport
from airflow_provider_omnimessage.receiver.claim_state import ClaimState
from airflow_provider_omnimessage.receiver.events import EventJson
from airflow_provider_omnimessage.receiver.signing import REQUEST_HEADER, sign_request

if TYPE_CHECKING:
    import aiohttp
    import requests

    from airflow_provider_omnimessage.hooks.settings import Settings

#: Maximum number of ids in one request: they must fit in a URL.
IDS_AT_A_TIME = 50
#: Seconds of a long poll.
LONG_POLL = 25.0
#: Seconds to wait for a response, in addition to the duration of a long poll.
TIMEOUT = 10.0

_FORBIDDEN = 403


class ReceiverError(Exception):
    """The receiver did not respond, or something else did. The message says what to check.

    :param may_pass: whether the same request may succeed later without any change here.
    """

    def __init__(self, message: str, *, may_pass: bool = False) -> None:
        super().__init__(message)
        self.may_pass = may_pass


@dataclass(frozen=True)
class EventPage:
    """The response to a request for events.

    :param log: changes when the log is reset.
    :param position: the events are complete up to here.
    :param events: in log order.
    :param stored: for each requested id that has reports, the latest one of each channel.
    """

    log: str
    position: int
    events: list[EventJson]
    stored: dict[str, list[EventJson]] = field(default_factory=dict)


def delivery_report(omnimessage_id: str, events: Iterable[EventJson]) -> DeliveryReport:
    """Combine the events of a message into a delivery report.

    :param events: in log order. Of several for one channel, the last one counts.
    """
    channels = {str(event.get("message_id")): event for event in events}
    return DeliveryReport(omnimessage_id, "", tuple(map(channel_status, channels.values())))


def channel_status(event: EventJson) -> ChannelStatus:
    """Return the status of an event's channel."""
    return ChannelStatus.read({**event, "price_info": {"total_price": event.get("price")}})


class SignedRequest:
    """A request to the receiver, signed with the connection's password.

    :param settings: the connection's, with ``receiver_url``.
    :param conn_id: the Airflow connection.
    :param method: the HTTP method.
    :param route: ``events`` or ``claims``.
    :param query: names and values.
    :param timeout: seconds to wait for the response.
    """

    def __init__(
        self,
        settings: Settings,
        conn_id: str,
        method: str,
        route: str,
        *,
        query: Sequence[tuple[str, str]] = (),
        body: bytes = b"",
        timeout: float = TIMEOUT,
    ) -> None:
        self.method = method
        self.query = query
        self.body = body
        self.base_url = settings.receiver_url or ""
        self.timeout = timeout
        self._conn_id = conn_id
        self._route = route
        self._secret = settings.password

    @property
    def url(self) -> str:
        """The URL with its query."""
        query = f"?{urlencode(self.query)}" if self.query else ""
        return f"{self.base_url}/v1/{self._route}/{quote(self._conn_id, safe='')}{query}"

    def headers(self) -> dict[str, str]:
        """Return the headers, signed with the current time."""
        signature = sign_request(
            self._secret,
            method=self.method,
            path=f"/v1/{self._route}/{self._conn_id}",
            query=self.query,
            body=self.body,
            at=int(time.time()),
        )
        return {"Accept": "application/json", REQUEST_HEADER: signature}

    def content(self, status: int, content: bytes) -> Mapping[str, Any]:
        """Parse the response.

        :raises ReceiverError: if it is not a JSON object with status 200.
        """
        if status == _FORBIDDEN:
            raise ReceiverError(
                f"{self.base_url} rejects the signature (403); check that the receiver sees the connection "
                f"'{self._conn_id}' with the same API password, and that the clocks agree"
            )
        if status != 200:
            raise ReceiverError(
                f"{self.base_url} responded {status}; check receiver_url, and whether the receiver runs there",
                may_pass=status >= 500,
            )
        try:
            return dict(json.loads(content))
        except (ValueError, TypeError):
            raise self.misunderstood() from None

    def misunderstood(self) -> ReceiverError:
        """Return the error for a response that is something else."""
        return ReceiverError(f"{self.base_url} did not respond as the receiver does; check receiver_url")


class EventsRequest(SignedRequest):
    """One request for events.

    :param settings: the connection's, with ``receiver_url``.
    :param conn_id: the Airflow connection.
    :param after: return events after this sequence number; ``None``: from the consumer's position, or else from now on.
    :param wait: how long the receiver may wait for an event, in seconds.
    :param ids: messages whose stored reports to return.
    :param consumer: name under which the receiver stores a position: ``acknowledged``, or else ``after``.
    :param acknowledged: the sequence number up to which the consumer has finished.
    """

    def __init__(
        self,
        settings: Settings,
        conn_id: str,
        *,
        after: int | None = None,
        wait: float = 0.0,
        ids: Sequence[str] = (),
        consumer: str | None = None,
        acknowledged: int | None = None,
    ) -> None:
        query = {
            "after": None if after is None else str(after),
            "wait": f"{wait:g}" if wait else None,
            "ids": ",".join(ids) or None,
            "consumer": consumer,
            "acknowledged": None if acknowledged is None else str(acknowledged),
        }
        given = [(name, value) for name, value in query.items() if value is not None]
        super().__init__(settings, conn_id, "GET", "events", query=given, timeout=wait + TIMEOUT)

    def page(self, status: int, content: bytes) -> EventPage:
        """Parse the response.

        :raises ReceiverError: if it is not a page of events.
        """
        body = self.content(status, content)
        try:
            return EventPage(
                str(body["log"]), int(body["position"]), list(body["events"]), dict(body.get("stored") or {})
            )
        except (ValueError, KeyError, TypeError):
            raise self.misunderstood() from None


class ReceiverClient:
    """Sends requests on an event loop, with one session. Use :meth:`open` to create it.

    :param settings: the connection's, with ``receiver_url``.
    :param conn_id: the Airflow connection.
    :param session: closed by :meth:`close`.
    :param proxy: the URL of the HTTP proxy, if any.
    """

    def __init__(self, settings: Settings, conn_id: str, session: aiohttp.ClientSession, proxy: str | None) -> None:
        self.settings = settings
        self._conn_id = conn_id
        self._session = session
        self._proxy = proxy

    @classmethod
    async def open(cls, settings: Settings, conn_id: str) -> ReceiverClient:
        """Open a session."""
        await import_transport()
        from airflow_provider_omnimessage.hooks.aiohttp_transport import open_session

        session, proxy = await open_session(settings.receiver_url or "", connections=4)
        return cls(settings, conn_id, session, proxy)

    async def events(
        self,
        *,
        after: int | None = None,
        wait: float = 0.0,
        ids: Sequence[str] = (),
        consumer: str | None = None,
        acknowledged: int | None = None,
    ) -> EventPage:
        """Request events; the parameters are those of :class:`EventsRequest`.

        :raises ReceiverError: if there is no response, or it is not a page of events.
        """
        request = EventsRequest(
            self.settings,
            self._conn_id,
            after=after,
            wait=wait,
            ids=ids,
            consumer=consumer,
            acknowledged=acknowledged,
        )
        return request.page(*await self._send(request))

    async def claim(self, name: str, holder: str, seconds: int) -> ClaimState:
        """Claim something that several processes would do.

        :raises ReceiverError: if there is no response, or it is something else.
        """
        request, content = await self._claim(name=name, holder=holder, seconds=seconds)
        try:
            return ClaimState(content.get("state"))
        except ValueError:
            raise request.misunderstood() from None

    async def give_back(self, name: str, holder: str, *, is_done: bool) -> None:
        """End a claim; ``is_done`` says whether somebody else still has to do it.

        :raises ReceiverError: as for :meth:`claim`.
        """
        await self._claim(name=name, holder=holder, is_done=is_done)

    async def _claim(self, **claim: object) -> tuple[SignedRequest, Mapping[str, Any]]:
        body = json.dumps(claim).encode()
        request = SignedRequest(self.settings, self._conn_id, "POST", "claims", body=body)
        return request, request.content(*await self._send(request))

    async def _send(self, request: SignedRequest) -> tuple[int, bytes]:
        import aiohttp
        from yarl import URL

        try:
            async with self._session.request(
                request.method,
                URL(request.url, encoded=True),
                data=request.body or None,
                headers=request.headers(),
                allow_redirects=False,
                proxy=self._proxy,
                timeout=aiohttp.ClientTimeout(total=request.timeout, connect=TIMEOUT),
            ) as response:
                return response.status, await response.read()
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            raise _unreachable(request, error) from error

    async def close(self) -> None:
        """Close the session."""
        await self._session.close()


def stored_reports(
    settings: Settings, conn_id: str, omnimessage_ids: Sequence[str], *, timeout: float = TIMEOUT
) -> dict[str, DeliveryReport]:
    """Return the stored reports of messages; the parameters and errors are those of :func:`each_stored_report`."""
    return dict(each_stored_report(settings, conn_id, omnimessage_ids, timeout=timeout))


def each_stored_report(
    settings: Settings, conn_id: str, omnimessage_ids: Sequence[str], *, timeout: float
) -> Iterator[tuple[str, DeliveryReport]]:
    """Yield the stored reports of messages, each with its id, as soon as they are read. This blocks.

    :param settings: the connection's, with ``receiver_url``.
    :param timeout: seconds for all requests together. Ids that are not looked up by then are left out.
    :raises ReceiverError: if there is no response, or it is not a page of events.
    """
    import requests
    from urllib3.util import Timeout

    from airflow_provider_omnimessage.hooks.sockets import DeadlineAdapter

    end = time.monotonic() + timeout
    with requests.Session() as session:
        session.auth = _no_credentials  # otherwise requests reads .netrc
        for scheme in ("https://", "http://"):
            session.mount(scheme, DeadlineAdapter())
        for start in range(0, len(omnimessage_ids), IDS_AT_A_TIME):
            left = min(TIMEOUT, end - time.monotonic())
            if left <= 0:
                return
            request = EventsRequest(settings, conn_id, ids=omnimessage_ids[start : start + IDS_AT_A_TIME])
            try:
                response = session.get(
                    request.url,
                    headers=request.headers(),
                    timeout=Timeout(total=left),  # type: ignore[arg-type]
                    allow_redirects=False,
                )
            except requests.RequestException as error:
                raise _unreachable(request, error) from error
            page = request.page(response.status_code, response.content)
            for id_, events in page.stored.items():
                yield id_, delivery_report(id_, events)


def _unreachable(request: SignedRequest, error: Exception) -> ReceiverError:
    return ReceiverError(
        f"{request.base_url} cannot be reached ({type(error).__name__}); check receiver_url, and whether the receiver "
        "runs there",
        may_pass=True,
    )


def _no_credentials(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request
