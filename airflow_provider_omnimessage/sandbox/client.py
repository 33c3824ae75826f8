"""Drives a sandbox, in this process or in another, through its control calls."""

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

PATIENCE: Final = 600
"""Seconds: moving the clock waits for every delivery report that is posted on the way."""


class SandboxClient:
    """A running sandbox, seen from outside.

    :param url: its address, as ``python -m airflow_provider_omnimessage.sandbox`` prints it.
    :param username: the API username; asked for only from another machine.
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
        """The address of the API, what a connection's host is set to."""
        return f"{self.inbox_url}v1"

    @property
    def connection(self) -> dict[str, Any]:
        """The Airflow connection that leads to this sandbox, as plain data."""
        connection: dict[str, Any] = self._call("GET", "/sandbox/connection")
        return connection

    @property
    def airflow_conn(self) -> str:
        """The value of AIRFLOW_CONN_OMNIMESSAGE_DEFAULT that leads to this sandbox."""
        return json.dumps(self.connection)

    @property
    def messages(self) -> list[dict[str, Any]]:
        """Every accepted message, in order of acceptance."""
        messages: list[dict[str, Any]] = self._call("GET", "/sandbox/messages")
        return messages

    def message(self, omnimessage_id: str) -> dict[str, Any]:
        """Tell one message.

        :param omnimessage_id: the id from the answer to the send.
        :raises ValueError: there is none with that id.
        """
        message: dict[str, Any] = self._call("GET", f"/sandbox/messages/{quote(omnimessage_id, safe='')}")
        return message

    @property
    def requests(self) -> list[dict[str, Any]]:
        """Every API call that came in, in order; the latest 100,000."""
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
        """Demand that exactly one message like this is waiting for its time, and return it.

        :param to: its recipient; spaces, dashes, dots and brackets do not count. Default: anybody.
        :param at: its ``time_to_send``, a datetime or ISO 8601; UTC if it has no zone. Default: any.
        :param text: what the text of one of its channels contains; upper and lower case count. Default: any.
        :param channels: its channels, in the order in which they are tried, as ``["viber", "sms"]``. Default: any.
        :raises AssertionError: there is none, or more than one; it lists what is there.
        """
        __tracebackhide__ = True
        return assertions.one("scheduled", self.messages, self.requests, to=to, at=at, text=text, channels=channels)

    def assert_one_sent(
        self,
        *,
        to: str | None = None,
        at: datetime | str | None = None,
        text: str | None = None,
        channels: Sequence[str] | None = None,
    ) -> dict[str, Any]:
        """Demand that exactly one message like this has gone out, whatever became of it then, and return it.

        :param to: its recipient; spaces, dashes, dots and brackets do not count. Default: anybody.
        :param at: its ``time_to_send``, which a message that was sent at once has not; UTC if it has no zone.
            Default: any.
        :param text: what the text of one of its channels contains; upper and lower case count. Default: any.
        :param channels: its channels, in the order in which they are tried, as ``["viber", "sms"]``. Default: any.
        :raises AssertionError: there is none, or more than one; it lists what is there.
        """
        __tracebackhide__ = True
        return assertions.one("sent", self.messages, self.requests, to=to, at=at, text=text, channels=channels)

    def assert_one_cancelled(
        self,
        *,
        to: str | None = None,
        at: datetime | str | None = None,
        text: str | None = None,
        channels: Sequence[str] | None = None,
    ) -> dict[str, Any]:
        """Demand that exactly one message like this was scheduled and then cancelled, and return it.

        :param to: its recipient; spaces, dashes, dots and brackets do not count. Default: anybody.
        :param at: its ``time_to_send``, a datetime or ISO 8601; UTC if it has no zone. Default: any.
        :param text: what the text of one of its channels contains; upper and lower case count. Default: any.
        :param channels: its channels, in the order in which they are tried, as ``["viber", "sms"]``. Default: any.
        :raises AssertionError: there is none, or more than one; it lists what is there.
        """
        __tracebackhide__ = True
        return assertions.one("cancelled", self.messages, self.requests, to=to, at=at, text=text, channels=channels)

    def assert_nothing_scheduled(self) -> None:
        """Demand that no message is waiting for its time.

        :raises AssertionError: one is; it lists what is there.
        """
        __tracebackhide__ = True
        assertions.none("scheduled", self.messages, self.requests)

    def assert_nothing_sent(self) -> None:
        """Demand that no message has gone out. One that is still scheduled has not.

        :raises AssertionError: one has; it lists what is there.
        """
        __tracebackhide__ = True
        assertions.none("sent", self.messages, self.requests)

    @property
    def now(self) -> datetime:
        """The time on the sandbox's clock, UTC."""
        return _now(self._call("GET", "/sandbox/clock"))

    def advance(self, by: float | timedelta) -> datetime:
        """Move the clock on; what is due on the way has happened when this returns.

        :param by: seconds or a timedelta, not negative.
        :raises ValueError: it is negative or too far.
        """
        seconds = by.total_seconds() if isinstance(by, timedelta) else by
        return self._change_clock(advance=seconds)

    def set_time(self, moment: datetime) -> datetime:
        """Set the clock; what is due on the way there has happened when this returns, nothing is undone on a way back.

        :param moment: the new time; UTC if it has no zone.
        :raises ValueError: it is too far.
        """
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=timezone.utc)
        return self._change_clock(set=moment.isoformat())

    def advance_to_next_message(self) -> datetime:
        """Move the clock to the moment when the next scheduled message goes out; without one it stays."""
        return self._change_clock(to_next_message=True)

    def freeze(self) -> datetime:
        """Stop the clock; it can still be moved."""
        return self._change_clock(frozen=True)

    def resume(self) -> datetime:
        """Let the clock run again from the time it shows."""
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
        """Order a failure; each call meets at most one, in the order in which they were added.

        :param fault: ``rate_limited``, ``server_error``, ``unauthorized``, ``broken_json``, ``html``, ``redirect``,
            ``cut``, ``lost_answer`` or ``slow``.
        :param call: which calls it hits: ``send``, ``bulk``, ``cancel``, ``status`` or ``any``.
        :param method: an HTTP method, if only that one is to be hit; default: any.
        :param times: how many calls it hits, or ``always``.
        :param after: how many matching calls it lets pass first.
        :param status: the HTTP status of ``server_error`` (default 500) and ``redirect`` (default 307).
        :param retry_after: the ``Retry-After`` header of ``rate_limited`` and ``server_error``: seconds, a moment
            (written as an HTTP date), or any string as it is; default: no such header.
        :param html: ``server_error`` answers with a gateway's page instead of Messente's JSON.
        :param seconds: how long ``slow`` takes, in real time.
        :param location: where ``redirect`` leads, which cannot do without it (default: ``None``).
        :param processed: whether the call is carried out before it fails; by default only ``lost_answer`` and
            ``broken_json`` do. ``slow`` carries it out in any case: before it waits if True, else after.
        :raises ValueError: a value is wrong.
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

    @property
    def faults(self) -> list[dict[str, Any]]:
        """The failures on order; ``hits`` tells how many calls each has met."""
        faults: list[dict[str, Any]] = self._call("GET", "/sandbox/faults")
        return faults

    def clear_faults(self) -> None:
        """Let everything work again."""
        self._call("DELETE", "/sandbox/faults")

    def reset(self) -> None:
        """Be as new: no messages, no calls, no faults, and a clock that runs with real time."""
        self._call("DELETE", "/sandbox")

    def _change_clock(self, **change: Any) -> datetime:
        return _now(self._call("POST", "/sandbox/clock", change))

    def _call(self, method: str, path: str, value: Any = None) -> Any:
        credentials = base64.b64encode(f"{self.username}:{self.password}".encode()).decode()
        headers = {"Authorization": f"Basic {credentials}", "Content-Type": "application/json"}
        target = urlsplit(self.inbox_url)
        connection = http.client.HTTPConnection(target.hostname or "", target.port, timeout=PATIENCE)
        try:
            body = None if value is None else json.dumps(value)
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        if answer.status >= 400:
            raise ValueError(_detail(content, answer.status))
        return json.loads(content) if content else None


def _now(clock: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(clock["now"])


def _detail(content: bytes, status: int) -> str:
    try:
        return str(json.loads(content)["detail"])
    except (ValueError, KeyError, TypeError):
        return f"the sandbox answered {status}"
