"""The sandbox's own side: who may drive it, what its events tell, and what its page is allowed to do."""

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
from airflow_provider_omnimessage.sandbox.app import Bench
from airflow_provider_omnimessage.sandbox.control import SandboxApp

BODY = {"to": "+37255555555", "messages": [{"channel": "sms", "text": "hi"}]}


@pytest.fixture(scope="module")
def running() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(running: Sandbox) -> Sandbox:
    running.reset()
    return running


def ask(sandbox: Sandbox, method: str, path: str, **headers: str) -> int:
    target = urlsplit(sandbox.inbox_url)
    connection = http.client.HTTPConnection(target.hostname or "", target.port, timeout=10)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, headers={"Host": target.netloc, **named})
    status = connection.getresponse().status
    connection.close()
    return status


def test_a_control_call_needs_no_credentials_on_this_machine(sandbox: Sandbox) -> None:
    port = urlsplit(sandbox.url).port
    assert ask(sandbox, "GET", "/sandbox/messages") == 200
    assert ask(sandbox, "DELETE", "/sandbox") == 204
    assert ask(sandbox, "GET", "/", Host=f"localhost:{port}") == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8025", "127.0.0.1.evil.example", "", "localhost.evil"])
@pytest.mark.parametrize("path", ["/", "/sandbox/messages", "/sandbox/connection", "/sandbox/events"])
def test_a_name_that_was_bent_to_loopback_is_invalid(sandbox: Sandbox, host: str, path: str) -> None:
    assert ask(sandbox, "GET", path, Host=host) == 403


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
def test_another_sites_page_changes_nothing(sandbox: Sandbox, headers: dict[str, str]) -> None:
    requests.post(f"{sandbox.url}/omnimessage", json=BODY, auth=("sandbox", "sandbox"), timeout=10)
    assert ask(sandbox, "DELETE", "/sandbox", **headers) == 403
    assert ask(sandbox, "POST", "/sandbox/clock", **headers) == 403
    assert len(sandbox.messages) == 1


def test_its_own_page_may(sandbox: Sandbox) -> None:
    origin = sandbox.inbox_url.rstrip("/")
    assert ask(sandbox, "DELETE", "/sandbox", Origin=origin, Sec_Fetch_Site="same-origin") == 204


def test_no_answer_lets_another_site_read_along(sandbox: Sandbox) -> None:
    answer = requests.get(
        f"{sandbox.inbox_url}sandbox/messages", headers={"Origin": "https://evil.example"}, timeout=10
    )
    assert not [name for name in answer.headers if name.lower().startswith("access-control")]


@pytest.mark.parametrize(
    ("authorization", "status"),
    [(b"", 401), (b"Basic c2FuZGJveDp3cm9uZw==", 401), (b"Basic c2FuZGJveDpzYW5kYm94", 200)],
)
def test_another_machine_has_to_know_the_password(authorization: bytes, status: int) -> None:
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        sent.append(message)

    async def run() -> None:
        bench = Bench("sandbox", "sandbox", delivery_seconds=2, allow_remote_callbacks=False)
        app = SandboxApp(bench, lambda scope: None, url="http://192.0.2.1:8025/v1", host="0.0.0.0")
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
def test_a_change_of_the_clock_that_makes_no_sense_is_invalid(sandbox: Sandbox, body: str) -> None:
    answer = requests.post(
        f"{sandbox.inbox_url}sandbox/clock", data=body, headers={"Content-Type": "application/json"}, timeout=10
    )
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith("body")


def test_events_tell_of_a_message_and_of_the_clock_without_being_asked(sandbox: Sandbox) -> None:
    sandbox.freeze()
    with requests.get(f"{sandbox.inbox_url}sandbox/events", stream=True, timeout=10) as stream:
        news = (json.loads(line[6:]) for line in stream.iter_lines() if line.startswith(b"data: "))
        first = next(news)
        requests.post(f"{sandbox.url}/omnimessage", json=BODY, auth=("sandbox", "sandbox"), timeout=10)
        later = next(entry for entry in news if entry["messages"])
        sandbox.advance(2)
        last = next(entry for entry in news if entry["states"]["delivered"])

    assert stream.headers["Content-Type"].startswith("text/event-stream")
    assert (first["messages"], first["clock"]["frozen"]) == (0, True)
    assert later["states"]["in_progress"] == 1
    assert last["revision"] > later["revision"] > first["revision"]
    assert last["clock"]["now"] > first["clock"]["now"]


def test_many_changes_are_few_events(sandbox: Sandbox) -> None:
    with requests.get(f"{sandbox.inbox_url}sandbox/events", stream=True, timeout=10) as stream:
        news = (json.loads(line[6:]) for line in stream.iter_lines() if line.startswith(b"data: "))
        next(news)
        body = {"messages": [BODY] * 500}
        for _ in range(4):
            requests.post(f"{sandbox.url}/omnimessages", json=body, auth=("sandbox", "sandbox"), timeout=10)
        told = 1
        while next(news)["messages"] < 2000:
            told += 1
    assert told <= 20


def test_only_what_changed_is_told_to_who_knows_the_rest(sandbox: Sandbox) -> None:
    sandbox.freeze()
    for _ in range(3):
        requests.post(f"{sandbox.url}/omnimessage", json=BODY, auth=("sandbox", "sandbox"), timeout=10)
    ids = [message["omnimessage_id"] for message in sandbox.messages]
    known = max(message["revision"] for message in sandbox.messages[:2])

    def told(changed_after: int, **more: int) -> list[str]:
        answer = requests.get(
            f"{sandbox.inbox_url}sandbox/messages", params={"changed_after": changed_after, **more}, timeout=10
        )
        return [message["omnimessage_id"] for message in answer.json()]

    assert told(known) == [ids[2]]
    assert told(0) == ids[::-1]
    assert told(0, limit=2) == [ids[2], ids[1]]


def test_the_page_may_load_nothing_from_anywhere_else(sandbox: Sandbox) -> None:
    answer = requests.get(sandbox.inbox_url, timeout=10)

    assert answer.status_code == 200
    policy = dict(part.split(" ", 1) for part in answer.headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert {sources for name, sources in policy.items()} == {"'none'", "'self'"}
    for asset in re.findall(r'(?:src|href)="(/assets/[^"]+)"', answer.text):
        assert requests.get(sandbox.inbox_url.rstrip("/") + asset, timeout=10).status_code == 200
    assert requests.get(f"{sandbox.inbox_url}assets/..%2Fclient.py", timeout=10).status_code == 404


def test_the_page_never_writes_markup_and_names_no_other_host() -> None:
    assets = resources.files("airflow_provider_omnimessage.sandbox").joinpath("assets")
    for name in ("inbox.html", "inbox.js", "inbox.css"):
        content = assets.joinpath(name).read_text(encoding="utf-8")
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", content)
        assert not re.search(r"https?://", content)
