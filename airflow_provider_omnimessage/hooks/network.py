"""Which certificates are trusted and which proxy is used: what requests would do, for both transports and `doctor`."""

from __future__ import annotations

import os
import ssl
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from airflow_provider_omnimessage.hooks.settings import Settings


def ca_bundle() -> str:
    """Return the file or folder of trusted certificates."""
    import certifi

    return os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or certifi.where()


def tls_context() -> ssl.SSLContext:
    """Return a TLS context that trusts :func:`ca_bundle`. It reads files."""
    bundle = ca_bundle()
    if os.path.isdir(bundle):
        return ssl.create_default_context(capath=bundle)
    return ssl.create_default_context(cafile=bundle)


def proxies(settings: Settings) -> dict[str, str]:
    """
    Return the proxies of the environment, by scheme, without those that ``NO_PROXY`` excludes.

    :param settings: of the connection. A base URL on this machine has none: a proxy must not see a password that goes
        over plain http.
    """
    from requests.utils import get_environ_proxies

    return {} if settings.is_loopback else dict(get_environ_proxies(settings.base_url))


def proxy_url(settings: Settings) -> str | None:
    """
    Return the URL of the proxy for a connection's requests, or ``None`` if they use none.

    :param settings: of the connection.
    """
    from requests.utils import select_proxy

    proxy: str | None = select_proxy(settings.base_url, proxies(settings))
    return f"http://{proxy}" if proxy and not urlsplit(proxy).scheme else proxy
