"""Each call of the API as data: how to ask, and how to read the response. Whoever has a transport can make them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import Any, Generic, NamedTuple, TypeVar
from urllib.parse import urlsplit

from airflow_provider_omnimessage.api.delivery import DeliveryReport
from airflow_provider_omnimessage.api.errors import (
    ApiError,
    AuthenticationError,
    InvalidInputError,
    NotFoundError,
    RateLimitedError,
    RejectedError,
    ServerError,
    UnexpectedResponseError,
)
from airflow_provider_omnimessage.api.fields import describe
from airflow_provider_omnimessage.api.masking import mask_numbers

T = TypeVar("T")

#: An id that no message has: asking for it checks the credentials and disturbs nobody.
NOBODYS_ID = "00000000-0000-0000-0000-000000000000"

_NOT_FOUND = "101"


@dataclass(frozen=True)
class Response:
    """
    What came back over HTTP.

    :param status: the status code.
    :param headers: the headers; names in any case.
    :param body: the raw body.
    :param at: when it came, with a zone: what a ``Retry-After`` that is a date is counted from.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    at: datetime | None = None


@dataclass(frozen=True)
class Call(Generic[T]):
    """
    One call of the API.

    :param name: what it is called in logs and errors.
    :param method: the HTTP method.
    :param path: below the base URL.
    :param read: makes the result of a successful response.
    :param body: what is sent as JSON, if anything: plain data, or JSON already.
    """

    name: str
    method: str
    path: str
    read: Callable[[Response], T]
    body: Mapping[str, Any] | bytes | None = None

    @cached_property
    def content(self) -> bytes | None:
        """What is sent, as it goes over the wire."""
        return json.dumps(self.body).encode() if isinstance(self.body, Mapping) else self.body

    def result(self, response: Response) -> T:
        """
        Read the answer to this call.

        :param response: what came back.
        :raises ApiError: the kind that fits the status, in Messente's words where it used any.
        """
        if not 200 <= response.status < 300:
            raise _error(self, response)
        _require_no_errors(self, response)
        return self.read(response)


class Accepted(NamedTuple):
    """
    Messente's answer to a message that it has accepted, to send now or at its time.

    :param omnimessage_id: under which it is cancelled and followed.
    :param to: the recipient.
    :param message_ids: the id of each channel's message, by channel, in the order in which they are tried.
    """

    omnimessage_id: str
    to: str
    message_ids: dict[str, str]


@dataclass(frozen=True)
class NotAccepted:
    """
    Messente's answer to one of many messages that it has not accepted.

    :param reason: in its words.
    :param maybe_processed: whether it may have been accepted all the same: the answer names neither an id nor an error.
    """

    reason: str
    maybe_processed: bool = False


def send(omnimessage: Mapping[str, Any]) -> Call[Accepted]:
    """
    ``POST /omnimessage``: send or schedule one message.

    :param omnimessage: as :func:`~airflow_provider_omnimessage.api.messages.omnimessage` builds it.
    """
    return Call("send", "POST", "/omnimessage", _read_accepted, body=omnimessage)


def send_bulk(omnimessages: Sequence[Mapping[str, Any] | bytes]) -> Call[list[Accepted | NotAccepted]]:
    """
    ``POST /omnimessages``: send or schedule many messages, each of which is accepted or refused for itself.

    Its result has an entry for each message, in their order.

    :param omnimessages: at least one and at most 1,000, as
        :func:`~airflow_provider_omnimessage.api.messages.omnimessage` builds them, or their JSON.
    """
    written = [each if isinstance(each, bytes) else json.dumps(each).encode() for each in omnimessages]
    count = len(written)
    body = b'{"messages": [%s]}' % b", ".join(written)
    return Call("bulk send", "POST", "/omnimessages", lambda response: _read_bulk(response, count), body=body)


def cancel(omnimessage_id: str) -> Call[None]:
    """
    ``DELETE /omnimessage/{omnimessage_id}``: cancel a message that is still scheduled.

    :param omnimessage_id: as the answer to its sending named it.
    :raises InvalidInputError: where that cannot be an id.
    """
    return Call("cancel", "DELETE", f"/omnimessage/{checked_id(omnimessage_id)}", _read_cancelled)


def delivery_report(omnimessage_id: str) -> Call[DeliveryReport]:
    """
    ``GET /omnimessage/{omnimessage_id}/status``: how far a message has come on each channel.

    :param omnimessage_id: as the answer to its sending named it.
    :raises InvalidInputError: where that cannot be an id.
    """
    path = f"/omnimessage/{checked_id(omnimessage_id)}/status"
    return Call("delivery report", "GET", path, lambda response: _read_delivery_report(response, omnimessage_id))


def credentials_check() -> Call[None]:
    """
    Ask for the report of a message that nobody has: harmless, and answered only to who may ask.

    Its result is ``None`` where the credentials work, which Messente says with its own 404.
    """

    def read(_response: Response) -> None:
        return None

    return Call("credentials check", "GET", f"/omnimessage/{NOBODYS_ID}/status", read)


def is_messentes_not_found(error: ApiError) -> bool:
    """
    Tell Messente's 'no such message' from any web server's 404.

    :param error: what a call raised.
    """
    return isinstance(error, NotFoundError) and _NOT_FOUND in error.codes


def checked_id(omnimessage_id: object) -> str:
    """
    Accept what can be an omnimessage id, and so be part of a path.

    :param omnimessage_id: letters, digits, ``-`` and ``_``, at most 64 of them.
    :raises InvalidInputError: for anything else.
    """
    if isinstance(omnimessage_id, str) and re.fullmatch(r"[A-Za-z0-9_-]{1,64}", omnimessage_id):
        return omnimessage_id
    shown = repr(omnimessage_id) if isinstance(omnimessage_id, str) else describe(omnimessage_id)
    hint = ""
    if isinstance(omnimessage_id, str) and omnimessage_id.lstrip().startswith(("[", "{")):
        hint = "; a template renders a list as text: pass the task's output instead"
    raise InvalidInputError.of(
        "omnimessage_id",
        f"{shown if len(shown) <= 60 else shown[:59] + '…'} is not an id; give what the schedule task returned{hint}",
    )


def retry_after_seconds(value: str | None, now: datetime | None) -> float | None:
    """
    Read a ``Retry-After`` header.

    :param value: seconds, or an HTTP date.
    :param now: when the answer came, with a zone; without it, a date says nothing.
    :return: seconds to wait, not negative; ``None`` where it is absent or unreadable.
    """
    text = (value or "").strip()
    if text.isascii() and text.isdigit() and len(text) <= 6:
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if now is None:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return max(0.0, (moment - now).total_seconds())


def checked_ids(given: object) -> list[tuple[int, str]]:
    """
    Accept one id or many, and leave out the gaps that skipped tasks leave.

    :param given: an id, ``None``, or many of both, as a mapped task's output is. An id that comes twice counts once.
    :return: each id with its position in what was given.
    :raises InvalidInputError: for what cannot be an id.
    """
    found: dict[str, int] = {}
    for position, item in enumerate(as_list(given)):
        # a template renders None as text
        if item is not None and item not in ("None", ""):
            found.setdefault(checked_id(item), position)
    return [(position, omnimessage_id) for omnimessage_id, position in found.items()]


def as_list(given: object) -> list[Any]:
    """
    Make a list of one or many.

    :param given: a single value, or anything that can be gone through but a text.
    :raises InvalidInputError: for a dict, whose keys would be taken for ids.
    """
    if isinstance(given, Mapping):
        raise InvalidInputError.of("omnimessage_id", "a dict is not an id; give the id that it holds")
    if isinstance(given, Sequence) and not isinstance(given, str):
        # of a mapped task's XComs, a slice fetches all at once; iterating asks for them one by one
        return list(given[:])
    if isinstance(given, Iterable) and not isinstance(given, str):
        return list(given)
    return [given]


def _read_accepted(response: Response) -> Accepted:
    body = _json_object(response, "send")
    omnimessage_id = body.get("omnimessage_id")
    if not isinstance(omnimessage_id, str) or not omnimessage_id:
        raise UnexpectedResponseError(
            "Messente accepted the message, but its answer names no omnimessage_id", status_code=response.status
        )
    return Accepted(omnimessage_id, str(body.get("to", "")), _message_ids(body))


def _message_ids(body: Mapping[str, Any]) -> dict[str, str]:
    return {
        entry["channel"]: str(entry.get("message_id"))
        for entry in _as_entries(body.get("messages"))
        if isinstance(entry, dict) and isinstance(entry.get("channel"), str)
    }


def _read_bulk(response: Response, count: int) -> list[Accepted | NotAccepted]:
    entries = _json_object(response, "bulk send").get("messages")
    # a row more or less, and nobody knows which answer belongs to which message
    if not isinstance(entries, list) or len(entries) != count:
        found = f"{len(entries):,} entries" if isinstance(entries, list) else "no entries"
        raise UnexpectedResponseError(
            f"Messente answered {count:,} messages with {found}, so nobody can tell which were accepted",
            status_code=response.status,
        )
    return [_read_entry(entry) for entry in entries]


def _read_entry(entry: object) -> Accepted | NotAccepted:
    if not isinstance(entry, dict):
        return NotAccepted("Messente's answer for it cannot be read", maybe_processed=True)
    omnimessage_id = entry.get("omnimessage_id")
    has_id = isinstance(omnimessage_id, str) and bool(omnimessage_id)
    if has_id and not entry.get("errors"):
        return Accepted(str(omnimessage_id), str(entry.get("to", "")), _message_ids(entry))
    errors = _dicts(entry.get("errors"))
    if has_id:
        reason = "; ".join(filter(None, map(_words, errors))) or "no reason"
        return NotAccepted(f"its response holds both an omnimessage_id and errors ({reason})", maybe_processed=True)
    if not errors:
        return NotAccepted("Messente's answer for it names neither an id nor an error", maybe_processed=True)
    return NotAccepted("; ".join(filter(None, map(_words, errors))) or "no reason given")


def _read_cancelled(response: Response) -> None:
    # Messente sends an empty body or JSON. Anything else comes from a proxy or a login portal in its place.
    if response.body.strip() and not _is_json(response.body):
        raise UnexpectedResponseError(
            f"The answer to 'cancel' was {response.status}, but not Messente's: {_content_type(response)} of "
            f"{len(response.body):,} bytes",
            status_code=response.status,
        )


def _read_delivery_report(response: Response, omnimessage_id: str) -> DeliveryReport:
    body = _json_object(response, "delivery report")
    reported_id = body.get("omnimessage_id", omnimessage_id)
    if reported_id != omnimessage_id:
        raise UnexpectedResponseError(
            f"delivery report: requested {omnimessage_id}, but received the report of another message "
            f"({str(reported_id)[:64]!r}); check for a cache or proxy between here and Messente",
            status_code=response.status,
        )
    return DeliveryReport.read({**body, "omnimessage_id": omnimessage_id})


def _require_no_errors(call: Call[Any], response: Response) -> None:
    # nearly no response has any, and a large one takes time to parse
    body = _json(response) if b'"errors"' in response.body else None
    errors = body.get("errors") if isinstance(body, dict) else None
    if errors:
        said = "; ".join(filter(None, map(_words, _dicts(errors)))) or "no reason given"
        raise UnexpectedResponseError(
            f"{call.name}: the response contradicts itself: status {response.status}, but with errors ({said}); check "
            "in Messente's dashboard whether it was carried out",
            status_code=response.status,
            codes=[str(error.get("code")) for error in _dicts(errors)],
        )


def _json_object(response: Response, call: str) -> dict[str, Any]:
    body = _json(response)
    if isinstance(body, dict):
        return body
    raise UnexpectedResponseError(
        f"The answer to '{call}' was {response.status}, but not Messente's JSON: {_content_type(response)} of "
        f"{len(response.body):,} bytes",
        status_code=response.status,
    )


def _json(response: Response) -> Any:
    try:
        return json.loads(response.body)
    except (ValueError, RecursionError):
        return None


def _is_json(body: bytes) -> bool:
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return False
    return True


def _as_entries(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _dicts(value: object) -> list[dict[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _header(response: Response, name: str) -> str | None:
    return next((value for key, value in response.headers.items() if key.lower() == name), None)


def _content_type(response: Response) -> str:
    return (_header(response, "content-type") or "no content type").split(";")[0].strip()


def _error(call: Call[Any], response: Response) -> ApiError:
    status = response.status
    body = _json(response)
    errors = _dicts(body.get("errors")) if isinstance(body, dict) else []
    codes = [str(error.get("code")) for error in errors]
    retry_after = retry_after_seconds(_header(response, "retry-after"), response.at)
    said = "; ".join(filter(None, map(_words, errors))) or f"{_content_type(response)}, no reason given"
    if 300 <= status < 400:
        host = _redirect_host(response)
        return UnexpectedResponseError(
            f"{call.name}: answered {status}, a redirect to {host}, which is not followed; "
            "check the connection's host, the base URL",
            status_code=status,
            codes=codes,
            maybe_processed=False,
        )
    if status in (401, 403):
        return AuthenticationError(
            f"{call.name}: Messente refused the credentials ({status}: {said}); check the connection's login and "
            "password (API username and API password), and whether the account lets this IP address in",
            status_code=status,
            codes=codes,
        )
    if status == 404 and not errors:
        # any web server says 404 to a wrong path: to take that for 'sent already' would leave an alert scheduled
        return UnexpectedResponseError(
            f"{call.name}: answered 404, but not as Messente does ({said}); check the connection's host, the base URL",
            status_code=status,
            maybe_processed=False,
        )
    if status == 404:
        return NotFoundError(
            f"{call.name}: {status}: {said}; check the id, and whether it is this connection's account that sent it",
            status_code=status,
            codes=codes,
        )
    if status == 429:
        return RateLimitedError(
            f"{call.name}: Messente asks to slow down (429: {said})",
            status_code=status,
            codes=codes,
            retry_after=retry_after,
        )
    if 400 <= status < 500:
        return RejectedError(
            f"{call.name}: Messente refused the request ({status}: {said})", status_code=status, codes=codes
        )
    if status >= 500:
        return ServerError(
            f"{call.name}: server error ({status}: {said})", status_code=status, codes=codes, retry_after=retry_after
        )
    return UnexpectedResponseError(f"{call.name}: unexpected answer {status}", status_code=status, codes=codes)


def _words(error: Mapping[str, Any]) -> str:
    title, detail, source = (error.get(key) for key in ("title", "detail", "source"))
    words = ": ".join(str(part) for part in (title, detail) if part)
    words = mask_numbers(words if len(words) <= 300 else f"{words[:299]}…")
    return f"{words} [{str(source)[:60]}]" if source else words


def _redirect_host(response: Response) -> str:
    try:
        return urlsplit(_header(response, "location") or "").hostname or "nowhere"
    except ValueError:
        return "nowhere"
