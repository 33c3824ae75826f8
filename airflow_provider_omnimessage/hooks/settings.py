"""What an Airflow connection of type ``omnimessage`` says, read and checked once."""

from __future__ import annotations

import base64
import difflib
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import SplitResult, quote, urlsplit

from airflow_provider_omnimessage.api import fields
from airflow_provider_omnimessage.api.errors import InvalidInputError
from airflow_provider_omnimessage.api.fields import Problems
from airflow_provider_omnimessage.api.timing import resolve_zone
from airflow_provider_omnimessage.api.windows import SendWindow

DEFAULT_BASE_URL = "https://api.messente.com/v1"
DEFAULT_PATH = "/v1"
DEFAULT_TIMEOUT = 30.0
DEFAULT_DEADLINE = 120.0
#: Requests a second: what Messente allows an address.
DEFAULT_RATE_LIMIT = 150.0
#: Seconds for making a connection, at most.
CONNECT_TIMEOUT = 10.0


class AirflowConnection(Protocol):
    """The part of Airflow's ``Connection`` that is read here."""

    conn_id: Any
    host: Any
    port: Any
    schema: Any
    login: Any
    password: Any
    extra: Any

    @property
    def extra_dejson(self) -> Any:
        """The connection's extra, as a dict."""


@dataclass(frozen=True)
class Settings:
    """
    What a connection says.

    :param base_url: without a slash at its end.
    :param username: API username.
    :param password: API password; never shown.
    :param sender: for messages that name none.
    :param timezone: in which a ``time_to_send`` without an offset is meant.
    :param window: in which messages are sent that set no window; alerts ignore it unless asked.
    :param dlr_url: where delivery reports are posted; if the connection sets none, the receiver's address.
    :param text_store: how Messente keeps the text.
    :param priority: ``low``, ``regular`` or ``high``.
    :param timeout: seconds to wait for an answer.
    :param deadline: seconds that a call may take in all, its repeats and the pauses between them included.
    :param rate_limit: requests a second that Messente allows; all calls of a process stay below it.
    :param dashboard_url: where a person looks at a message, with ``{omnimessage_id}`` in the place of its id.
    :param push_url: public base URL of the receiver.
    :param receiver_url: base URL under which triggers and tasks reach the receiver; default: ``push_url``.
    :param reply_secret: signs replies; shared with the number that receives them.
    """

    base_url: str
    username: str
    password: str = field(repr=False)
    sender: str | None = None
    timezone: str | None = None
    window: SendWindow | None = None
    dlr_url: str | None = None
    text_store: str | None = None
    priority: str | None = None
    timeout: float = DEFAULT_TIMEOUT
    deadline: float = DEFAULT_DEADLINE
    rate_limit: float = DEFAULT_RATE_LIMIT
    dashboard_url: str | None = None
    push_url: str | None = None
    receiver_url: str | None = None
    reply_secret: str | None = field(default=None, repr=False)

    @classmethod
    def read(cls, connection: AirflowConnection) -> Settings:
        """
        Read an Airflow connection: login, password, host (base URL) and extra.

        :param connection: of type ``omnimessage``. Its host may be left out, be a bare name, or the whole base URL.
        :raises InvalidInputError: names the connection, each refused field and what would be accepted.
        """
        problems = Problems()
        checked = fields.record(_EXTRA)(_given_extra(connection, problems), "extra", problems)
        for name, label in (("login", "API username"), ("password", "API password")):
            if not getattr(connection, name):
                problems.reject(name, f"is missing; give the {label}")
            else:
                fields.text()(getattr(connection, name), name, problems)
        base_url = _base_url(connection, problems)
        _point_at_receiver(checked, str(connection.conn_id), problems)
        if problems:
            raise InvalidInputError(
                [item._replace(field=f"connection '{connection.conn_id}', {item.field}") for item in problems]
            )
        return cls(base_url, str(connection.login), str(connection.password), **checked)

    @property
    def is_loopback(self) -> bool:
        """Whether the base URL points at this machine."""
        return is_loopback_url(self.base_url)

    @property
    def authorization(self) -> str:
        """The header of Basic authentication, in UTF-8, as RFC 7617 has it."""
        return f"Basic {base64.b64encode(f'{self.username}:{self.password}'.encode()).decode('ascii')}"


def is_loopback_url(url: str) -> bool:
    """
    Return whether a URL points at this machine.

    :param url: a valid one.
    """
    return _is_loopback(urlsplit(url).hostname or "")


def _given_extra(connection: AirflowConnection, problems: Problems) -> dict[str, Any]:
    extra = connection.extra_dejson
    if connection.extra and not extra and str(connection.extra).strip() not in ("{}", "null"):
        extra = None  # Airflow reads broken JSON as nothing, which would drop the time zone without a word
    if not isinstance(extra, Mapping):
        problems.reject("extra", 'is not a JSON object; give one as {"sender": "ACME"}')
        return {}
    for name in set(extra) - set(_EXTRA):
        near = difflib.get_close_matches(str(name), _EXTRA, n=1, cutoff=0.8)
        if near:
            problems.reject(f"extra.{name}", f"no such field; did you mean {near[0]}?")
    return {name: value for name, value in extra.items() if name in _EXTRA and value not in (None, "")}


def _zone(value: Any, path: str, problems: Problems) -> Any:
    try:
        resolve_zone(str(value))
    except InvalidInputError as error:
        problems.reject(path, error.problems[0].reason)
    return value


def _window(value: Any, path: str, problems: Problems) -> Any:
    try:
        return SendWindow.of(value)
    except InvalidInputError as error:
        for problem in error.problems:
            problems.reject(f"{path}{problem.field.removeprefix('window')}", problem.reason)
        return value


def _receiver_url(value: Any, path: str, problems: Problems) -> Any:
    found = len(problems)
    fields.url()(value, path, problems)
    if len(problems) > found:
        return value
    parts = urlsplit(value)
    if parts.query or parts.fragment or parts.username or parts.password:
        problems.reject(
            path, "has more than a host and a path; use a URL such as https://airflow.example.com/omnimessage"
        )
    return value.rstrip("/")


_EXTRA: dict[str, fields.Rule] = {
    "sender": fields.text(),
    "timezone": _zone,
    "window": _window,
    "dlr_url": fields.url(),
    "text_store": fields.choice("plaintext", "sha256", "nostore"),
    "priority": fields.choice("low", "regular", "high"),
    "timeout": fields.positive_number(most=3600, unit="seconds"),
    "deadline": fields.positive_number(most=3600, unit="seconds"),
    "rate_limit": fields.positive_number(most=100_000, unit="requests a second"),
    "dashboard_url": fields.url(),
    "push_url": _receiver_url,
    "receiver_url": _receiver_url,
    "reply_secret": fields.text(),
}

#: What the receiver's routes accept as a connection id: what Airflow does, without slashes.
_ROUTABLE_CONN_ID = re.compile(r"[\w#!()\-.:]{1,250}")


def _point_at_receiver(checked: dict[str, Any], conn_id: str, problems: Problems) -> None:
    """Fill in what follows from ``push_url``."""
    push_url = checked.get("push_url")
    if not isinstance(push_url, str):
        return
    parts = urlsplit(push_url)
    if parts.scheme == "http" and not _is_loopback(parts.hostname or ""):
        problems.reject("extra.push_url", "would have recipients' numbers posted in clear; use an https:// URL")
    if not _ROUTABLE_CONN_ID.fullmatch(conn_id):
        problems.reject(
            "extra.push_url", "needs a connection id without slashes; rename the connection, or set dlr_url instead"
        )
    checked.setdefault("dlr_url", f"{push_url}/v1/reports/{quote(conn_id, safe='')}")
    checked.setdefault("receiver_url", push_url)


def _base_url(connection: AirflowConnection, problems: Problems) -> str:
    host = str(connection.host or "").strip()
    if not host:
        return DEFAULT_BASE_URL
    try:
        parts = urlsplit(host if "://" in host else f"https://{host}")
        port = int(parts.port or connection.port or 0)
    except ValueError:
        parts, port = SplitResult("", "", "", "", ""), 0
    name = parts.hostname or ""
    if parts.scheme not in ("http", "https") or not _is_host_name(name) or parts.query or parts.fragment:
        problems.reject("host", f"is not a base URL; leave it out, or give one as '{DEFAULT_BASE_URL}'")
        return ""
    if parts.username or parts.password:
        problems.reject("host", "holds credentials; give them as login and password")
        return ""
    if parts.scheme == "http" and not _is_loopback(name):
        problems.reject("host", f"http://{name} would send the password in clear; give an https:// URL")
        return ""
    # An Airflow URI keeps a path of one word in the schema field, and other providers a scheme.
    word = str(connection.schema or "").strip("/")
    path = parts.path.rstrip("/") or (f"/{word}" if word not in ("", "http", "https") else DEFAULT_PATH)
    shown = f"[{name}]" if ":" in name else name
    return f"{parts.scheme}://{shown}{f':{port}' if port else ''}{path}"


def _is_host_name(name: str) -> bool:
    if name in ("http", "https"):
        return False
    try:
        ipaddress.ip_address(name)
        return True
    except ValueError:
        return len(name) <= 253 and all(map(re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)").fullmatch, name.split(".")))


def _is_loopback(name: str) -> bool:
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
