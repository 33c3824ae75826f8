"""Keeps web pages and other machines from driving the sandbox: its control calls ask for no credentials here."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from airflow_provider_omnimessage.sandbox.callbacks import is_loopback


def host_of(authority: str) -> str:
    """Tell the host in a ``Host`` header.

    :param authority: as in ``127.0.0.1:8025`` or ``[::1]:8025``.
    """
    try:
        return (urlsplit(f"//{authority}").hostname or "").lower()
    except ValueError:
        return ""


def refusal(method: str, headers: Iterable[tuple[bytes, bytes]], own_hosts: Iterable[str]) -> str | None:
    """Tell why a control call is refused, or None.

    :param method: the HTTP method.
    :param headers: the request's headers, names in lower case.
    :param own_hosts: the addresses that the sandbox is bound to.
    """
    found = {name: value.decode("latin-1") for name, value in headers}
    authority = found.get(b"host", "")
    host = host_of(authority)
    # A page of another site can have its own name lead to 127.0.0.1; the Host header gives it away.
    if not is_loopback(host) and host not in {own.lower() for own in own_hosts}:
        return f"Host {authority!r} is not this sandbox"
    if method in ("GET", "HEAD"):
        return None
    origin = found.get(b"origin")
    if origin is not None and origin.lower() != f"http://{authority}".lower():
        return f"Origin {origin!r} is another site"
    if found.get(b"sec-fetch-site", "none") not in ("same-origin", "none"):
        return "The request comes from another site"
    return None
