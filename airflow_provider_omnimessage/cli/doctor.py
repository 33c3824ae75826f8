"""The command that checks everything between here and Messente, one line each: ok, or how to fix it."""

from __future__ import annotations

import platform
import socket
import ssl
from argparse import Namespace
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import SplitResult, urlsplit

from airflow_provider_omnimessage.api.errors import OmnimessageError
from airflow_provider_omnimessage.cli.terminal import Exit, TerminalHook, command, print_rows
from airflow_provider_omnimessage.hooks import network

if TYPE_CHECKING:
    import requests

    from airflow_provider_omnimessage.hooks.settings import Settings

CHECKS = ("versions", "connection", "DNS", "TLS", "response", "clock", "credentials")
_PATIENCE = 10.0

# The Date header has whole seconds, and the response takes some time.
_TOLERATED_SKEW = 5.0

# OpenSSL's X509_V_ERR_...: CERT_NOT_YET_VALID and CERT_HAS_EXPIRED; HOSTNAME_MISMATCH and IP_ADDRESS_MISMATCH
_NOT_VALID_NOW = (9, 10)
_NOT_FOR_THIS_NAME = (62, 64)


class Finding(NamedTuple):
    """One line of the result.

    :param check: what was checked.
    :param result: ``ok``, ``wrong`` or ``skipped``.
    :param detail: what was found, or how to fix it.
    """

    check: str
    result: str
    detail: str


@command()
def run(args: Namespace) -> Exit:
    """Check everything; no message is sent."""
    hook = TerminalHook(args.conn_id)
    findings = examine_push(hook) if args.push else examine(hook)
    print_rows([finding._asdict() for finding in findings], args.output)
    return Exit.NOT_DELIVERED if any(finding.result == "wrong" for finding in findings) else Exit.DONE


def examine(hook: TerminalHook) -> list[Finding]:
    """Check one connection. Checks that depend on one that failed are skipped."""
    findings = [_versions()]
    try:
        settings = hook.settings
    except OmnimessageError as error:
        return _skip_the_rest([*findings, Finding("connection", "wrong", str(error))])
    findings.append(Finding("connection", "ok", f"'{hook.omnimessage_conn_id}' points at {settings.base_url}"))
    target = urlsplit(settings.base_url)
    proxy = _proxy(settings)
    if proxy:
        findings += [Finding(check, "skipped", f"done by the proxy {proxy}") for check in ("DNS", "TLS")]
    else:
        for check in (_dns, _tls):
            findings.append(check(target))
            if findings[-1].result == "wrong":
                return _skip_the_rest(findings)
    findings += _response_and_clock(settings, proxy)
    if any(finding.check == "response" and finding.result == "wrong" for finding in findings):
        return _skip_the_rest(findings)
    with hook:
        works, detail = hook.test_connection()
    return [*findings, Finding("credentials", "ok" if works else "wrong", detail)]


def examine_push(hook: TerminalHook) -> list[Finding]:
    """Check the way of delivery reports from ``push_url`` to the triggers."""
    from airflow_provider_omnimessage.cli.push import check_push

    try:
        steps = check_push(hook.settings, hook.omnimessage_conn_id)
    except OmnimessageError as error:
        return [_versions(), Finding("connection", "wrong", str(error))]
    return [
        _versions(),
        *(Finding(step.check, "wrong" if step.problem else "ok", step.problem or step.detail) for step in steps),
    ]


def _skip_the_rest(findings: list[Finding]) -> list[Finding]:
    seen = {finding.check for finding in findings}
    cause = next(finding.check for finding in findings if finding.result == "wrong")
    rest = [Finding(check, "skipped", f"skipped: fix {cause} first") for check in CHECKS if check not in seen]
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
    proxy = network.proxy_url(settings.base_url)
    # without the credentials that a proxy's URL can hold
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
            f"'{name}' cannot be resolved ({error}); check the connection's base URL, and this machine's resolver",
        )
    addresses = list(dict.fromkeys(str(item[4][0]) for item in found))
    return Finding("DNS", "ok", f"{name} is {'an address' if addresses == [name] else ', '.join(addresses)}")


def _tls(target: SplitResult) -> Finding:
    if target.scheme == "http":
        return Finding("TLS", "skipped", "plain http on this machine")
    name = target.hostname or ""
    try:
        with (
            socket.create_connection((name, _port(target)), timeout=_PATIENCE) as plain,
            network.tls_context().wrap_socket(plain, server_hostname=name) as secured,
        ):
            certificate = secured.getpeercert() or {}
            return Finding("TLS", "ok", f"{secured.version()}, certificate valid until {certificate.get('notAfter')}")
    except ssl.SSLCertVerificationError as error:
        return Finding("TLS", "wrong", _distrust(error))
    except ssl.SSLError as error:
        return Finding(
            "TLS", "wrong", f"{name} does not use TLS on that port ({error.reason}); check the base URL's port"
        )
    except OSError as error:
        return Finding("TLS", "wrong", f"cannot connect to {name} port {_port(target)} ({error}); check the firewall")


def _distrust(error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code in _NOT_FOR_THIS_NAME:
        return f"{error.verify_message}; check the connection's base URL"
    if error.verify_code in _NOT_VALID_NOW:
        now = f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC"
        return f"{error.verify_message} by this machine's clock; check whether it really is {now}"
    return (
        f"the certificate is not trusted ({error.verify_message}). If your firewall signs certificates, set "
        "REQUESTS_CA_BUNDLE to its authority"
    )


def _response_and_clock(settings: Settings, proxy: str | None) -> list[Finding]:
    import requests

    with requests.Session() as session:
        session.trust_env = not settings.is_loopback
        # no credentials: this only checks whether there is a response, and its clock
        session.auth = _no_credentials
        try:
            response = session.get(
                settings.base_url, timeout=_PATIENCE, allow_redirects=False, verify=network.ca_bundle()
            )
        except requests.RequestException as error:
            kind = type(error).__name__
            through_proxy = (
                f"no response through the proxy {proxy} ({kind}); check HTTPS_PROXY, or bypass the proxy with "
                f"NO_PROXY={urlsplit(settings.base_url).hostname}"
            )
            direct = f"{settings.base_url} does not respond ({kind}); check the base URL and the firewall"
            return [Finding("response", "wrong", through_proxy if proxy else direct)]
    now = datetime.now(timezone.utc)
    took = response.elapsed.total_seconds()
    found = Finding("response", "ok", f"HTTP {response.status_code} after {took * 1000:.0f} ms, without credentials")
    return [found, clock(response.headers.get("Date"), now)]


def _no_credentials(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def clock(date: str | None, now: datetime) -> Finding:
    """Compare this machine's clock with that of the server.

    :param date: its ``Date`` header.
    """
    try:
        theirs = parsedate_to_datetime(date or "")
    except ValueError:
        return Finding("clock", "skipped", "the response has no Date header")
    skew = (now - theirs).total_seconds()
    if abs(skew) <= _TOLERATED_SKEW:
        return Finding("clock", "ok", "this machine's clock agrees with the server's")
    return Finding(
        "clock",
        "wrong",
        f"this machine's clock is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} the server's: messages "
        "scheduled from now go out that much off; synchronise it with NTP",
    )
