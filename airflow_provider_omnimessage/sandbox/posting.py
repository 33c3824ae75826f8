"""Signs what Messente posts to its users, and posts it: by default only to this machine."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import http.client
import ipaddress
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple
from urllib.parse import urlsplit

TIMEOUT: Final = 5.0
PARALLEL_POSTS: Final = 8
NOT_LOCAL: Final = (
    "rejected: not an address of this machine; to post to others, start the sandbox with --allow-remote-callbacks"
)


class PostResult(NamedTuple):
    """The HTTP status of the response, if there was one, and why the post does not count as received."""

    response: int | None
    problem: str | None


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine, without a DNS lookup.

    :param host: a name or an IP address.
    """
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def sign(body: bytes, key: str) -> str:
    """Compute ``X-Messente-Signature``: HMAC-SHA256 of the raw body in lower-case hex."""
    return hmac.new(key.encode(), body, hashlib.sha256).hexdigest()


def post(url: str, body: bytes, signature: str) -> int:
    """Post JSON and return the HTTP status. Redirects are not followed.

    :param url: where to post it.
    :param body: the raw body.
    :param signature: the value of ``X-Messente-Signature``.
    :raises OSError: no connection, or no response in time.
    :raises http.client.HTTPException: the response is not HTTP.
    :raises ValueError: the URL cannot be used.
    """
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=TIMEOUT)
    try:
        connection.request(
            "POST",
            (parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
            body,
            {
                "Content-Type": "application/json",
                "User-Agent": "messente-sandbox",
                "X-Messente-Signature": signature,
            },
        )
        return connection.getresponse().status
    finally:
        connection.close()


class SignedPoster:
    """Posts signed JSON in threads.

    :param allow_remote: whether to post to other machines.
    """

    def __init__(self, *, allow_remote: bool) -> None:
        self._allow_remote = allow_remote
        self._threads = ThreadPoolExecutor(PARALLEL_POSTS, thread_name_prefix="sandbox-post")

    async def post(self, url: str, body: bytes, signature: str) -> PostResult:
        """Post once. A status from 200 to 399 counts as received."""
        try:
            if not self._allow_remote and not is_loopback(urlsplit(url).hostname or ""):
                return PostResult(None, NOT_LOCAL)
            loop = asyncio.get_running_loop()
            status = await loop.run_in_executor(self._threads, post, url, body, signature)
        except (OSError, http.client.HTTPException, ValueError) as error:
            return PostResult(None, str(error) or type(error).__name__)
        return PostResult(status, None if 200 <= status <= 399 else f"the response was {status}")

    def close(self) -> None:
        """Stop: no post begins after this."""
        self._threads.shutdown(wait=False, cancel_futures=True)
