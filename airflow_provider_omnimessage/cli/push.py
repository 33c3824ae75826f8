"""Checks the path of a delivery report: posts a signed one to ``push_url``, and reads it back as a trigger does."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, urlsplit

from airflow_provider_omnimessage.receiver.client import ReceiverError, stored_reports
from airflow_provider_omnimessage.receiver.signing import MESSENTE_HEADER, sign_body

if TYPE_CHECKING:
    from airflow_provider_omnimessage.hooks.settings import Settings

_PATIENCE = 15.0


class Step(NamedTuple):
    """One step of the path.

    :param check: name of the check.
    :param problem: what is wrong and how to fix it; ``None`` if it works.
    :param detail: the finding, if it works.
    """

    check: str
    problem: str | None
    detail: str = ""


def check_push(settings: Settings, conn_id: str) -> list[Step]:
    """Post a report and read it back. The first step that fails ends the check."""
    if not settings.push_url:
        return [
            Step("push_url", "is not set; set the connection's extra push_url to the receiver's public base URL", "")
        ]
    omnimessage_id = f"doctor-{uuid.uuid4()}"
    posted = _post_report(settings, conn_id, omnimessage_id)
    return [posted] if posted.problem else [posted, _read_back(settings, conn_id, omnimessage_id)]


def _post_report(settings: Settings, conn_id: str, omnimessage_id: str) -> Step:
    import requests

    problem: str | None
    url = f"{settings.push_url}/v1/reports/{quote(conn_id, safe='')}"
    report = {"omnimessage_id": omnimessage_id, "message_id": omnimessage_id, "channel": "sms", "status": "ACK"}
    # white space that a proxy that parses and rewrites JSON would not keep
    body = json.dumps(report, indent=1).encode()
    headers = {"Content-Type": "application/json", MESSENTE_HEADER: sign_body(body, settings.password)}
    try:
        response = requests.post(url, data=body, headers=headers, timeout=_PATIENCE, allow_redirects=False)
    except requests.exceptions.SSLError:
        problem = "TLS fails there; check the certificate's name, validity and authority"
    except requests.ConnectionError as error:
        problem = _connection_problem(settings.push_url or "", str(error))
    except requests.RequestException as error:
        problem = f"no response within {_PATIENCE:.0f} s ({type(error).__name__}); check firewall and reverse proxy"
    else:
        problem = _response_problem(settings, conn_id, response.status_code, response.content)
    return Step("report", problem and f"{settings.push_url}: {problem}", f"a signed report is accepted by {url}")


def _connection_problem(push_url: str, error: str) -> str:
    host = urlsplit(push_url).hostname
    if "NameResolution" in error or "getaddrinfo" in error or "Name or service" in error:
        return f"DNS cannot resolve '{host}'; check push_url and this machine's resolver"
    return f"cannot connect to {host}; check that the receiver or its reverse proxy listens there, and the firewall"


def _response_problem(settings: Settings, conn_id: str, status: int, content: bytes) -> str | None:
    if status == 403:
        return _signature_problem(settings, conn_id)
    if 300 <= status <= 399:
        return (
            f"responded with a redirect ({status}), which Messente treats as success, so the report is lost; set "
            "push_url to the redirect's target"
        )
    known = {
        404: "responded 404: the prefix is wrong, or the receiver is off; push_url ends with /omnimessage if the API "
        "server runs the receiver, and [omnimessage] receiver must be True there",
        405: "responded 405: something other than the receiver responds; check the prefix in push_url",
        413: "responded 413: the reverse proxy limits bodies too strictly; allow 64 KiB",
        503: "responded 503: the receiver runs, but its database does not; see the receiver's log",
    }
    if status in known:
        return known[status]
    try:
        is_receiver = status == 200 and json.loads(content) == {"status": "stored"}
    except ValueError:
        is_receiver = False
    if is_receiver:
        return None
    return f"responded {status}, which is not the receiver's response; check push_url and the reverse proxy's upstream"


def _signature_problem(settings: Settings, conn_id: str) -> str:
    try:
        stored_reports(settings, conn_id, ["doctor"], timeout=_PATIENCE)
    except ReceiverError:
        return (
            f"rejects the signature (403); check that the receiver sees the connection '{conn_id}' of type omnimessage "
            "with the same API password"
        )
    return (
        "rejects the signature of the report, although the API password is right: the reverse proxy changes the body; "
        "let it pass on bodies unchanged (no rewriting, no filter that parses JSON), and the header "
        f"{MESSENTE_HEADER}"
    )


def _read_back(settings: Settings, conn_id: str, omnimessage_id: str) -> Step:
    try:
        found = stored_reports(settings, conn_id, [omnimessage_id], timeout=_PATIENCE)
    except ReceiverError as error:
        return Step("events", str(error))
    if omnimessage_id not in found:
        return Step(
            "events",
            f"{settings.receiver_url} does not have the report that {settings.push_url} accepted; check that both "
            "point to receivers with the same database",
        )
    return Step("events", None, f"the report is read back from {settings.receiver_url}")
