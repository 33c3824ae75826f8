"""Choose trusted certificates and the proxy as requests does, for both transports and ``doctor``."""

from __future__ import annotations

import os
import ssl
from urllib.parse import urlsplit

from airflow_provider_omnimessage.hooks.settings import is_loopback_url


def ca_bundle() -> str:
    """Return the file or folder of trusted certificates."""
    import certifi

    return os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or certifi.where()


def tls_context() -> ssl.SSLContext:
    """Return a TLS context that trusts :func:`ca_bundle`. Reads files."""
    bundle = ca_bundle()
    if os.path.isdir(bundle):
        return ssl.create_default_context(capath=bundle)
    return ssl.create_default_context(cafile=bundle)


def proxies(base_url: str) -> dict[str, str]:
    """
    Return the proxies of the environment, by scheme, without those that ``NO_PROXY`` excludes.

    A base URL on this machine has none: a proxy must not see a password that is sent over plain http.
    """
    from requests.utils import get_environ_proxies

    return {} if is_loopback_url(base_url) else dict(get_environ_proxies(base_url))


def proxy_url(base_url: str) -> str | None:
    """Return the URL of the proxy for requests to a server, or ``None`` if they use none."""
    from requests.utils import select_proxy

    proxy: str | None = select_proxy(base_url, proxies(base_url))
    return f"http://{proxy}" if proxy and not urlsplit(proxy).scheme else proxy
