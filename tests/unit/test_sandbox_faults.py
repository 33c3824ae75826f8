"""Faults in API calls: what the caller sees, and whether the message is stored."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import pytest
import requests

from airflow_provider_omnimessage.sandbox import Sandbox

BODY = {"to": "+37255555555", "messages": [{"channel": "sms", "text": "hi"}]}
NO_ID = "00000000-0000-0000-0000-000000000000"


@pytest.fixture(scope="module")
def running() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(running: Sandbox) -> Sandbox:
    running.reset()
    return running


def send(sandbox: Sandbox, **options: Any) -> requests.Response:
    options = {"timeout": 10, **options}
    return requests.post(f"{sandbox.url}/omnimessage", json=BODY, auth=("sandbox", "sandbox"), **options)


def poll(sandbox: Sandbox) -> requests.Response:
    return requests.get(f"{sandbox.url}/omnimessage/{NO_ID}/status", auth=("sandbox", "sandbox"), timeout=10)


@pytest.mark.parametrize(
    ("retry_after", "header"),
    [
        (None, None),
        (7, "7"),
        (0.5, "0.5"),
        ("soon", "soon"),
        (datetime(2026, 11, 24, 12, tzinfo=timezone.utc), "Tue, 24 Nov 2026 12:00:00 GMT"),
    ],
)
def test_rate_limit_with_and_without_retry_after(sandbox: Sandbox, retry_after: Any, header: str | None) -> None:
    sandbox.add_fault("rate_limited", retry_after=retry_after)

    response = send(sandbox)

    assert response.status_code == 429
    assert response.headers.get("Retry-After") == header
    (error,) = response.json()["errors"]
    assert (error["code"], error["title"]) == ("429", "Too many requests")
    assert sandbox.messages == []
    assert send(sandbox).status_code == 201


def test_server_error_has_messentes_json_or_a_gateways_html(sandbox: Sandbox) -> None:
    sandbox.add_fault("server_error")
    sandbox.add_fault("server_error", status=503, html=True, retry_after=3)

    own, gateway = send(sandbox), send(sandbox)

    assert (own.status_code, own.json()["errors"][0]["code"]) == (500, "104")
    assert (gateway.status_code, gateway.headers["Content-Type"]) == (503, "text/html; charset=utf-8")
    assert gateway.headers["Retry-After"] == "3"
    assert sandbox.messages == []


def test_server_error_can_follow_after_the_message_is_stored(sandbox: Sandbox) -> None:
    sandbox.add_fault("server_error", status=502, processed=True)
    assert send(sandbox).status_code == 502
    assert len(sandbox.messages) == 1


def test_broken_json_has_status_200_and_the_message_is_stored(sandbox: Sandbox) -> None:
    sandbox.add_fault("broken_json")
    response = send(sandbox)

    assert (response.status_code, response.headers["Content-Type"]) == (200, "application/json")
    with pytest.raises(requests.JSONDecodeError):
        response.json()
    assert len(sandbox.messages) == 1


def test_html_replaces_json(sandbox: Sandbox) -> None:
    sandbox.add_fault("html")
    response = send(sandbox)
    assert (response.status_code, response.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert sandbox.messages == []


def test_unauthorized_rejects_good_credentials(sandbox: Sandbox) -> None:
    sandbox.add_fault("unauthorized")
    assert send(sandbox).status_code == 401
    assert send(sandbox).status_code == 201


def test_redirect_points_at_another_location(sandbox: Sandbox) -> None:
    sandbox.add_fault("redirect", location="http://127.0.0.1:9/elsewhere")
    sandbox.add_fault("redirect", location="http://127.0.0.1:9/elsewhere", status=301)

    responses = [send(sandbox, allow_redirects=False) for _ in range(2)]

    assert [response.status_code for response in responses] == [307, 301]
    assert responses[0].headers["Location"] == "http://127.0.0.1:9/elsewhere"


def test_cut_resets_the_connection_and_stores_nothing(sandbox: Sandbox) -> None:
    sandbox.add_fault("cut")
    with pytest.raises(requests.ConnectionError, match="reset"):
        send(sandbox)
    assert sandbox.messages == []
    assert [(call["status"], call["fault"]) for call in sandbox.requests] == [(None, "cut")]


def test_lost_answer_resets_the_connection_after_the_message_is_stored(sandbox: Sandbox) -> None:
    sandbox.add_fault("lost_answer")
    with pytest.raises(requests.ConnectionError, match="reset"):
        send(sandbox)
    assert len(sandbox.messages) == 1


def test_cut_leaves_other_connections_open(sandbox: Sandbox) -> None:
    with requests.Session() as other:
        other.auth = ("sandbox", "sandbox")
        other.get(f"{sandbox.url}/omnimessage/{NO_ID}/status", timeout=10)
        sandbox.add_fault("cut", call="send")
        with pytest.raises(requests.ConnectionError):
            send(sandbox)
        assert other.get(f"{sandbox.url}/omnimessage/{NO_ID}/status", timeout=10).status_code == 404


@pytest.mark.parametrize("processed", [True, False])
def test_slow_response_is_complete(sandbox: Sandbox, processed: bool) -> None:
    sandbox.add_fault("slow", seconds=0.05, processed=processed)
    assert send(sandbox).status_code == 201
    assert len(sandbox.messages) == 1


@pytest.mark.parametrize(("processed", "stored"), [(True, 1), (False, 0)])
def test_message_of_a_slow_call_is_stored_before_or_after_the_delay(
    sandbox: Sandbox, processed: bool, stored: int
) -> None:
    sandbox.add_fault("slow", seconds=30, processed=processed)
    with pytest.raises(requests.ReadTimeout):
        send(sandbox, timeout=0.2)
    assert len(sandbox.messages) == stored
    assert [(call["status"], call["fault"]) for call in sandbox.requests] == [(None, "slow")]


def test_slow_call_from_before_a_reset_stores_nothing(sandbox: Sandbox) -> None:
    sandbox.add_fault("slow", seconds=0.3)
    failures: list[BaseException] = []

    def call() -> None:
        try:
            send(sandbox)
        except requests.ConnectionError as error:
            failures.append(error)

    caller = threading.Thread(target=call)
    caller.start()
    while not sandbox.requests:
        pass
    sandbox.reset()
    caller.join()

    assert sandbox.messages == []
    assert len(failures) == 1


def test_fault_applies_only_to_matching_calls(sandbox: Sandbox) -> None:
    sandbox.add_fault("server_error", call="status", times="always")
    sandbox.add_fault("server_error", method="delete")

    assert send(sandbox).status_code == 201
    assert [poll(sandbox).status_code for _ in range(3)] == [500, 500, 500]
    cancelled = [
        requests.delete(f"{sandbox.url}/omnimessage/{NO_ID}", auth=("sandbox", "sandbox"), timeout=10) for _ in range(2)
    ]
    assert [response.status_code for response in cancelled] == [500, 404]
    assert [fault["hits"] for fault in sandbox.faults] == [3, 1]


def test_fault_starts_after_some_calls_and_ends_after_others(sandbox: Sandbox) -> None:
    sandbox.add_fault("server_error", after=2, times=2)
    assert [poll(sandbox).status_code for _ in range(6)] == [404, 404, 500, 500, 404, 404]


def test_faults_apply_in_the_order_in_which_they_were_added(sandbox: Sandbox) -> None:
    sandbox.add_fault("rate_limited")
    sandbox.add_fault("server_error")
    assert [poll(sandbox).status_code for _ in range(3)] == [429, 500, 404]


def test_cleared_faults_no_longer_apply(sandbox: Sandbox) -> None:
    sandbox.add_fault("server_error", times="always")
    sandbox.clear_faults()
    assert poll(sandbox).status_code == 404
    assert sandbox.faults == []


@pytest.mark.parametrize(
    ("fault", "options", "problem"),
    [
        ("flood", {}, "fault: 'flood' does not exist; use one of rate_limited"),
        ("cut", {"call": "post"}, "call: 'post' does not exist"),
        ("cut", {"times": 0}, "times: 0 is not accepted"),
        ("cut", {"times": "often"}, "times: 'often' is not accepted"),
        ("cut", {"after": -1}, "after: -1 is not accepted"),
        ("redirect", {}, "location: is missing"),
        ("redirect", {"location": "/", "status": 200}, "status: 200 is no redirect"),
        ("server_error", {"status": 404}, "status: 404 is no server error"),
        ("slow", {"seconds": -1}, "seconds: -1 is negative"),
    ],
)
def test_impossible_fault_is_rejected_with_the_reason(
    sandbox: Sandbox, fault: str, options: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        sandbox.add_fault(fault, **options)
