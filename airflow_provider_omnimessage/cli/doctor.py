"""The command that checks everything between here and Messente, one line each: ok, or the cure."""

from __future__ import annotations

import os
import platform
import socket
import ssl
from argparse import Namespace
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import SplitResult, urlsplit

from airflow_provider_omnimessage.api.errors import OmnimessageError
from airflow_provider_omnimessage.cli.terminal import Exit, TerminalHook, command, show

if TYPE_CHECKING:
    import requests

    from airflow_provider_omnimessage.hooks.settings import Settings

CHECKS = ("versions", "connection", "DNS", "TLS", "answer", "clock", "credentials")
_PATIENCE = 10.0

# The Date header has whole seconds, and the answer takes a moment; what is late by more is late.
_TOLERATED_SKEW = 5.0

# OpenSSL's X509_V_ERR_...: CERT_NOT_YET_VALID and CERT_HAS_EXPIRED; HOSTNAME_MISMATCH and IP_ADDRESS_MISMATCH
_NOT_VALID_NOW = (9, 10)
_NOT_FOR_THIS_NAME = (62, 64)


class Finding(NamedTuple):
    """
    One line.

    :param check: what was looked at.
    :param result: ``ok``, ``wrong`` or ``skipped``.
    :param detail: what was found, or the cure.
    """

    check: str
    result: str
    detail: str


@command()
def run(args: Namespace) -> Exit:
    """
    Check everything; nothing is sent.

    :param args: the command line.
    """
    findings = examine(TerminalHook(args.conn_id))
    show([finding._asdict() for finding in findings], args.output)
    return Exit.NOT_DELIVERED if any(finding.result == "wrong" for finding in findings) else Exit.DONE


def examine(hook: TerminalHook) -> list[Finding]:
    """
    Check one connection. What stands on something that is wrong is skipped.

    :param hook: on that connection.
    """
    findings = [_versions()]
    try:
        settings = hook.settings
    except OmnimessageError as error:
        return _skip_the_rest([*findings, Finding("connection", "wrong", str(error))])
    findings.append(Finding("connection", "ok", f"'{hook.omnimessage_conn_id}' leads to {settings.base_url}"))
    target = urlsplit(settings.base_url)
    proxy = _proxy(settings)
    if proxy:
        findings += [Finding(check, "skipped", f"the proxy {proxy} sees to it") for check in ("DNS", "TLS")]
    else:
        for check in (_dns, _tls):
            findings.append(check(target))
            if findings[-1].result == "wrong":
                return _skip_the_rest(findings)
    findings += _answer_and_clock(settings, proxy)
    if any(finding.check == "answer" and finding.result == "wrong" for finding in findings):
        return _skip_the_rest(findings)
    with hook:
        works, said = hook.test_connection()
    return [*findings, Finding("credentials", "ok" if works else "wrong", said)]


def _skip_the_rest(findings: list[Finding]) -> list[Finding]:
    seen = {finding.check for finding in findings}
    cause = next(finding.check for finding in findings if finding.result == "wrong")
    rest = [
        Finding(check, "skipped", f"not looked at: first mend the {cause}") for check in CHECKS if check not in seen
    ]
    return findings + rest


def _versions() -> Finding:
    from airflow import __version__ as airflow

    from airflow_provider_omnimessage import __version__ as provider

    return Finding(
        "versions",
        "ok",
        f"airflow-provider-omnimessage {provider}, Airflow {airflow}, Python {platform.python_version()}",
    )


def _proxy(settings: Settings) -> str | None:
    from requests.utils import get_environ_proxies, select_proxy

    if settings.is_loopback:
        return None
    proxy: str | None = select_proxy(settings.base_url, get_environ_proxies(settings.base_url))
    # without the credentials that a proxy's address can hold
    return urlsplit(proxy).hostname if proxy else None


def _port(target: SplitResult) -> int:
    return target.port or (443 if target.scheme == "https" else 80)


def _dns(target: SplitResult) -> Finding:
    name = target.hostname or ""
    try:
        found = socket.getaddrinfo(name, _port(target), type=socket.SOCK_STREAM)
    except OSError as error:
        return Finding(
            "DNS",
            "wrong",
            f"nobody knows '{name}' ({error}); check the connection's base URL, and this machine's resolver",
        )
    addresses = list(dict.fromkeys(str(item[4][0]) for item in found))
    return Finding("DNS", "ok", f"{name} is {'an address' if addresses == [name] else ', '.join(addresses)}")


def _tls(target: SplitResult) -> Finding:
    if target.scheme == "http":
        return Finding("TLS", "skipped", "plain http, which stays on this machine")
    name = target.hostname or ""
    try:
        with (
            socket.create_connection((name, _port(target)), timeout=_PATIENCE) as plain,
            _trust().wrap_socket(plain, server_hostname=name) as secured,
        ):
            certificate = secured.getpeercert() or {}
            return Finding("TLS", "ok", f"{secured.version()}, certificate valid until {certificate.get('notAfter')}")
    except ssl.SSLCertVerificationError as error:
        return Finding("TLS", "wrong", _distrust(error))
    except ssl.SSLError as error:
        return Finding("TLS", "wrong", f"{name} does not speak TLS there ({error.reason}); check the base URL's port")
    except OSError as error:
        return Finding("TLS", "wrong", f"no way to {name} port {_port(target)} ({error}); ask for it in the firewall")


def _distrust(error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code in _NOT_FOR_THIS_NAME:
        return f"{error.verify_message}; check the connection's base URL"
    if error.verify_code in _NOT_VALID_NOW:
        now = f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC"
        return f"{error.verify_message}, says this machine's clock; check whether it is {now}"
    return (
        f"the certificate is not trusted ({error.verify_message}). Where a firewall of yours signs certificates, name "
        "its authority in REQUESTS_CA_BUNDLE"
    )


def _trust() -> ssl.SSLContext:
    """Trust whom the provider's calls trust."""
    authorities = _authorities()
    if os.path.isdir(authorities):
        return ssl.create_default_context(capath=authorities)
    return ssl.create_default_context(cafile=authorities)


def _authorities() -> str:
    import certifi

    return os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or certifi.where()


def _answer_and_clock(settings: Settings, proxy: str | None) -> list[Finding]:
    import requests

    with requests.Session() as session:
        session.trust_env = not settings.is_loopback
        # no credentials: this asks only whether somebody is there, and what time it is
        session.auth = _no_credentials
        try:
            response = session.get(settings.base_url, timeout=_PATIENCE, allow_redirects=False, verify=_authorities())
        except requests.RequestException as error:
            kind = type(error).__name__
            through_proxy = (
                f"nothing comes through the proxy {proxy} ({kind}); check HTTPS_PROXY, or leave the proxy out with "
                f"NO_PROXY={urlsplit(settings.base_url).hostname}"
            )
            direct = f"{settings.base_url} does not answer ({kind}); check the base URL and the firewall"
            return [Finding("answer", "wrong", through_proxy if proxy else direct)]
    now = datetime.now(timezone.utc)
    took = response.elapsed.total_seconds()
    answer = Finding(
        "answer", "ok", f"HTTP {response.status_code} after {took * 1000:.0f} ms, asked without credentials"
    )
    return [answer, clock(response.headers.get("Date"), now)]


def _no_credentials(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def clock(date: str | None, now: datetime) -> Finding:
    """
    Compare this machine's clock with the other's.

    :param date: the ``Date`` header.
    :param now: this machine's time.
    """
    try:
        theirs = parsedate_to_datetime(date or "")
    except ValueError:
        return Finding("clock", "skipped", "the answer does not say what time it is there")
    skew = (now - theirs).total_seconds()
    if abs(skew) <= _TOLERATED_SKEW:
        return Finding("clock", "ok", "this machine's clock agrees with theirs")
    return Finding(
        "clock",
        "wrong",
        f"this machine's clock is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} theirs: what is scheduled "
        "from now goes out that much off; let NTP set it",
    )
