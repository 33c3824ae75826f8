"""Failures on order: what a caller of the sandbox sees of each, and what is stored all the same."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import pytest
import requests

from airflow_provider_omnimessage.sandbox import Sandbox

BODY = {"to": "+37255555555", "messages": [{"channel": "sms", "text": "hi"}]}
NOBODY = "00000000-0000-0000-0000-000000000000"


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


def ask(sandbox: Sandbox) -> requests.Response:
    return requests.get(f"{sandbox.url}/omnimessage/{NOBODY}/status", auth=("sandbox", "sandbox"), timeout=10)


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
def test_too_many_requests_with_and_without_a_time_to_come_back(
    sandbox: Sandbox, retry_after: Any, header: str | None
) -> None:
    sandbox.add_fault("rate_limited", retry_after=retry_after)

    answer = send(sandbox)

    assert answer.status_code == 429
    assert answer.headers.get("Retry-After") == header
    assert answer.json()["errors"]
    assert sandbox.messages == []
    assert send(sandbox).status_code == 201


def test_a_server_error_speaks_messentes_json_or_a_gateways_html(sandbox: Sandbox) -> None:
    sandbox.add_fault("server_error")
    sandbox.add_fault("server_error", status=503, html=True, retry_after=3)

    own, gateway = send(sandbox), send(sandbox)

    assert (own.status_code, own.json()["errors"][0]["code"]) == (500, "104")
    assert (gateway.status_code, gateway.headers["Content-Type"]) == (503, "text/html; charset=utf-8")
    assert gateway.headers["Retry-After"] == "3"
    assert sandbox.messages == []


def test_a_server_error_can_come_after_the_message_was_stored(sandbox: Sandbox) -> None:
    sandbox.add_fault("server_error", status=502, processed=True)
    assert send(sandbox).status_code == 502
    assert len(sandbox.messages) == 1


def test_broken_json_comes_with_200_for_a_message_that_was_stored(sandbox: Sandbox) -> None:
    sandbox.add_fault("broken_json")
    answer = send(sandbox)

    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json")
    with pytest.raises(requests.JSONDecodeError):
        answer.json()
    assert len(sandbox.messages) == 1


def test_a_web_page_comes_instead_of_json(sandbox: Sandbox) -> None:
    sandbox.add_fault("html")
    answer = send(sandbox)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert sandbox.messages == []


def test_good_credentials_are_invalid(sandbox: Sandbox) -> None:
    sandbox.add_fault("unauthorized")
    assert send(sandbox).status_code == 401
    assert send(sandbox).status_code == 201


def test_a_call_is_led_elsewhere(sandbox: Sandbox) -> None:
    sandbox.add_fault("redirect", location="http://127.0.0.1:9/elsewhere")
    sandbox.add_fault("redirect", location="http://127.0.0.1:9/elsewhere", status=301)

    answers = [send(sandbox, allow_redirects=False) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [307, 301]
    assert answers[0].headers["Location"] == "http://127.0.0.1:9/elsewhere"


def test_a_connection_is_cut_before_anything_is_stored(sandbox: Sandbox) -> None:
    sandbox.add_fault("cut")
    with pytest.raises(requests.ConnectionError, match="reset"):
        send(sandbox)
    assert sandbox.messages == []
    assert [(call["status"], call["fault"]) for call in sandbox.requests] == [(None, "cut")]


def test_an_answer_is_lost_after_the_message_was_stored(sandbox: Sandbox) -> None:
    sandbox.add_fault("lost_answer")
    with pytest.raises(requests.ConnectionError, match="reset"):
        send(sandbox)
    assert len(sandbox.messages) == 1


def test_only_the_connection_of_the_call_itself_is_cut(sandbox: Sandbox) -> None:
    with requests.Session() as other:
        other.auth = ("sandbox", "sandbox")
        other.get(f"{sandbox.url}/omnimessage/{NOBODY}/status", timeout=10)
        sandbox.add_fault("cut", call="send")
        with pytest.raises(requests.ConnectionError):
            send(sandbox)
        assert other.get(f"{sandbox.url}/omnimessage/{NOBODY}/status", timeout=10).status_code == 404


@pytest.mark.parametrize("processed", [True, False])
def test_a_slow_answer_is_the_right_one(sandbox: Sandbox, processed: bool) -> None:
    sandbox.add_fault("slow", seconds=0.05, processed=processed)
    assert send(sandbox).status_code == 201
    assert len(sandbox.messages) == 1


@pytest.mark.parametrize(("processed", "stored"), [(True, 1), (False, 0)])
def test_who_does_not_wait_for_a_slow_answer_finds_the_message_stored_or_not(
    sandbox: Sandbox, processed: bool, stored: int
) -> None:
    sandbox.add_fault("slow", seconds=30, processed=processed)
    with pytest.raises(requests.ReadTimeout):
        send(sandbox, timeout=0.2)
    assert len(sandbox.messages) == stored
    assert [(call["status"], call["fault"]) for call in sandbox.requests] == [(None, "slow")]


def test_a_slow_call_from_before_a_reset_leaves_nothing_behind(sandbox: Sandbox) -> None:
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


def test_a_fault_hits_only_the_calls_it_was_ordered_for(sandbox: Sandbox) -> None:
    sandbox.add_fault("server_error", call="status", times="always")
    sandbox.add_fault("server_error", method="delete")

    assert send(sandbox).status_code == 201
    assert [ask(sandbox).status_code for _ in range(3)] == [500, 500, 500]
    gone = [
        requests.delete(f"{sandbox.url}/omnimessage/{NOBODY}", auth=("sandbox", "sandbox"), timeout=10)
        for _ in range(2)
    ]
    assert [answer.status_code for answer in gone] == [500, 404]
    assert [fault["hits"] for fault in sandbox.faults] == [3, 1]


def test_a_fault_begins_after_some_calls_and_ends_after_others(sandbox: Sandbox) -> None:
    sandbox.add_fault("server_error", after=2, times=2)
    assert [ask(sandbox).status_code for _ in range(6)] == [404, 404, 500, 500, 404, 404]


def test_faults_come_in_the_order_in_which_they_were_added(sandbox: Sandbox) -> None:
    sandbox.add_fault("rate_limited")
    sandbox.add_fault("server_error")
    assert [ask(sandbox).status_code for _ in range(3)] == [429, 500, 404]


def test_cleared_faults_are_gone(sandbox: Sandbox) -> None:
    sandbox.add_fault("server_error", times="always")
    sandbox.clear_faults()
    assert ask(sandbox).status_code == 404
    assert sandbox.faults == []


@pytest.mark.parametrize(
    ("fault", "options", "problem"),
    [
        ("flood", {}, "fault must be one of rate_limited"),
        ("cut", {"call": "post"}, "call must be one of"),
        ("cut", {"times": 0}, "times must be"),
        ("cut", {"times": "often"}, "times must be"),
        ("cut", {"after": -1}, "after must be"),
        ("redirect", {}, "redirect needs a location"),
        ("redirect", {"location": "/", "status": 200}, "status must be"),
        ("server_error", {"status": 404}, "status must be from 500 to 599"),
        ("slow", {"seconds": -1}, "seconds must not be negative"),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused_with_a_reason(
    sandbox: Sandbox, fault: str, options: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        sandbox.add_fault(fault, **options)
