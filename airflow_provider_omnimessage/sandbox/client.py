"""Controls a sandbox, in this process or in another, through its HTTP calls."""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any, Final, Literal
from urllib.parse import quote, urlsplit

from airflow_provider_omnimessage.sandbox import assertions

CALL_TIMEOUT: Final = 600
"""Seconds. Moving the clock waits for every delivery report that is posted on the way."""


class SandboxClient:
    """A running sandbox.

    .. code-block:: python

        sandbox = SandboxClient("http://127.0.0.1:8025")
        sandbox.advance(3600)
        sandbox.assert_one_sent(to="+37255555555")

    :param url: its address, as ``python -m airflow_provider_omnimessage.sandbox`` prints it.
    :param username: the API username; checked only for calls from another machine.
    :param password: the API password.
    """

    def __init__(self, url: str, username: str = "sandbox", password: str = "sandbox") -> None:
        self.username = username
        self.password = password
        self._origin = url

    @property
    def inbox_url(self) -> str:
        """The address of the inbox page."""
        return f"http://{urlsplit(self._origin).netloc}/"

    @property
    def url(self) -> str:
        """The base URL of the API: the ``host`` of a connection."""
        return f"{self.inbox_url}v1"

    @property
    def connection(self) -> dict[str, Any]:
        """An Airflow connection to this sandbox, as plain data."""
        connection: dict[str, Any] = self._call("GET", "/sandbox/connection")
        return connection

    @property
    def airflow_conn(self) -> str:
        """A value for AIRFLOW_CONN_OMNIMESSAGE_DEFAULT that points at this sandbox."""
        return json.dumps(self.connection)

    @property
    def messages(self) -> list[dict[str, Any]]:
        """Every accepted message, in order of acceptance."""
        messages: list[dict[str, Any]] = self._call("GET", "/sandbox/messages")
        return messages

    def message(self, omnimessage_id: str) -> dict[str, Any]:
        """Return one message.

        :param omnimessage_id: the id from the response to the send.
        :raises ValueError: there is no message with that id.
        """
        message: dict[str, Any] = self._call("GET", f"/sandbox/messages/{quote(omnimessage_id, safe='')}")
        return message

    @property
    def requests(self) -> list[dict[str, Any]]:
        """Every API call, in order; at most the latest 100,000."""
        requests: list[dict[str, Any]] = self._call("GET", "/sandbox/requests")
        return requests

    def assert_one_scheduled(
        self,
        *,
        to: str | None = None,
        at: datetime | str | None = None,
        text: str | None = None,
        channels: Sequence[str] | None = None,
    ) -> dict[str, Any]:
        """Assert that exactly one matching message is scheduled, and return it.

        :param to: the recipient; spaces, dashes, dots and brackets are ignored. Default: any.
        :param at: its ``time_to_send``, a datetime or ISO 8601; UTC if it has no offset. Default: any.
        :param text: part of the text on any of its channels; case-sensitive. Default: any.
        :param channels: its channels in order, such as ``["viber", "sms"]``. Default: any.
        :raises AssertionError: there is none, or more than one; the error lists what is there.
        """
        __tracebackhide__ = True
        return assertions.exactly_one(
            "scheduled", self.messages, self.requests, to=to, at=at, text=text, channels=channels
        )

    def assert_one_sent(
        self,
        *,
        to: str | None = None,
        at: datetime | str | None = None,
        text: str | None = None,
        channels: Sequence[str] | None = None,
    ) -> dict[str, Any]:
        """Assert that exactly one matching message was sent, whatever its outcome, and return it.

        :param to: the recipient; spaces, dashes, dots and brackets are ignored. Default: any.
        :param at: its ``time_to_send``, UTC if it has no offset. A message that was sent immediately has none.
            Default: any.
        :param text: part of the text on any of its channels; case-sensitive. Default: any.
        :param channels: its channels in order, such as ``["viber", "sms"]``. Default: any.
        :raises AssertionError: there is none, or more than one; the error lists what is there.
        """
        __tracebackhide__ = True
        return assertions.exactly_one("sent", self.messages, self.requests, to=to, at=at, text=text, channels=channels)

    def assert_one_cancelled(
        self,
        *,
        to: str | None = None,
        at: datetime | str | None = None,
        text: str | None = None,
        channels: Sequence[str] | None = None,
    ) -> dict[str, Any]:
        """Assert that exactly one matching message was scheduled and then cancelled, and return it.

        :param to: the recipient; spaces, dashes, dots and brackets are ignored. Default: any.
        :param at: its ``time_to_send``, a datetime or ISO 8601; UTC if it has no offset. Default: any.
        :param text: part of the text on any of its channels; case-sensitive. Default: any.
        :param channels: its channels in order, such as ``["viber", "sms"]``. Default: any.
        :raises AssertionError: there is none, or more than one; the error lists what is there.
        """
        __tracebackhide__ = True
        return assertions.exactly_one(
            "cancelled", self.messages, self.requests, to=to, at=at, text=text, channels=channels
        )

    def assert_nothing_scheduled(self) -> None:
        """Assert that no message is scheduled.

        :raises AssertionError: one is; the error lists what is there.
        """
        __tracebackhide__ = True
        assertions.nothing("scheduled", self.messages, self.requests)

    def assert_nothing_sent(self) -> None:
        """Assert that no message was sent. A scheduled message is not sent yet.

        :raises AssertionError: one was; the error lists what is there.
        """
        __tracebackhide__ = True
        assertions.nothing("sent", self.messages, self.requests)

    def assert_no_unknown_fields(self) -> None:
        """Assert that no accepted message has a field that Messente does not know. Messente ignores such fields.

        :raises AssertionError: one has; the error names message and fields.
        """
        __tracebackhide__ = True
        assertions.no_unknown_fields(self.messages)

    @property
    def now(self) -> datetime:
        """The sandbox's time, UTC."""
        return _time_of(self._call("GET", "/sandbox/clock"))

    def advance(self, by: float | timedelta) -> datetime:
        """Move the clock forward. Everything due on the way has happened when this returns.

        :param by: seconds or a timedelta, not negative.
        :raises ValueError: it is negative, or too large.
        """
        seconds = by.total_seconds() if isinstance(by, timedelta) else by
        return self._change_clock(advance=seconds)

    def set_time(self, to: datetime) -> datetime:
        """Set the clock. Everything due on the way has happened when this returns. Moving back undoes nothing.

        :param to: the new time; UTC if it has no time zone.
        :raises ValueError: it is too far in the future.
        """
        if to.tzinfo is None:
            to = to.replace(tzinfo=timezone.utc)
        return self._change_clock(set=to.isoformat())

    def advance_to_next_message(self) -> datetime:
        """Move the clock to the time of the next scheduled message. If there is none, the clock does not move."""
        return self._change_clock(to_next_message=True)

    def freeze(self) -> datetime:
        """Stop the clock. It can still be moved."""
        return self._change_clock(frozen=True)

    def resume(self) -> datetime:
        """Let the clock run again, from its current time."""
        return self._change_clock(frozen=False)

    def add_fault(
        self,
        fault: str,
        *,
        call: str = "any",
        method: str | None = None,
        times: int | Literal["always"] = 1,
        after: int = 0,
        status: int | None = None,
        retry_after: float | str | datetime | None = None,
        html: bool = False,
        seconds: float = 0,
        location: str | None = None,
        processed: bool | None = None,
    ) -> None:
        """Make API calls fail. At most one fault applies to each call: the first that matches.

        :param fault: ``rate_limited``, ``server_error``, ``unauthorized``, ``broken_json``, ``html``, ``redirect``,
            ``cut``, ``lost_answer`` or ``slow``.
        :param call: which calls: ``send``, ``bulk``, ``cancel``, ``status`` or ``any``.
        :param method: only calls with this HTTP method; default: any.
        :param times: how many calls, or ``always``.
        :param after: how many matching calls pass first.
        :param status: the HTTP status of ``server_error`` (default: 500) and ``redirect`` (default: 307).
        :param retry_after: the ``Retry-After`` header of ``rate_limited`` and ``server_error``: seconds, a datetime
            (sent as an HTTP date), or any string; default: no such header.
        :param html: ``server_error`` responds with a gateway's HTML page instead of Messente's JSON.
        :param seconds: how long ``slow`` takes, in real time.
        :param location: where ``redirect`` points (required for it, default: ``None``).
        :param processed: whether the call is processed before it fails; by default only for ``lost_answer`` and
            ``broken_json``. ``slow`` always processes it: before the delay if True, otherwise after it.
        :raises ValueError: a value is not accepted.
        """
        if isinstance(retry_after, datetime):
            retry_after = format_datetime(retry_after.astimezone(timezone.utc), usegmt=True)
        self._call(
            "POST",
            "/sandbox/faults",
            {
                "fault": fault,
                "call": call,
                "method": method,
                "times": times,
                "after": after,
                "status": status,
                "retry_after": retry_after,
                "html": html,
                "seconds": seconds,
                "location": location,
                "processed": processed,
            },
        )

    def add_report_fault(
        self,
        fault: str,
        *,
        status: str | None = None,
        times: int | Literal["always"] = 1,
        after: int = 0,
        every: int = 1,
        seconds: float | None = None,
        password: str | None = None,
    ) -> None:
        """Make delivery reports that are posted to ``dlr_url`` go wrong. At most one fault applies to each report.

        :param fault: ``dropped``, ``doubled``, ``reordered``, ``delayed``, ``wrong_signature`` or ``old_password``.
        :param status: only reports with this status, such as ``DELIVRD``; default: any.
        :param times: how many reports, or ``always``.
        :param after: how many matching reports pass first.
        :param every: only every second (2), third (3), ... matching report. ``every=10, times="always"`` is 10 %.
        :param seconds: how late ``delayed`` posts the report, on the sandbox's clock (required for it). ``reordered``
            waits this long for another report on the same message; default: 10.
        :param password: signs the report for ``old_password`` (required for it, default: ``None``).
        :raises ValueError: a value is not accepted.
        """
        self._call(
            "POST",
            "/sandbox/report-faults",
            {
                "fault": fault,
                "status": status,
                "times": times,
                "after": after,
                "every": every,
                "seconds": seconds,
                "password": password,
            },
        )

    @property
    def faults(self) -> list[dict[str, Any]]:
        """The faults of API calls. ``hits`` counts the calls that each has applied to."""
        faults: list[dict[str, Any]] = self._call("GET", "/sandbox/faults")
        return faults

    @property
    def report_faults(self) -> list[dict[str, Any]]:
        """The faults of delivery reports. ``hits`` counts the reports that each has applied to."""
        faults: list[dict[str, Any]] = self._call("GET", "/sandbox/report-faults")
        return faults

    def clear_faults(self) -> None:
        """Remove all faults, of API calls and of delivery reports."""
        self._call("DELETE", "/sandbox/faults")

    def reply(
        self,
        text: str,
        *,
        url: str,
        secret: str,
        sender: str,
        recipient: str = "+37250000000",
        channel: str = "sms",
        msg_id: str | None = None,
    ) -> dict[str, Any]:
        """Post an inbound message to the callback URL of a number, signed with the secret of that number.

        :param text: the reply.
        :param url: the callback URL.
        :param secret: the number's shared secret, which is not the API password.
        :param sender: the phone that replies.
        :param recipient: the number that it replies to.
        :param channel: the channel of the reply.
        :param msg_id: repeats an earlier reply; default: a new id.
        :return: what was posted, and ``response`` (HTTP status or None) and ``problem`` (None if it was received).
        """
        posted: dict[str, Any] = self._call(
            "POST",
            "/sandbox/replies",
            {
                "text": text,
                "url": url,
                "secret": secret,
                "sender": sender,
                "recipient": recipient,
                "channel": channel,
                "msg_id": msg_id,
            },
        )
        return posted

    def reset(self) -> None:
        """Start over: no messages, no calls, no faults, and a clock that runs with real time."""
        self._call("DELETE", "/sandbox")

    def _change_clock(self, **change: Any) -> datetime:
        return _time_of(self._call("POST", "/sandbox/clock", change))

    def _call(self, method: str, path: str, value: Any = None) -> Any:
        credentials = base64.b64encode(f"{self.username}:{self.password}".encode()).decode()
        headers = {"Authorization": f"Basic {credentials}", "Content-Type": "application/json"}
        target = urlsplit(self.inbox_url)
        connection = http.client.HTTPConnection(target.hostname or "", target.port, timeout=CALL_TIMEOUT)
        try:
            body = None if value is None else json.dumps(value)
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        if response.status >= 400:
            raise ValueError(_detail(content, response.status))
        return json.loads(content) if content else None


def _time_of(clock: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(clock["now"])


def _detail(content: bytes, status: int) -> str:
    try:
        return str(json.loads(content)["detail"])
    except (ValueError, KeyError, TypeError):
        return f"The sandbox responded with status {status}"
