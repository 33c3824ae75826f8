"""Delivery reports that the sandbox posts to `dlr_url`, received by a real server on loopback."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import requests

from airflow_provider_omnimessage.sandbox import Sandbox

NOON = datetime(2026, 11, 24, 12, 0, tzinfo=timezone.utc)
PASSWORD = "pässword 🔑"


class Receiver(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bodies: list[bytes] = []
        self.headers: list[Any] = []
        self.paths: list[str] = []
        self.answers: list[int] = []
        self.url = f"http://127.0.0.1:{self.server_port}/reports?from=sandbox"

    @property
    def reports(self) -> list[dict[str, Any]]:
        return [json.loads(body) for body in self.bodies]


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        self.server.paths.append(self.path)
        self.server.headers.append(self.headers)
        self.server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        status = self.server.answers.pop(0) if self.server.answers else 200
        self.send_response(status)
        if 300 <= status <= 399:
            self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def running() -> Iterator[Sandbox]:
    with Sandbox(password=PASSWORD) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(running: Sandbox) -> Sandbox:
    running.reset()
    running.freeze()
    running.set_time(NOON)
    return running


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def send(sandbox: Sandbox, dlr_url: str, to: str = "+37255555555", **fields: Any) -> str:
    body = {
        "to": to,
        "messages": [{"channel": "viber", "text": "hi"}, {"channel": "sms", "text": "hi"}],
        "dlr_url": dlr_url,
        **fields,
    }
    auth = (b"sandbox", PASSWORD.encode())
    answer = requests.post(f"{sandbox.url}/omnimessage", json=body, auth=auth, timeout=10)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["omnimessage_id"])


def cancel(sandbox: Sandbox, omnimessage_id: str) -> None:
    auth = (b"sandbox", PASSWORD.encode())
    assert requests.delete(f"{sandbox.url}/omnimessage/{omnimessage_id}", auth=auth, timeout=10).status_code == 202


def test_every_change_is_posted_in_order_before_the_clock_has_arrived(sandbox: Sandbox, receiver: Receiver) -> None:
    send(sandbox, receiver.url, "+37255550002")
    sandbox.advance(10)

    assert [(report["channel"], report["status"], report["timestamp"]) for report in receiver.reports] == [
        ("viber", "ACK", "2026-11-24T12:00:00.500000"),
        ("viber", "ACCEPTD", "2026-11-24T12:00:01"),
        ("viber", "UNDELIV", "2026-11-24T12:00:02"),
        ("sms", "ACK", "2026-11-24T12:00:02.500000"),
        ("sms", "ACCEPTD", "2026-11-24T12:00:03"),
        ("sms", "DELIVRD", "2026-11-24T12:00:04"),
    ]


def test_the_report_is_one_flat_object_signed_with_the_password(sandbox: Sandbox, receiver: Receiver) -> None:
    omnimessage_id = send(sandbox, receiver.url, "+37255550001")
    sandbox.advance(2)

    assert receiver.reports[-1] == {
        "omnimessage_id": omnimessage_id,
        "message_id": sandbox.messages[0]["message_ids"][0],
        "to": "+37255550001",
        "channel": "viber",
        "sender": "Sandbox",
        "status": "UNDELIV",
        "err": 1,
        "error": "Delivery failure",
        "timestamp": "2026-11-24T12:00:02",
    }
    expected = hmac.new(PASSWORD.encode(), receiver.bodies[-1], hashlib.sha256).hexdigest()
    assert receiver.headers[-1]["X-Messente-Signature"] == expected
    assert receiver.headers[-1]["Content-Type"] == "application/json"
    assert receiver.paths[-1] == "/reports?from=sandbox"


def test_a_cancel_is_posted_too(sandbox: Sandbox, receiver: Receiver) -> None:
    cancel(sandbox, send(sandbox, receiver.url, time_to_send="2026-11-24T13:00"))
    sandbox.advance(7200)
    assert [report["status"] for report in receiver.reports] == ["DELETED"]


def test_reports_on_several_messages_come_in_the_order_of_their_times(sandbox: Sandbox, receiver: Receiver) -> None:
    for minute in (3, 1, 2):
        send(sandbox, receiver.url, f"+3725555000{minute + 6}", time_to_send=f"2026-11-24T12:0{minute}")
    sandbox.advance(600)

    assert len(receiver.reports) == 12
    stamps = [report["timestamp"] for report in receiver.reports]
    assert stamps == sorted(stamps)


def test_a_post_that_was_not_received_is_tried_again_with_growing_gaps(sandbox: Sandbox, receiver: Receiver) -> None:
    receiver.answers = [500, 404, 503]
    cancel(sandbox, send(sandbox, receiver.url, time_to_send="2026-11-24T13:00"))

    sandbox.advance(600)

    assert len(set(receiver.bodies)) == 1
    assert [(post["at"][11:19], post["attempt"], post["answer"]) for post in sandbox.messages[0]["posts"]] == [
        ("12:00:00", 1, 500),
        ("12:00:05", 2, 404),
        ("12:00:35", 3, 503),
        ("12:02:35", 4, 200),
    ]


def test_a_running_clock_tries_again_by_itself(
    sandbox: Sandbox, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_omnimessage.sandbox.callbacks.GAPS", (0.05,))
    receiver.answers = [500]
    omnimessage_id = send(sandbox, receiver.url, time_to_send="2026-11-24T13:00")
    sandbox.resume()
    cancel(sandbox, omnimessage_id)
    for _ in range(1000):
        if len(receiver.bodies) == 2:
            break
        time.sleep(0.01)
    assert len(receiver.bodies) == 2


def test_after_four_attempts_it_is_given_up(sandbox: Sandbox, receiver: Receiver) -> None:
    receiver.answers = [500] * 9
    cancel(sandbox, send(sandbox, receiver.url, time_to_send="2026-11-24T13:00"))
    sandbox.advance(86400)
    assert [post["problem"] for post in sandbox.messages[0]["posts"]] == ["answered 500"] * 4


def test_a_receiver_that_is_not_there_shows_in_the_journal(sandbox: Sandbox, receiver: Receiver) -> None:
    receiver.shutdown()
    receiver.server_close()
    cancel(sandbox, send(sandbox, receiver.url, time_to_send="2026-11-24T13:00"))
    sandbox.advance(1)

    (post,) = sandbox.messages[0]["posts"]
    assert post["answer"] is None
    assert "refused" in post["problem"]


@pytest.mark.parametrize("status", [204, 301, 307, 399])
def test_an_answer_up_to_399_counts_as_received_and_is_never_followed(
    sandbox: Sandbox, receiver: Receiver, status: int
) -> None:
    receiver.answers = [status]
    cancel(sandbox, send(sandbox, receiver.url, time_to_send="2026-11-24T13:00"))
    sandbox.advance(600)

    assert receiver.paths == ["/reports?from=sandbox"]
    assert [(post["answer"], post["problem"]) for post in sandbox.messages[0]["posts"]] == [(status, None)]


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/reports",
        "http://192.0.2.1/",
        "http://0.0.0.0:1/",
        "http://127.0.0.1.example.com/",
        "http://localhost.example.com/",
        "http://127.0.0.1@example.com/",
        "http://[::ffff:192.0.2.1]/",
        "http://2130706433.example/",
    ],
)
def test_nothing_is_posted_to_another_machine(sandbox: Sandbox, url: str) -> None:
    cancel(sandbox, send(sandbox, url, time_to_send="2026-11-24T13:00"))
    sandbox.advance(600)

    (post,) = sandbox.messages[0]["posts"]
    assert post["answer"] is None
    assert post["problem"].startswith("refused: not an address of this machine")


@pytest.mark.parametrize("url", ["http://127.0.0.1:99999/", "http://[::1", "http://localhost:port/"])
def test_an_address_that_cannot_be_used_harms_nobody(sandbox: Sandbox, url: str) -> None:
    cancel(sandbox, send(sandbox, url, time_to_send="2026-11-24T13:00"))
    sandbox.advance(600)
    assert all(post["problem"] for post in sandbox.messages[0]["posts"])
    assert sandbox.messages[0]["posts"]


def test_a_reset_forgets_the_attempts_that_were_to_come(sandbox: Sandbox, receiver: Receiver) -> None:
    receiver.answers = [500]
    cancel(sandbox, send(sandbox, receiver.url, time_to_send="2026-11-24T13:00"))
    sandbox.advance(1)
    sandbox.reset()
    sandbox.freeze()
    sandbox.advance(86400)
    assert len(receiver.bodies) == 1
