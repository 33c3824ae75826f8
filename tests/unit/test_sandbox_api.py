"""The sandbox's HTTP API: credentials, errors, bulk sends, and the journal of calls."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
import requests
from sandbox_calls import NO_ID, NOON, basic, call, omnimessage, send

from airflow_provider_omnimessage.sandbox import Sandbox, SandboxClient

USERNAME, PASSWORD = "ülo & söbrad", "pa:ss wörd 🔑"


@pytest.fixture(scope="module")
def running() -> Iterator[Sandbox]:
    with Sandbox(USERNAME, PASSWORD) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(running: Sandbox) -> Sandbox:
    running.reset()
    running.freeze()
    running.set_time(NOON)
    return running


def test_send_returns_ids_for_the_omnimessage_and_each_channel(sandbox: Sandbox) -> None:
    response = call(sandbox, "POST", "/omnimessage", omnimessage("+37255555555", "rcs", "sms"))

    assert response.status_code == 201
    accepted = response.json()
    assert accepted["to"] == "+37255555555"
    assert [(m["channel"], m["sender"]) for m in accepted["messages"]] == [("rcs", "ACME"), ("sms", "Sandbox")]
    assert accepted["omnimessage_id"] == sandbox.messages[0]["omnimessage_id"]
    assert [m["message_id"] for m in accepted["messages"]] == sandbox.messages[0]["message_ids"]


def test_base_url_without_v1_works(sandbox: Sandbox) -> None:
    root = sandbox.url.removesuffix("/v1")
    headers = {"Authorization": basic(sandbox)}
    body = omnimessage(time_to_send="2026-11-24T13:00")

    sent = requests.post(f"{root}/omnimessage", json=body, headers=headers, timeout=10)
    omnimessage_id = sent.json()["omnimessage_id"]
    report = requests.get(f"{root}/omnimessage/{omnimessage_id}/status", headers=headers, timeout=10)
    cancelled = requests.delete(f"{root}/omnimessage/{omnimessage_id}", headers=headers, timeout=10)
    bulk = requests.post(f"{root}/omnimessages", json={"messages": [body]}, headers=headers, timeout=10)

    assert [response.status_code for response in (sent, report, cancelled, bulk)] == [201, 200, 202, 201]
    assert [entry["call"] for entry in sandbox.requests] == ["send", "status", "cancel", "bulk"]


def test_bulk_send_returns_one_entry_per_message_in_order(sandbox: Sandbox) -> None:
    bodies = [omnimessage("+37255550101"), omnimessage("nobody"), "rubbish", omnimessage("+37255550104")]
    response = call(sandbox, "POST", "/omnimessages", {"messages": bodies})

    assert response.status_code == 201
    first, second, third, fourth = response.json()["messages"]
    assert [first["to"], fourth["to"]] == ["+37255550101", "+37255550104"]
    assert [error["source"] for error in second["errors"] + third["errors"]] == ["payload[to]", "payload[messages][2]"]
    assert [message["to"] for message in sandbox.messages] == ["+37255550101", "+37255550104"]


@pytest.mark.parametrize(
    ("body", "code"), [({}, "106"), ({"messages": []}, "105"), ({"messages": {}}, "105"), ({"messages": None}, "106")]
)
def test_bulk_send_without_messages_is_rejected(sandbox: Sandbox, body: Any, code: str) -> None:
    response = call(sandbox, "POST", "/omnimessages", body)
    assert response.status_code == 400
    assert [(error["code"], error["source"]) for error in response.json()["errors"]] == [(code, "payload[messages]")]


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"[]", b"null", b'"hi"', b'{"to": NaN}', b"\xff\xfe", b"[" * 100_000, b'{"to": ' + b"9" * 5000 + b"}"],
)
@pytest.mark.parametrize("path", ["/omnimessage", "/omnimessages"])
def test_body_that_is_not_a_json_object_is_rejected(sandbox: Sandbox, path: str, raw: bytes) -> None:
    response = call(sandbox, "POST", path, raw)
    assert response.status_code == 400
    assert response.json()["errors"][0]["title"] in ("Invalid data", "Missing data")


@pytest.mark.parametrize("path", ["/omnimessage", "/omnimessages"])
@pytest.mark.parametrize(
    ("content_type", "found"),
    [("", "missing"), ("text/plain", "'text/plain'"), ("application/x-www-form-urlencoded; charset=utf-8", "'appl")],
)
def test_post_without_the_content_type_of_json_is_rejected(
    sandbox: Sandbox, path: str, content_type: str, found: str
) -> None:
    body = omnimessage() if path == "/omnimessage" else {"messages": [omnimessage()]}
    response = call(sandbox, "POST", path, body, Content_Type=content_type)

    (error,) = response.json()["errors"]
    assert (response.status_code, error["code"], error["source"]) == (400, "105", None)
    assert error["detail"].startswith(f"Content-Type must be application/json, is {found}")
    assert sandbox.messages == []


def test_content_type_may_have_parameters_and_any_case(sandbox: Sandbox) -> None:
    response = call(sandbox, "POST", "/omnimessage", omnimessage(), Content_Type="Application/JSON;charset=utf-8")
    assert response.status_code == 201


def test_rejected_message_gets_messentes_error_and_is_not_kept(sandbox: Sandbox) -> None:
    body = {**omnimessage(), "messages": [{"channel": "sms", "text": "hi", "sender": "Alert Department"}]}
    response = call(sandbox, "POST", "/omnimessage", body)

    assert response.status_code == 400
    assert response.json() == {
        "errors": [
            {
                "title": "Invalid data",
                "detail": "sms.sender must have at most 11 characters if alphanumeric, has 16",
                "code": "105",
                "source": "payload[sms][sender]",
            }
        ]
    }
    assert sandbox.messages == []


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Basic",
        "Basic ===",
        "Bearer abc",
        "Basic " + base64.b64encode(f"{USERNAME}:{PASSWORD}x".encode()).decode(),
        "Basic " + base64.b64encode(f"{USERNAME}:pa".encode()).decode(),
        "Basic " + base64.b64encode("ülo & söbrad:pa:ss wörd".encode("latin-1")).decode(),
        "Bearer " + base64.b64encode(f"{USERNAME}:{PASSWORD}".encode()).decode(),
    ],
)
@pytest.mark.parametrize(("method", "path"), [("POST", "/omnimessage"), ("GET", f"/omnimessage/{NO_ID}/status")])
def test_wrong_or_missing_credentials_return_401(
    sandbox: Sandbox, method: str, path: str, authorization: str | None
) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    response = requests.request(method, sandbox.url + path, json=omnimessage(), headers=headers, timeout=10)

    assert response.status_code == 401
    assert (response.json()["errors"][0]["code"], response.json()["errors"][0]["source"]) == ("103", None)
    assert sandbox.messages == []


def test_authentication_scheme_is_case_insensitive(sandbox: Sandbox) -> None:
    response = call(
        sandbox, "GET", f"/omnimessage/{NO_ID}/status", Authorization=basic(sandbox).replace("Basic", "basic")
    )
    assert response.status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", f"/omnimessage/{NO_ID}/status", 404, "101"),
        ("DELETE", f"/omnimessage/{NO_ID}", 404, "101"),
        ("DELETE", "/omnimessage/not-a-uuid%2F..", 404, "101"),
        ("GET", "", 404, "101"),
        ("POST", "/omnimessage/", 404, "101"),
        ("POST", "/sms", 404, "101"),
        ("GET", "/omnimessage", 405, "107"),
        ("PUT", "/omnimessages", 405, "107"),
        ("GET", f"/omnimessage/{NO_ID}", 405, "107"),
        ("POST", f"/omnimessage/{NO_ID}/status", 405, "107"),
    ],
)
def test_unknown_paths_ids_and_methods_return_messentes_errors(
    sandbox: Sandbox, method: str, path: str, status: int, code: str
) -> None:
    response = call(sandbox, method, path)
    assert response.status_code == status
    assert response.json()["errors"][0]["code"] == code


def test_journal_has_every_call_with_its_raw_body(sandbox: Sandbox) -> None:
    call(sandbox, "POST", "/omnimessage", b'{"to":  "nobody"}')
    call(sandbox, "GET", f"/omnimessage/{NO_ID}/status")

    sent, polled = sandbox.requests
    assert (sent["call"], sent["method"], sent["path"], sent["status"]) == ("send", "POST", "/v1/omnimessage", 400)
    assert (sent["body"], sent["at"], sent["fault"]) == ('{"to":  "nobody"}', NOON.isoformat(), None)
    assert (polled["call"], polled["status"], polled["body"]) == ("status", 404, "")


def test_message_is_kept_exactly_as_received(sandbox: Sandbox) -> None:
    text = "<script>alert(1)</script> \ud83d שלום 👩🏽‍💻 \u0000"
    body = {"to": "+37255555555", "messages": [{"channel": "sms", "text": text, "extra": [1]}], "priority": None}
    omnimessage_id = send(sandbox, body)

    assert sandbox.messages[0]["body"] == body
    assert sandbox.message(omnimessage_id) == sandbox.messages[0]


def test_concurrent_sends_each_get_their_own_message(sandbox: Sandbox) -> None:
    with ThreadPoolExecutor(10) as pool:
        ids = list(pool.map(lambda _: send(sandbox, omnimessage()), range(100)))
    assert len(set(ids)) == len(sandbox.messages) == 100


def test_client_in_another_program_controls_the_sandbox(sandbox: Sandbox) -> None:
    send(sandbox, omnimessage())
    other = SandboxClient(sandbox.url, USERNAME, PASSWORD)

    assert other.advance(2) == NOON + timedelta(seconds=2)
    assert [message["state"] for message in other.messages] == ["delivered"]
    assert other.connection == sandbox.connection
    other.reset()
    assert sandbox.messages == sandbox.requests == sandbox.faults == []


def test_connection_is_in_airflows_json_format(sandbox: Sandbox) -> None:
    assert json.loads(sandbox.airflow_conn) == {
        "conn_type": "omnimessage",
        "login": USERNAME,
        "password": PASSWORD,
        "host": sandbox.url,
        "extra": {},
    }


def test_looking_up_an_unknown_message_raises(sandbox: Sandbox) -> None:
    with pytest.raises(ValueError, match="no such message"):
        sandbox.message(NO_ID)


def test_wrong_settings_are_rejected_before_the_server_starts() -> None:
    with pytest.raises(ValueError, match="delivery_seconds"):
        Sandbox(delivery_seconds=-1)
    with pytest.raises(RuntimeError, match="not running"):
        _ = Sandbox().url
