from __future__ import annotations

import json
import logging
import random
import socket
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from full_size import first, full_size
from receivers import CONN_ID, PASSWORD, REPLY_SECRET, RunningReceiver, report

from airflow_provider_omnimessage.receiver import app as app_module
from airflow_provider_omnimessage.receiver import keys, signing
from airflow_provider_omnimessage.receiver.keys import ConnectionSecrets
from airflow_provider_omnimessage.receiver.store import Store, StoreUnavailableError


def test_a_signed_report_is_stored_and_handed_out(receiver: RunningReceiver) -> None:
    assert receiver.post(report("a")).status == 200
    answer = receiver.events(after=0)
    assert answer.status == 200
    (event,) = answer.body["events"]
    assert event == {
        "seq": 1,
        "kind": "report",
        "omnimessage_id": "a",
        "message_id": "a-sms",
        "status": "DELIVRD",
        "first_delivery": True,
        "received_at": event["received_at"],
        "channel": "sms",
        "err": 0,
        "error": None,
        "timestamp": "2026-11-24T09:00:00",
        "price": "0.10",
    }


@pytest.mark.parametrize(
    "forge",
    first(
        4,
        [
            lambda client: client.post(report(), password="wrong"),
            lambda client: client.post(report(), password=""),
            lambda client: client.post(report(), conn_id="unknown"),
            lambda client: client.post(report(), conn_id="x" * 300),
            lambda client: client.post(report(), conn_id="%00'%22%3Cscript%3E"),
            lambda client: client.post(report(), **{signing.MESSENTE_HEADER: ""}),
            lambda client: client.post(report(), **{signing.MESSENTE_HEADER: "é" * 40}),
            lambda client: client.post(report(), route="replies"),
            lambda client: client.post(b"not json", password="wrong"),
            lambda client: client.request("POST", f"/v1/reports/{CONN_ID}", b"{}"),
            lambda client: client.request("GET", f"/v1/events/{CONN_ID}?after=0"),
            lambda client: client.events(password="wrong", after=0),
            lambda client: client.events(conn_id="unknown", after=0),
            lambda client: client.events(at=time.time() - 301, after=0),
            lambda client: client.events(at=time.time() + 302, after=0),
        ],
    ),
)
def test_every_invalid_signature_gets_the_same_403(receiver: RunningReceiver, forge) -> None:  # type: ignore[no-untyped-def]
    answer = forge(receiver)
    assert (answer.status, answer.body) == (403, {"error": "forbidden"})
    assert receiver.log() == []


@full_size
def test_of_a_thousand_forged_requests_to_a_mounted_receiver_none_is_accepted(database: str) -> None:
    body = json.dumps(report("forged")).encode()
    signature = signing.sign_body(body, PASSWORD)
    at = int(time.time())
    request = signing.sign_request(
        PASSWORD, method="GET", path=f"/v1/events/{CONN_ID}", query=[("after", "0")], body=b"", at=at
    )

    def forge(receiver: RunningReceiver, number: int) -> int:
        rng = random.Random(number)
        wrong = {
            "nothing": "",
            "one digit": signature[:-1] + rng.choice([digit for digit in "0123456789abcdef" if digit != signature[-1]]),
            "a part": signature[: rng.randrange(64)],
            "another password": signing.sign_body(body, f"password{number}"),
            "another body": signing.sign_body(body + b" ", PASSWORD),
            "another kind": request,
            "anything": "".join(rng.choices("0123456789abcdefABCDEF:= ", k=64)),
        }
        path = rng.choice(["reports", "replies", "events", "claims"])
        conn_id = rng.choice([CONN_ID, "unknown", "%6fmnimessage_default"])
        headers = {
            rng.choice([signing.MESSENTE_HEADER, signing.REQUEST_HEADER]): rng.choice(list(wrong.values())).strip()
        }
        method = "GET" if path == "events" else "POST"
        return receiver.request(method, f"/v1/{path}/{conn_id}", b"" if method == "GET" else body, headers).status

    with RunningReceiver(database, prefix="/omnimessage") as receiver, ThreadPoolExecutor(32) as pool:
        statuses = set(pool.map(lambda number: forge(receiver, number), range(1000)))
        assert statuses == {403}
        assert receiver.log() == []


@full_size
def test_a_signature_holds_for_its_own_request_only(receiver: RunningReceiver) -> None:
    at = int(time.time())
    header = signing.sign_request(
        PASSWORD, method="GET", path=f"/v1/events/{CONN_ID}", query=[("after", "0")], body=b"", at=at
    )
    headers = {signing.REQUEST_HEADER: header}
    assert receiver.request("GET", f"/v1/events/{CONN_ID}?after=0", headers=headers).status == 200
    for path, body in (("?after=1", b""), ("?after=0&wait=0", b""), ("?after=0", b"x"), ("", b"")):
        assert receiver.request("GET", f"/v1/events/{CONN_ID}{path}", body, headers).status == 403
    # nor is it one of Messente's, or the other way round
    body = json.dumps(report()).encode()
    assert receiver.post(body, **{signing.MESSENTE_HEADER: header}).status == 403


@full_size
def test_a_forged_request_takes_the_same_time_for_a_known_and_an_unknown_connection(receiver: RunningReceiver) -> None:
    def take(conn_id: str) -> float:
        started = time.perf_counter()
        assert receiver.post(report(), password="wrong", conn_id=conn_id).status == 403
        return time.perf_counter() - started

    names = [CONN_ID, "unknown"] * 8 + [f"unknown{number}" for number in range(8)]
    random.shuffle(names)
    with ThreadPoolExecutor(4) as pool:
        taken = list(zip(names, pool.map(take, names), strict=True))
    known = statistics.median(seconds for name, seconds in taken if name == CONN_ID)
    unknown = statistics.median(seconds for name, seconds in taken if name != CONN_ID)
    assert abs(known - unknown) < app_module.REJECTION_TIME / 4


@pytest.mark.parametrize(
    "body",
    first(
        4,
        [
            b"",
            b"null",
            b"[]",
            b'"report"',
            b"{",
            b"\xff\xfe",
            b"[" * 60_000,
            b"{}",
            b'{"omnimessage_id": ["a"], "status": "DELIVRD"}',
            b'{"omnimessage_id": "", "status": "DELIVRD"}',
            b'{"omnimessage_id": "a b", "status": "DELIVRD"}',
            b'{"omnimessage_id": "a\\u0000", "status": "DELIVRD"}',
            b'{"omnimessage_id": "a", "message_id": {"b": 1}, "status": "DELIVRD"}',
            b'{"omnimessage_id": "a", "status": 7}',
            b'{"omnimessage_id": "a", "status": "' + b"D" * 33 + b'"}',
            json.dumps({"omnimessage_id": "a" * 65, "status": "DELIVRD"}).encode(),
        ],
    ),
)
def test_what_is_signed_and_malformed_gets_400_and_is_not_echoed(receiver: RunningReceiver, body: bytes) -> None:
    answer = receiver.post(body)
    assert answer.status == 400
    assert set(answer.body) == {"error"}
    assert "DDD" not in answer.body["error"]
    assert receiver.log() == []


def test_odd_values_of_a_report_are_stored_as_far_as_they_can_be(receiver: RunningReceiver) -> None:
    odd = report(
        "a", error="\ud800 no\x00t +37255512345" + "x" * 2000, err=True, price_info=[1], timestamp=5, channel=None
    )
    assert receiver.post(odd).status == 200
    (event,) = receiver.events(after=0).body["events"]
    assert event["error"].startswith("? not +37255•••45")
    assert len(event["error"]) == 500
    assert [event[name] for name in ("err", "price", "timestamp", "channel")] == [None] * 4


@pytest.mark.parametrize("status", ["SOMETHING_NEW", None])
def test_an_unknown_status_is_stored(receiver: RunningReceiver, status: str | None) -> None:
    assert receiver.post(report("a", status)).status == 200
    assert receiver.log() == [("a", status)]


def test_more_than_64_kib_are_rejected_whether_the_length_is_declared_or_not(receiver: RunningReceiver) -> None:
    assert receiver.post(b"x" * (64 * 1024 + 1)).status == 413
    with socket.create_connection((receiver.host, receiver.port)) as connection:
        connection.sendall(
            f"POST /v1/reports/{CONN_ID} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
            + b"10001\r\n"
            + b"x" * 0x10001
        )
        assert connection.recv(100).startswith(b"HTTP/1.1 413")
    fits = report("a", more="x" * 60_000)
    assert receiver.post(fits).status == 200


def test_a_body_that_does_not_arrive_ends_the_request(
    receiver: RunningReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app_module, "BODY_TIMEOUT", 0.1)
    with socket.create_connection((receiver.host, receiver.port)) as connection:
        connection.sendall(f"POST /v1/reports/{CONN_ID} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n".encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 408")


def test_nothing_of_a_request_is_logged(receiver: RunningReceiver, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    secret = "SECRET-CONTENT"
    receiver.post(report(secret, password=secret), password=secret)
    receiver.post({"omnimessage_id": secret + " " + secret})
    receiver.post(report("a", error=f"to +37255512345 {secret}", text=secret, to="+37255512345"))
    receiver.request("POST", f"/v1/reports/{secret}", b"x")
    receiver.events(password=secret, ids=secret)
    assert secret not in caplog.text
    assert "37255512345" not in caplog.text


def test_a_changed_password_is_found_after_a_bad_signature(
    receiver: RunningReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert receiver.post(report("a")).status == 200
    receiver.secrets[CONN_ID] = ConnectionSecrets("new", REPLY_SECRET)
    assert receiver.post(report("b"), password="new").status == 403  # looked up a moment ago
    monkeypatch.setattr(keys, "RENEWED_AFTER", 0.0)
    assert receiver.post(report("b"), password="new").status == 200
    assert receiver.post(report("c")).status == 403
    assert receiver.events(password="new", after=0).body["position"] == 2


@full_size
def test_forged_requests_do_not_make_the_receiver_look_up_connections_without_end(receiver: RunningReceiver) -> None:
    with ThreadPoolExecutor(16) as pool:
        for conn_id in (CONN_ID, "unknown"):
            list(pool.map(lambda _, name=conn_id: receiver.post(report(), password="x", conn_id=name), range(48)))
    assert receiver.looked_up.count(CONN_ID) <= 2
    assert receiver.looked_up.count("unknown") <= 2


def test_a_connection_that_vanishes_for_a_moment_is_still_used(
    receiver: RunningReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the database restarts, Airflow hides the error and reports that the connection does not exist."""
    assert receiver.post(report("a")).status == 200
    monkeypatch.setattr(keys, "CACHED_FOR", 0.0)
    monkeypatch.setattr(keys, "RENEWED_AFTER", 0.0)
    del receiver.secrets[CONN_ID]
    assert receiver.post(report("b")).status == 200
    monkeypatch.setattr(keys, "KEPT_FOR", 0.0)
    assert receiver.post(report("c")).status == 403


def test_a_secrets_backend_that_fails_makes_a_503(receiver: RunningReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(conn_id: str) -> None:
        raise RuntimeError(conn_id)

    monkeypatch.setattr(receiver.receiver.keys, "_look_up", fail)
    answer = receiver.post(report("a"))
    assert (answer.status, answer.headers["retry-after"]) == (503, "5")


def test_a_database_that_does_not_store_makes_a_503_and_the_next_report_gets_in(
    receiver: RunningReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Store, events: object) -> None:
        raise StoreUnavailableError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(Store, "append", fail)
        assert receiver.post(report("a")).status == 503
    assert receiver.post(report("a")).status == 200
    assert receiver.log() == [("a", "DELIVRD")]


@full_size
def test_reports_that_come_together_are_all_stored(receiver: RunningReceiver) -> None:
    ids = [f"m{number}" for number in range(200)]
    with ThreadPoolExecutor(16) as pool:
        assert {answer.status for answer in pool.map(lambda id_: receiver.post(report(id_)), ids)} == {200}
    assert sorted(id_ for id_, _ in receiver.log()) == sorted(ids)


def test_a_reply_is_signed_with_the_numbers_secret_and_stored_without_its_text(receiver: RunningReceiver) -> None:
    reply = {
        "msg_id": "r1",
        "sub_msg_id": "1",
        "channel": "sms",
        "recipient": "+37255500000",
        "sender": "+37255512345",
        "time": "2026-11-24 09:00:00",
        "text": "OK K7QF",
    }
    for _ in range(2):
        assert receiver.post(reply, route="replies", password=REPLY_SECRET).status == 200
    assert receiver.post(reply, route="replies").status == 403
    (event,) = receiver.events(after=0).body["events"]
    assert (event["kind"], event["msg_id"], event["channel"]) == ("reply", "r1", "sms")
    assert "K7QF" not in json.dumps(event)
    assert "37255512345" not in json.dumps(event)


@full_size
def test_health_shows_only_the_state(receiver: RunningReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    assert receiver.request("GET", "/health").body == {"status": "ok", "database": "reachable", "schema": "0002"}

    def fail(self: Store) -> None:
        raise StoreUnavailableError("secret details")

    monkeypatch.setattr(Store, "position", fail)
    until = time.monotonic() + 10
    while (answer := receiver.request("GET", "/health")).status == 200 and time.monotonic() < until:
        time.sleep(0.1)
    assert (answer.status, answer.body["database"]) == (503, "unreachable")
    assert "secret" not in json.dumps(answer.body)


@pytest.mark.parametrize(
    "path", first(2, ["/", "/docs", "/openapi.json", "/v1", "/v1/events", f"/v1/reports/{CONN_ID}/x"])
)
def test_there_are_no_other_routes(receiver: RunningReceiver, path: str) -> None:
    assert receiver.request("GET", path).status == 404


def test_a_path_with_a_slash_at_its_end_is_not_found_and_not_echoed(receiver: RunningReceiver) -> None:
    for method, path in (("POST", "/v1/reports/SECRET/"), ("GET", "/v1/events/SECRET/"), ("GET", "/health/")):
        answer = receiver.request(method, path, b"x", {"Host": "SECRET"})
        assert answer.status == 404
        assert "SECRET" not in json.dumps([answer.body, answer.headers])


def test_a_client_that_goes_away_in_the_middle_leaves_no_trace(
    receiver: RunningReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        with socket.create_connection((receiver.host, receiver.port)) as connection:
            connection.sendall(
                f"POST /v1/reports/{CONN_ID} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc".encode()
            )
    assert receiver.post(report("a")).status == 200
    assert "Traceback" not in caplog.text
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
