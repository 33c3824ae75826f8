"""Keeps web pages and other machines from controlling the sandbox: on this machine, that needs no credentials."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from airflow_provider_omnimessage.sandbox.posting import is_loopback


def host_of(authority: str) -> str:
    """Return the host of a ``Host`` header, such as ``127.0.0.1:8025`` or ``[::1]:8025``."""
    try:
        return (urlsplit(f"//{authority}").hostname or "").lower()
    except ValueError:
        return ""


def rejection_reason(method: str, headers: Iterable[tuple[bytes, bytes]], own_hosts: Iterable[str]) -> str | None:
    """Return why a control call is rejected, or None.

    :param method: the HTTP method.
    :param headers: the request's headers, with names in lower case.
    :param own_hosts: the addresses that the sandbox listens on.
    """
    found = {name: value.decode("latin-1") for name, value in headers}
    authority = found.get(b"host", "")
    host = host_of(authority)
    # Another site's domain can resolve to 127.0.0.1 (DNS rebinding). The Host header reveals it.
    if not is_loopback(host) and host not in {own.lower() for own in own_hosts}:
        return f"Host: {authority!r} is not this sandbox"
    if method in ("GET", "HEAD"):
        return None
    origin = found.get(b"origin")
    if origin is not None and origin.lower() != f"http://{authority}".lower():
        return f"Origin: {origin!r} is another site"
    if found.get(b"sec-fetch-site", "none") not in ("same-origin", "none"):
        return "Sec-Fetch-Site: the request comes from another site"
    return None
