"""Read and check the fields of an Airflow connection of type ``omnimessage``."""

from __future__ import annotations

import base64
import difflib
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import SplitResult, quote, urlsplit

from airflow_provider_omnimessage.api import fields, records
from airflow_provider_omnimessage.api.channels import sms_sender
from airflow_provider_omnimessage.api.errors import InvalidInputError
from airflow_provider_omnimessage.api.fields import Problems
from airflow_provider_omnimessage.api.timing import resolve_zone
from airflow_provider_omnimessage.api.windows import SendWindow

DEFAULT_BASE_URL = "https://api.messente.com/v1"
DEFAULT_PATH = "/v1"
_MESSENTES_HOST = "api.messente.com"
DEFAULT_TIMEOUT = 30.0
DEFAULT_DEADLINE = 120.0
#: Requests a second: what Messente allows from one IP address.
DEFAULT_RATE_LIMIT = 150.0
#: Seconds for opening a TCP connection, at most.
CONNECT_TIMEOUT = 10.0


class AirflowConnection(Protocol):
    """The part of Airflow's ``Connection`` that is read here."""

    conn_id: str
    host: str | None
    port: int | None
    schema: str | None
    login: str | None
    password: str | None
    extra: str | None

    @property
    def extra_dejson(self) -> Mapping[str, object]:
        """The connection's extra, as a dict."""


@dataclass(frozen=True)
class Settings:
    """
    The checked fields of a connection.

    :param base_url: without a slash at its end.
    :param username: API username.
    :param password: API password; never shown.
    :param sender: for messages without their own.
    :param timezone: of a ``time_to_send`` without an offset.
    :param read_window: of messages without their own; or what is wrong with it. See :attr:`window`.
    :param dlr_url: where delivery reports are posted; if the connection sets none, the receiver's address.
    :param text_store: how Messente keeps the text.
    :param priority: ``low``, ``regular`` or ``high``.
    :param timeout: seconds to wait for a response.
    :param deadline: seconds for a call, including its repeats and the pauses between them.
    :param rate_limit: requests a second that Messente allows; all calls of a process stay below it.
    :param dashboard_url: the page of a message, with ``{omnimessage_id}`` in place of its id.
    :param push_url: public base URL of the receiver.
    :param receiver_url: base URL under which triggers and tasks reach the receiver; default: ``push_url``.
    :param reply_secret: signs replies; shared with the number that receives them.
    """

    base_url: str
    username: str
    password: str = field(repr=False)
    sender: str | None = None
    timezone: str | None = None
    read_window: SendWindow | InvalidInputError | None = None
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

        :param connection: its host may be empty, a bare name, or the whole base URL.
        :raises InvalidInputError: with the connection, each invalid field and what would be accepted.
        """
        problems = Problems()
        extra = _known_extra(connection, problems)
        window = _read_window(extra.pop("window", None), f"connection '{connection.conn_id}', extra.window")
        checked = records.Record(_EXTRA)(extra, "extra", problems)
        for name, label in (("login", "API username"), ("password", "API password")):
            if not getattr(connection, name):
                problems.reject(name, f"is missing; set it to the {label}")
            else:
                fields.text()(getattr(connection, name), name, problems)
        base_url = _base_url(connection, problems)
        _point_at_receiver(checked, str(connection.conn_id), problems)
        if problems:
            raise InvalidInputError(
                [item._replace(field=f"connection '{connection.conn_id}', {item.field}") for item in problems]
            )
        return cls(base_url, str(connection.login), str(connection.password), read_window=window, **checked)

    @property
    def window(self) -> SendWindow | None:
        """The window of messages without their own. Alerts ignore it, so that a wrong one does not stop them.

        :raises InvalidInputError: if it is wrong, with the connection and what would be accepted.
        """
        if isinstance(self.read_window, InvalidInputError):
            raise InvalidInputError(self.read_window.problems)
        return self.read_window

    @property
    def is_loopback(self) -> bool:
        """Whether the base URL points at this machine."""
        return is_loopback_url(self.base_url)

    @property
    def authorization(self) -> str:
        """The header of Basic authentication, in UTF-8, as RFC 7617 requires."""
        return f"Basic {base64.b64encode(f'{self.username}:{self.password}'.encode()).decode('ascii')}"


def is_loopback_url(url: str) -> bool:
    """Return whether a valid URL points at this machine."""
    return _is_loopback(urlsplit(url).hostname or "")


def _known_extra(connection: AirflowConnection, problems: Problems) -> dict[str, object]:
    extra: object = connection.extra_dejson
    if connection.extra and not extra and str(connection.extra).strip() not in ("{}", "null"):
        extra = None  # Airflow reads broken JSON as an empty extra, which would silently drop the time zone
    if not isinstance(extra, Mapping):
        problems.reject("extra", 'is not a JSON object; use one such as {"sender": "ACME"}')
        return {}
    for name in set(extra) - _NAMES:
        # other fields are not this provider's: only what looks like a misspelt one is an error
        near = difflib.get_close_matches(str(name), _NAMES, n=1, cutoff=0.8)
        if near:
            problems.reject(f"extra.{name}", f"no such field; did you mean {near[0]}?")
    return {name: value for name, value in extra.items() if name in _NAMES and value not in (None, "")}


def _zone(value: object, path: str, problems: Problems) -> object:
    try:
        resolve_zone(str(value))
    except InvalidInputError as error:
        problems.reject(path, error.problems[0].reason)
    return value


def _sender(value: object, path: str, problems: Problems) -> object:
    found = Problems()
    sms_sender(value, path, found)
    other_channels = "; set a longer sender, such as one of Viber, in the message instead"
    problems.extend(item._replace(reason=f"{item.reason}{other_channels}") for item in found)
    return value


def _read_window(value: object, path: str) -> SendWindow | InvalidInputError | None:
    if value is None:
        return None
    try:
        return SendWindow.of(value)
    except InvalidInputError as error:
        return InvalidInputError(
            [item._replace(field=f"{path}{item.field.removeprefix('window')}") for item in error.problems]
        )


def _receiver_url(value: object, path: str, problems: Problems) -> object:
    found = len(problems)
    fields.url()(value, path, problems)
    if len(problems) > found or not isinstance(value, str):
        return value
    parts = urlsplit(value)
    if parts.query or parts.fragment or parts.username or parts.password:
        problems.reject(
            path, "has more than a host and a path; use a URL such as https://airflow.example.com/omnimessage"
        )
    return value.rstrip("/")


_EXTRA: dict[str, fields.Rule] = {
    "sender": _sender,
    "timezone": _zone,
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

_NAMES = {*_EXTRA, "window"}

#: Connection ids that the receiver's routes accept: all that Airflow accepts, except slashes.
_ROUTABLE_CONN_ID = re.compile(r"[\w#!()\-.:]{1,250}")


def _point_at_receiver(checked: dict[str, Any], conn_id: str, problems: Problems) -> None:
    """Set the fields that follow from ``push_url``."""
    push_url = checked.get("push_url")
    if not isinstance(push_url, str):
        return
    parts = urlsplit(push_url)
    if parts.scheme == "http" and not _is_loopback(parts.hostname or ""):
        problems.reject("extra.push_url", "would let Messente post recipients' numbers in clear; use an https:// URL")
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
        problems.reject("host", f"is not a base URL; leave it empty, or use one such as '{DEFAULT_BASE_URL}'")
        return ""
    if parts.username or parts.password:
        problems.reject("host", "contains credentials; set login and password instead")
        return ""
    if parts.scheme == "http" and not _is_loopback(name):
        problems.reject("host", f"http://{name} would send the password in clear; use an https:// URL")
        return ""
    # an Airflow URI keeps a path of one word in the schema field, where other providers keep a scheme
    word = str(connection.schema or "").strip("/")
    path = parts.path.rstrip("/") or (f"/{word}" if word not in ("", "http", "https") else DEFAULT_PATH)
    if parts.path == "/" and name != _MESSENTES_HOST:
        path = ""  # an explicit slash: the API is at the server's root
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
