"""The sandbox's control calls and inbox page: who may use them, what the events contain, what the page may load."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
from collections.abc import Iterator
from importlib import resources
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from airflow_provider_omnimessage.sandbox import Sandbox
from airflow_provider_omnimessage.sandbox.app import SandboxApp
from airflow_provider_omnimessage.sandbox.control import ASSETS
from airflow_provider_omnimessage.sandbox.state import SandboxState

BODY = {"to": "+37255555555", "messages": [{"channel": "sms", "text": "hi"}]}


@pytest.fixture(scope="module")
def running() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(running: Sandbox) -> Sandbox:
    running.reset()
    return running


def status_of(sandbox: Sandbox, method: str, path: str, **headers: str) -> int:
    target = urlsplit(sandbox.inbox_url)
    connection = http.client.HTTPConnection(target.hostname or "", target.port, timeout=10)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, headers={"Host": target.netloc, **named})
    status = connection.getresponse().status
    connection.close()
    return status


def test_control_calls_need_no_credentials_on_this_machine(sandbox: Sandbox) -> None:
    port = urlsplit(sandbox.url).port
    assert status_of(sandbox, "GET", "/sandbox/messages") == 200
    assert status_of(sandbox, "DELETE", "/sandbox") == 204
    assert status_of(sandbox, "GET", "/", Host=f"localhost:{port}") == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8025", "127.0.0.1.evil.example", "", "localhost.evil"])
@pytest.mark.parametrize("path", ["/", "/sandbox/messages", "/sandbox/connection", "/sandbox/events"])
def test_foreign_domain_that_resolves_to_loopback_is_rejected(sandbox: Sandbox, host: str, path: str) -> None:
    assert status_of(sandbox, "GET", path, Host=host) == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
def test_page_of_another_site_cannot_change_anything(sandbox: Sandbox, headers: dict[str, str]) -> None:
    requests.post(f"{sandbox.url}/omnimessage", json=BODY, auth=("sandbox", "sandbox"), timeout=10)
    assert status_of(sandbox, "DELETE", "/sandbox", **headers) == 403
    assert status_of(sandbox, "POST", "/sandbox/clock", **headers) == 403
    assert len(sandbox.messages) == 1


def test_inbox_page_may_make_changes(sandbox: Sandbox) -> None:
    origin = sandbox.inbox_url.rstrip("/")
    assert status_of(sandbox, "DELETE", "/sandbox", Origin=origin, Sec_Fetch_Site="same-origin") == 204


def test_no_response_allows_another_site_to_read_it(sandbox: Sandbox) -> None:
    response = requests.get(
        f"{sandbox.inbox_url}sandbox/messages", headers={"Origin": "https://evil.example"}, timeout=10
    )
    assert not [name for name in response.headers if name.lower().startswith("access-control")]


@pytest.mark.parametrize(
    ("authorization", "status"),
    [(b"", 401), (b"Basic c2FuZGJveDp3cm9uZw==", 401), (b"Basic c2FuZGJveDpzYW5kYm94", 200)],
)
def test_another_machine_needs_the_credentials(authorization: bytes, status: int) -> None:
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        sent.append(message)

    async def run() -> None:
        state = SandboxState(
            "sandbox", "sandbox", delivery_seconds=2, allow_remote_callbacks=False, block_repeated_text=False
        )
        app = SandboxApp(state, lambda scope: None, url="http://192.0.2.1:8025/v1", host="0.0.0.0")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "scheme": "http",
            "method": "GET",
            "path": "/sandbox/clock",
            "raw_path": b"/sandbox/clock",
            "query_string": b"",
            "root_path": "",
            "headers": [(b"host", b"192.0.2.1:8025"), (b"authorization", authorization)],
            "client": ("192.0.2.7", 4711),
            "server": ("192.0.2.1", 8025),
        }
        await app(scope, receive, send)

    asyncio.run(run())
    assert sent[0]["status"] == status


@pytest.mark.parametrize(
    "body", ["{", "[]", '{"advance": "soon"}', '{"retreat": 1}', '{"advance": NaN}', '{"set": "yesterday"}']
)
def test_impossible_clock_change_is_rejected(sandbox: Sandbox, body: str) -> None:
    response = requests.post(
        f"{sandbox.inbox_url}sandbox/clock", data=body, headers={"Content-Type": "application/json"}, timeout=10
    )
    assert response.status_code == 400
    assert response.json()["detail"].startswith("body")


def test_event_stream_reports_messages_and_clock_changes(sandbox: Sandbox) -> None:
    sandbox.freeze()
    with requests.get(f"{sandbox.inbox_url}sandbox/events", stream=True, timeout=10) as stream:
        events = (json.loads(line[6:]) for line in stream.iter_lines() if line.startswith(b"data: "))
        first = next(events)
        requests.post(f"{sandbox.url}/omnimessage", json=BODY, auth=("sandbox", "sandbox"), timeout=10)
        later = next(entry for entry in events if entry["messages"])
        sandbox.advance(2)
        last = next(entry for entry in events if entry["states"]["delivered"])

    assert stream.headers["Content-Type"].startswith("text/event-stream")
    assert (first["messages"], first["clock"]["frozen"]) == (0, True)
    assert later["states"]["in_progress"] == 1
    assert last["revision"] > later["revision"] > first["revision"]
    assert last["clock"]["now"] > first["clock"]["now"]


def test_many_changes_share_few_events(sandbox: Sandbox) -> None:
    with requests.get(f"{sandbox.inbox_url}sandbox/events", stream=True, timeout=10) as stream:
        events = (json.loads(line[6:]) for line in stream.iter_lines() if line.startswith(b"data: "))
        next(events)
        body = {"messages": [BODY] * 500}
        for _ in range(4):
            requests.post(f"{sandbox.url}/omnimessages", json=body, auth=("sandbox", "sandbox"), timeout=10)
        count = 1
        while next(events)["messages"] < 2000:
            count += 1
    assert count <= 20


def test_changed_after_returns_only_newer_changes(sandbox: Sandbox) -> None:
    sandbox.freeze()
    for _ in range(3):
        requests.post(f"{sandbox.url}/omnimessage", json=BODY, auth=("sandbox", "sandbox"), timeout=10)
    ids = [message["omnimessage_id"] for message in sandbox.messages]
    known = max(message["revision"] for message in sandbox.messages[:2])

    def changed(changed_after: int, **more: int) -> list[str]:
        response = requests.get(
            f"{sandbox.inbox_url}sandbox/messages", params={"changed_after": changed_after, **more}, timeout=10
        )
        return [message["omnimessage_id"] for message in response.json()]

    assert changed(known) == [ids[2]]
    assert changed(0) == ids[::-1]
    assert changed(0, limit=2) == [ids[2], ids[1]]


def test_page_may_load_nothing_from_other_hosts(sandbox: Sandbox) -> None:
    response = requests.get(sandbox.inbox_url, timeout=10)

    assert response.status_code == 200
    policy = dict(part.split(" ", 1) for part in response.headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert {sources for name, sources in policy.items()} == {"'none'", "'self'"}
    for asset in re.findall(r'(?:src|href)="(/assets/[^"]+)"', response.text):
        assert requests.get(sandbox.inbox_url.rstrip("/") + asset, timeout=10).status_code == 200
    assert requests.get(f"{sandbox.inbox_url}assets/..%2Fclient.py", timeout=10).status_code == 404


def test_page_writes_no_markup_and_names_no_other_host() -> None:
    assets = resources.files("airflow_provider_omnimessage.sandbox").joinpath("assets")
    for name in ("inbox.html", *(name for name in ASSETS if not name.endswith(".svg"))):
        content = assets.joinpath(name).read_text(encoding="utf-8")
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", content)
        assert not re.search(r"https?://", content)
