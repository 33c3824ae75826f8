"""Signatures: those of Messente, and those of this package's own requests to the receiver."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from urllib.parse import parse_qsl, urlencode

#: Messente's header: the lower-case hex HMAC-SHA256 of the raw body.
MESSENTE_HEADER = "X-Messente-Signature"
#: The header of this package's own requests: ``<Unix time>:<hex HMAC-SHA256>``.
REQUEST_HEADER = "X-Omnimessage-Signature"
#: Seconds by which the clocks of client and receiver may differ.
TOLERANCE = 300

_PURPOSE = "omnimessage-request-v1"


def sign_body(body: bytes, secret: str) -> str:
    """Return the signature that Messente sends with a body."""
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def body_is_signed(body: bytes, signature: str, secret: str) -> bool:
    """Return whether the signature of a body is Messente's. Runs in constant time."""
    return hmac.compare_digest(sign_body(body, secret).encode(), signature.encode("utf-8", "replace"))


def sign_request(secret: str, *, method: str, path: str, query: Iterable[tuple[str, str]], body: bytes, at: int) -> str:
    """Return the value of the header that authenticates one request to the receiver.

    :param secret: the connection's API password.
    :param path: decoded, from ``/v1`` on: the part before it depends on where the receiver is mounted.
    :param query: names and values, decoded.
    :param at: Unix time.
    """
    query_string = urlencode(sorted(query))
    lines = (_PURPOSE, str(at), method.upper(), path, query_string, hashlib.sha256(body).hexdigest())
    return f"{at}:{hmac.new(secret.encode(), chr(10).join(lines).encode(), hashlib.sha256).hexdigest()}"


def request_is_signed(
    header: str, secret: str, *, method: str, path: str, query_string: str, body: bytes, now: float
) -> bool:
    """Return whether a request is authentic and recent. Runs in constant time.

    :param header: the value of :data:`REQUEST_HEADER`; empty if it is missing.
    :param query_string: as received.
    :param now: Unix time.
    """
    stamp = header.partition(":")[0]
    at = int(stamp) if stamp.isascii() and stamp.isdigit() and len(stamp) <= 12 else 0
    query = parse_qsl(query_string, keep_blank_values=True)
    expected = sign_request(secret, method=method, path=path, query=query, body=body, at=at)
    is_authentic = hmac.compare_digest(expected.encode(), header.encode("utf-8", "replace"))
    return is_authentic and abs(now - at) <= TOLERANCE
