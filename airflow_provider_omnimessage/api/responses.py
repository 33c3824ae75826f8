"""Read Messente's responses: results, errors in Messente's words, and what looks like a response but is not one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import NamedTuple, NoReturn
from urllib.parse import urlsplit

from airflow_provider_omnimessage.api.delivery import DeliveryReport
from airflow_provider_omnimessage.api.errors import (
    ApiError,
    AuthenticationError,
    NotFoundError,
    RateLimitedError,
    RejectedError,
    ServerError,
    UnexpectedResponseError,
)
from airflow_provider_omnimessage.api.masking import mask_numbers

_NOT_FOUND = "101"


@dataclass(frozen=True)
class Response:
    """
    A response over HTTP.

    :param headers: names in any case.
    :param body: as received, without its content encoding.
    :param at: when it was received, with a zone. A ``Retry-After`` that is a date counts from here.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    at: datetime | None = None

    def header(self, name: str) -> str | None:
        """Return a header by its name in lower case."""
        return next((value for key, value in self.headers.items() if key.lower() == name), None)

    @property
    def content_type(self) -> str:
        """The content type without its parameters."""
        return (self.header("content-type") or "no content type").split(";")[0].strip()

    @property
    def json(self) -> object:
        """The body as JSON; ``None`` if it is not JSON."""
        try:
            parsed: object = json.loads(self.body)
        except (ValueError, RecursionError):
            return None
        return parsed


class Accepted(NamedTuple):
    """
    A message that Messente has accepted, to send now or at its time.

    :param omnimessage_id: the id for its cancel and its delivery report.
    :param to: the recipient.
    :param message_ids: the id of each channel's message, by channel, in the order in which they are tried.
    """

    omnimessage_id: str
    to: str
    message_ids: dict[str, str]


class NotAccepted(NamedTuple):
    """
    One of many messages that Messente has not accepted.

    :param reason: in Messente's words.
    :param maybe_processed: whether it may have been accepted anyway: the response has neither an id nor an error.
    """

    reason: str
    maybe_processed: bool = False


def is_messentes_not_found(error: ApiError) -> bool:
    """Return whether an error is Messente's "no such message", and not the 404 of any other web server."""
    return isinstance(error, NotFoundError) and _NOT_FOUND in error.codes


def read_accepted(response: Response) -> Accepted:
    """Read the response to ``POST /omnimessage``."""
    body = _json_object(response, "send")
    omnimessage_id = body.get("omnimessage_id")
    if not isinstance(omnimessage_id, str) or not omnimessage_id:
        raise UnexpectedResponseError(
            f"send: the response is a success ({response.status}), but has no omnimessage_id; look for the message in "
            "Messente's dashboard",
            status_code=response.status,
        )
    return Accepted(omnimessage_id, str(body.get("to", "")), _message_ids(body))


def read_bulk(response: Response, count: int) -> list[Accepted | NotAccepted]:
    """
    Read the response to ``POST /omnimessages``.

    :param count: how many messages were posted.
    """
    entries = _json_object(response, "bulk send").get("messages")
    # with an entry more or less, it is unknown which entry belongs to which message
    if not isinstance(entries, list) or len(entries) != count:
        found = f"{len(entries):,} entries" if isinstance(entries, list) else "no entries"
        raise UnexpectedResponseError(
            f"bulk send: the response to {count:,} messages has {found}, so it is unknown which were accepted; check "
            "in Messente's dashboard",
            status_code=response.status,
        )
    return [_read_entry(entry) for entry in entries]


def read_cancelled(response: Response) -> None:
    """Check the response to ``DELETE /omnimessage/{omnimessage_id}``: an empty body or JSON."""
    # anything else comes from a proxy or a login portal
    if response.body.strip() and response.json is None and response.body.strip() != b"null":
        _raise_not_messentes(response, "cancel")


def read_delivery_report(response: Response, omnimessage_id: str) -> DeliveryReport:
    """
    Read the response to ``GET /omnimessage/{omnimessage_id}/status``.

    :param omnimessage_id: the requested id.
    """
    body = _json_object(response, "delivery report")
    reported_id = body.get("omnimessage_id", omnimessage_id)
    if reported_id != omnimessage_id:
        raise UnexpectedResponseError(
            f"delivery report: requested {omnimessage_id}, but received the report of another message "
            f"({str(reported_id)[:64]!r}); check for a cache or proxy between here and Messente",
            status_code=response.status,
        )
    return DeliveryReport.read({**body, "omnimessage_id": omnimessage_id})


def require_no_errors(response: Response, call: str) -> None:
    """
    Check that a response with status 2xx reports no errors.

    :param call: the name of the call, for the error.
    :raises UnexpectedResponseError: if it does.
    """
    # nearly no response has any, and a large one takes time to parse
    body = response.json if b'"errors"' in response.body else None
    errors = body.get("errors") if isinstance(body, dict) else None
    if errors:
        raise UnexpectedResponseError(
            f"{call}: the response contradicts itself: status {response.status}, but with errors "
            f"({_reasons(errors) or 'no reason given'}); check in Messente's dashboard whether it was carried out",
            status_code=response.status,
            codes=_codes(errors),
        )


def error_of(response: Response, call: str) -> ApiError:
    """
    Return the error for a response whose status is not 2xx, in Messente's words if there are any.

    :param call: the name of the call.
    """
    status, body = response.status, response.json
    errors = _dicts(body.get("errors")) if isinstance(body, dict) else []
    codes, reasons = _codes(errors), _reasons(errors) or f"{response.content_type}, no reason given"
    if 300 <= status < 400:
        return UnexpectedResponseError(
            f"{call}: responded {status}, a redirect to {_redirect_host(response)}, which is not followed; check the "
            "connection's host, the base URL",
            status_code=status,
            codes=codes,
            maybe_processed=False,
        )
    if status in (401, 403):
        return AuthenticationError(
            f"{call}: Messente rejected the credentials ({status}: {reasons}); check the connection's login and "
            "password (API username and API password), and whether the account allows this IP address",
            status_code=status,
            codes=codes,
        )
    if status == 404 and not errors:
        # any web server responds 404 to a wrong path: to read it as "already sent" would leave an alert scheduled
        return UnexpectedResponseError(
            f"{call}: responded 404, but not as Messente does ({reasons}); check the connection's host, the base URL",
            status_code=status,
            maybe_processed=False,
        )
    if status == 404:
        return NotFoundError(
            f"{call}: {status}: {reasons}; check the id, and whether this connection's account sent the message",
            status_code=status,
            codes=codes,
        )
    if status == 429:
        retry_after = retry_after_seconds(response.header("retry-after"), response.at)
        message = f"{call}: rate limited by Messente (429: {reasons})"
        return RateLimitedError(message, status_code=status, codes=codes, retry_after=retry_after)
    if 400 <= status < 500:
        message = f"{call}: Messente rejected the request ({status}: {reasons})"
        return RejectedError(message, status_code=status, codes=codes)
    if status >= 500:
        retry_after = retry_after_seconds(response.header("retry-after"), response.at)
        message = f"{call}: server error ({status}: {reasons})"
        return ServerError(message, status_code=status, codes=codes, retry_after=retry_after)
    return UnexpectedResponseError(f"{call}: unexpected status {status}", status_code=status, codes=codes)


def retry_after_seconds(value: str | None, now: datetime | None) -> float | None:
    """
    Return the seconds that a ``Retry-After`` header asks to wait, 0 or more; ``None`` if it cannot be read.

    :param value: seconds, or an HTTP date.
    :param now: when the response was received, with a zone; ``None``: a date is ignored.
    """
    text = (value or "").strip()
    if text.isascii() and text.isdigit() and len(text) <= 6:
        return float(text)
    try:
        time = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if now is None:
        return None
    if time.tzinfo is None:
        time = time.replace(tzinfo=timezone.utc)
    return max(0.0, (time - now).total_seconds())


def _read_entry(entry: object) -> Accepted | NotAccepted:
    if not isinstance(entry, dict):
        return NotAccepted("Messente's response for it cannot be read", maybe_processed=True)
    omnimessage_id = entry.get("omnimessage_id")
    has_id = isinstance(omnimessage_id, str) and bool(omnimessage_id)
    if has_id and not entry.get("errors"):
        return Accepted(str(omnimessage_id), str(entry.get("to", "")), _message_ids(entry))
    errors = _dicts(entry.get("errors"))
    if has_id:
        reasons = _reasons(errors) or "no reason given"
        return NotAccepted(f"its response holds both an omnimessage_id and errors ({reasons})", maybe_processed=True)
    if not errors:
        return NotAccepted("Messente's response for it has neither an id nor an error", maybe_processed=True)
    return NotAccepted(_reasons(errors) or "no reason given")


def _message_ids(body: Mapping[str, object]) -> dict[str, str]:
    entries = ((entry.get("channel"), entry.get("message_id")) for entry in _dicts(body.get("messages")))
    return {channel: str(message_id) for channel, message_id in entries if isinstance(channel, str)}


def _json_object(response: Response, call: str) -> dict[str, object]:
    body = response.json
    if not isinstance(body, dict):
        _raise_not_messentes(response, call)
    return body


def _raise_not_messentes(response: Response, call: str) -> NoReturn:
    raise UnexpectedResponseError(
        f"{call}: the response ({response.status}) is not Messente's JSON, but {response.content_type} of "
        f"{len(response.body):,} bytes; check the connection's host, and the proxy",
        status_code=response.status,
    )


def _dicts(value: object) -> list[dict[str, object]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _codes(errors: object) -> list[str]:
    return [str(error.get("code")) for error in _dicts(errors)]


def _reasons(errors: object) -> str:
    return "; ".join(filter(None, map(_reason, _dicts(errors))))


def _reason(error: Mapping[str, object]) -> str:
    title, detail, source = (error.get(key) for key in ("title", "detail", "source"))
    words = ": ".join(str(part) for part in (title, detail) if part)
    words = mask_numbers(words if len(words) <= 300 else f"{words[:299]}…")
    return f"{words} [{str(source)[:60]}]" if source else words


def _redirect_host(response: Response) -> str:
    try:
        return urlsplit(response.header("location") or "").hostname or "nowhere"
    except ValueError:
        return "nowhere"
