"""Calls to a sandbox's API, for the tests of the sandbox."""

from __future__ import annotations

import base64
import json
from datetime import datetime, timezone
from typing import Any

import requests

from airflow_provider_omnimessage.sandbox import Sandbox

NOON = datetime(2026, 11, 24, 12, 0, tzinfo=timezone.utc)
NO_ID = "00000000-0000-0000-0000-000000000000"


def basic(sandbox: Sandbox) -> str:
    credentials = base64.b64encode(f"{sandbox.username}:{sandbox.password}".encode()).decode()
    return f"Basic {credentials}"


def call(sandbox: Sandbox, method: str, path: str, body: Any = None, **headers: str) -> requests.Response:
    """Call the API. A body of bytes is sent as it is, any other as JSON."""
    raw = body if isinstance(body, (bytes, type(None))) else json.dumps(body)
    sent = {"Authorization": basic(sandbox), "Content-Type": "application/json"}
    sent.update({name.replace("_", "-"): value for name, value in headers.items()})
    return requests.request(method, sandbox.url + path, data=raw, headers=sent, timeout=10)


def omnimessage(to: str = "+37255555555", *channels: str, **fields: Any) -> dict[str, Any]:
    contents = {
        "sms": {"channel": "sms", "text": "hi"},
        "viber": {"channel": "viber", "text": "hi"},
        "whatsapp": {"channel": "whatsapp", "text": {"body": "hi"}},
        "rcs": {"channel": "rcs", "sender": "ACME", "text": "hi"},
    }
    return {"to": to, "messages": [contents[channel] for channel in channels or ("sms",)], **fields}


def send(sandbox: Sandbox, body: dict[str, Any]) -> str:
    """Send an omnimessage and return its id."""
    response = call(sandbox, "POST", "/omnimessage", body)
    assert response.status_code == 201, response.text
    return str(response.json()["omnimessage_id"])


def report(sandbox: Sandbox, omnimessage_id: str) -> dict[str, Any]:
    response = call(sandbox, "GET", f"/omnimessage/{omnimessage_id}/status")
    assert response.status_code == 200, response.text
    return dict(response.json())


def statuses(sandbox: Sandbox, omnimessage_id: str) -> list[tuple[str, str | None]]:
    return [(entry["channel"], entry["status"]) for entry in report(sandbox, omnimessage_id)["statuses"]]


def cancel(sandbox: Sandbox, omnimessage_id: str) -> int:
    """Cancel a message and return the HTTP status."""
    return call(sandbox, "DELETE", f"/omnimessage/{omnimessage_id}").status_code
