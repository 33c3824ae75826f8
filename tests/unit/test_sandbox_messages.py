"""What happens to a message in the sandbox, seen through Messente's calls while the clock is moved."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
import requests

from airflow_provider_omnimessage.sandbox import Sandbox, SandboxClient
from airflow_provider_omnimessage.sandbox.outcomes import course

NOON = datetime(2026, 11, 24, 12, 0, tzinfo=timezone.utc)
NOBODY = "00000000-0000-0000-0000-000000000000"
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


def call(sandbox: Sandbox, method: str, path: str, body: Any = None) -> requests.Response:
    raw = body if isinstance(body, (bytes, type(None))) else json.dumps(body)
    credentials = base64.b64encode(f"{USERNAME}:{PASSWORD}".encode()).decode()
    return requests.request(
        method, sandbox.url + path, data=raw, headers={"Authorization": f"Basic {credentials}"}, timeout=10
    )


def omnimessage(to: str = "+37255555555", *channels: str, **fields: Any) -> dict[str, Any]:
    contents = {
        "sms": {"channel": "sms", "text": "hi"},
        "viber": {"channel": "viber", "text": "hi"},
        "whatsapp": {"channel": "whatsapp", "text": {"body": "hi"}},
        "rcs": {"channel": "rcs", "sender": "ACME", "text": "hi"},
    }
    return {"to": to, "messages": [contents[channel] for channel in channels or ("sms",)], **fields}


def send(sandbox: Sandbox, body: dict[str, Any]) -> str:
    answer = call(sandbox, "POST", "/omnimessage", body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["omnimessage_id"])


def statuses(sandbox: Sandbox, omnimessage_id: str) -> list[tuple[str, str | None]]:
    answer = call(sandbox, "GET", f"/omnimessage/{omnimessage_id}/status")
    assert answer.status_code == 200
    return [(entry["channel"], entry["status"]) for entry in answer.json()["statuses"]]


def test_a_send_is_answered_with_an_id_for_the_message_and_for_each_channel(sandbox: Sandbox) -> None:
    answer = call(sandbox, "POST", "/omnimessage", omnimessage("+37255555555", "rcs", "sms"))

    assert answer.status_code == 201
    assert answer.json()["to"] == "+37255555555"
    assert [(m["channel"], m["sender"]) for m in answer.json()["messages"]] == [("rcs", "ACME"), ("sms", "Sandbox")]
    assert answer.json()["omnimessage_id"] == sandbox.messages[0]["omnimessage_id"]
    assert [m["message_id"] for m in answer.json()["messages"]] == sandbox.messages[0]["message_ids"]


def test_a_message_goes_from_no_status_over_ack_and_acceptd_to_delivrd_within_two_seconds(sandbox: Sandbox) -> None:
    omnimessage_id = send(sandbox, omnimessage())

    seen = [statuses(sandbox, omnimessage_id)]
    for _ in range(4):
        sandbox.advance(0.5)
        seen.append(statuses(sandbox, omnimessage_id))

    assert [status for [(_, status)] in seen] == [None, "ACK", "ACCEPTD", "ACCEPTD", "DELIVRD"]
    assert sandbox.messages[0]["state"] == "delivered"


def test_the_delivery_report_has_every_field_and_a_price_once_it_is_final(sandbox: Sandbox) -> None:
    omnimessage_id = send(sandbox, {**omnimessage(), "messages": [{"channel": "sms", "text": "ö" * 71}]})
    under_way = call(sandbox, "GET", f"/omnimessage/{omnimessage_id}/status").json()["statuses"][0]
    sandbox.advance(2)
    final = call(sandbox, "GET", f"/omnimessage/{omnimessage_id}/status").json()

    assert (under_way["status"], under_way["err"], under_way["price_info"]) == (None, None, None)
    message_id = sandbox.messages[0]["message_ids"][0]
    assert final == {
        "omnimessage_id": omnimessage_id,
        "to": "+37255555555",
        "statuses": [
            {
                "status": "DELIVRD",
                "channel": "sms",
                "message_id": message_id,
                "sender": "Sandbox",
                "err": 0,
                "error": None,
                "timestamp": "2026-11-24T12:00:02",
                # one part: ö is in GSM 03.38
                "price_info": {"part_price": "0.050", "parts_count": 1, "total_price": "0.050"},
            }
        ],
    }


@pytest.mark.parametrize(
    ("ending", "channels", "expected", "state"),
    [
        ("0001", ["viber", "sms"], [("viber", "UNDELIV"), ("sms", "UNDELIV")], "failed"),
        ("0002", ["viber", "sms"], [("viber", "UNDELIV"), ("sms", "DELIVRD")], "delivered"),
        ("0002", ["sms"], [("sms", "UNDELIV")], "failed"),
        ("0003", ["whatsapp", "sms"], [("whatsapp", "SEEN")], "seen"),
        ("0003", ["sms"], [("sms", "DELIVRD")], "delivered"),
        ("0004", ["viber", "sms"], [("viber", "ACCEPTD")], "in_progress"),
        ("0007", ["rcs", "sms"], [("rcs", "EXPIRED"), ("sms", "EXPIRED")], "failed"),
        ("1234", ["viber", "sms"], [("viber", "DELIVRD")], "delivered"),
    ],
)
def test_the_last_four_digits_choose_what_becomes_of_a_message(
    sandbox: Sandbox, ending: str, channels: list[str], expected: list[tuple[str, str]], state: str
) -> None:
    omnimessage_id = send(sandbox, omnimessage(f"+3725555{ending}", *channels))
    sandbox.advance(timedelta(days=30))

    assert statuses(sandbox, omnimessage_id) == expected
    assert sandbox.messages[0]["state"] == state


def test_a_fallback_channel_is_tried_when_the_first_one_has_failed_and_not_before(sandbox: Sandbox) -> None:
    omnimessage_id = send(sandbox, omnimessage("+37255550002", "viber", "sms"))

    sandbox.advance(1.9)
    assert statuses(sandbox, omnimessage_id) == [("viber", "ACCEPTD")]
    sandbox.advance(0.1)
    assert statuses(sandbox, omnimessage_id) == [("viber", "UNDELIV"), ("sms", None)]
    sandbox.advance(2)
    assert statuses(sandbox, omnimessage_id) == [("viber", "UNDELIV"), ("sms", "DELIVRD")]


@pytest.mark.parametrize("lifetime", [{"ttl": 60}, {"validity": 1}])
def test_a_channel_that_has_not_delivered_within_its_lifetime_expires_and_the_next_is_tried(
    sandbox: Sandbox, lifetime: dict[str, int]
) -> None:
    body = omnimessage("+37255550004", "viber", "sms")
    body["messages"][0] = {**body["messages"][0], **lifetime}
    omnimessage_id = send(sandbox, body)

    sandbox.advance(59.9)
    assert statuses(sandbox, omnimessage_id) == [("viber", "ACCEPTD")]
    sandbox.advance(0.1)
    assert statuses(sandbox, omnimessage_id) == [("viber", "EXPIRED"), ("sms", None)]


def test_a_lifetime_that_passes_after_delivery_changes_nothing(sandbox: Sandbox) -> None:
    body = omnimessage("+37255550003", "viber", "sms")
    body["messages"][0] = {**body["messages"][0], "ttl": 2}
    omnimessage_id = send(sandbox, body)
    sandbox.advance(100)

    assert statuses(sandbox, omnimessage_id) == [("viber", "SEEN")]


def test_a_lifetime_that_passes_between_delivery_and_reading_changes_nothing() -> None:
    steps = course("+37255550003", channel="viber", position=0, lifetime=1.6, delivery_seconds=2)
    assert [step.status for step in steps] == ["ACK", "ACCEPTD", "DELIVRD", "SEEN"]


def test_an_immense_lifetime_is_no_problem(sandbox: Sandbox) -> None:
    body = omnimessage("+37255550004", "viber", "sms")
    body["messages"][0] = {**body["messages"][0], "ttl": 10**30}
    assert statuses(sandbox, send(sandbox, body)) == [("viber", None)]


@pytest.mark.parametrize(
    "written",
    ["2026-11-24T13:00", "2026-11-24T13:00:00Z", "2026-11-24T15:00:00+02:00", "2026-11-24T08:00:00-05:00"],
)
def test_a_scheduled_message_waits_for_its_time(sandbox: Sandbox, written: str) -> None:
    omnimessage_id = send(sandbox, omnimessage(time_to_send=written))

    sandbox.advance(3599.999)
    waiting = sandbox.messages[0]
    assert (waiting["state"], waiting["time_to_send"]) == ("scheduled", "2026-11-24T13:00:00+00:00")
    assert statuses(sandbox, omnimessage_id) == [("sms", None)]

    sandbox.advance(0.001)
    assert sandbox.messages[0]["sent_at"] == "2026-11-24T13:00:00+00:00"
    sandbox.advance(2)
    assert statuses(sandbox, omnimessage_id) == [("sms", "DELIVRD")]


def test_a_time_that_has_passed_sends_at_once_and_says_so(sandbox: Sandbox) -> None:
    send(sandbox, omnimessage(time_to_send="2026-11-24T11:59:59"))

    message = sandbox.messages[0]
    assert message["sent_at"] == NOON.isoformat()
    assert message["notes"] == ["time_to_send had passed: sent at once"]


def test_a_misspelt_field_is_accepted_and_noted(sandbox: Sandbox) -> None:
    send(sandbox, omnimessage(time_to_sent="2026-11-24T13:00"))
    assert sandbox.messages[0]["notes"] == ["Unknown and ignored: time_to_sent"]


def test_a_scheduled_message_can_be_cancelled_once_and_never_goes_out(sandbox: Sandbox) -> None:
    omnimessage_id = send(sandbox, omnimessage("+37255555555", "viber", "sms", time_to_send="2026-11-24T13:00"))
    sandbox.advance(60)

    cancelled = call(sandbox, "DELETE", f"/omnimessage/{omnimessage_id}")
    again = call(sandbox, "DELETE", f"/omnimessage/{omnimessage_id}")
    sandbox.advance(7200)

    assert (cancelled.status_code, cancelled.content) == (202, b"")
    assert again.status_code == 404
    message = sandbox.messages[0]
    assert (message["state"], message["sent_at"]) == ("cancelled", None)
    assert message["cancelled_at"] == "2026-11-24T12:01:00+00:00"
    assert statuses(sandbox, omnimessage_id) == [("viber", "DELETED")]


@pytest.mark.parametrize("fields", [{}, {"time_to_send": "2026-11-24T13:00"}])
def test_a_message_that_went_out_cannot_be_cancelled(sandbox: Sandbox, fields: dict[str, str]) -> None:
    omnimessage_id = send(sandbox, omnimessage(**fields))
    sandbox.advance(3600)

    answer = call(sandbox, "DELETE", f"/omnimessage/{omnimessage_id}")

    assert answer.status_code == 404
    assert answer.json()["errors"][0]["code"] == "101"
    assert sandbox.messages[0]["state"] != "cancelled"


def test_a_cancel_that_comes_too_late_answers_404_and_the_message_goes_out_once(sandbox: Sandbox) -> None:
    omnimessage_id = send(sandbox, omnimessage("+37255550006", time_to_send="2026-11-24T13:00"))

    assert call(sandbox, "DELETE", f"/omnimessage/{omnimessage_id}").status_code == 404
    assert sandbox.messages[0]["sent_at"] == NOON.isoformat()
    sandbox.advance(7200)
    assert sandbox.messages[0]["sent_at"] == NOON.isoformat()
    assert statuses(sandbox, omnimessage_id) == [("sms", "DELIVRD")]


def test_what_is_due_happens_in_order_and_at_its_own_time_however_far_the_clock_is_moved(sandbox: Sandbox) -> None:
    late = send(sandbox, omnimessage(time_to_send="2026-11-24T14:00"))
    early = send(sandbox, omnimessage("+37255550002", "viber", "sms", time_to_send="2026-11-24T13:00"))

    sandbox.set_time(datetime(2026, 11, 25))

    by_id = {message["omnimessage_id"]: message for message in sandbox.messages}
    assert by_id[late]["sent_at"] == "2026-11-24T14:00:00+00:00"
    assert [s["timestamp"] for s in by_id[early]["statuses"]] == ["2026-11-24T13:00:02", "2026-11-24T13:00:04"]
    assert sandbox.now == datetime(2026, 11, 25, tzinfo=timezone.utc)


def test_the_clock_goes_to_the_next_message_that_still_waits(sandbox: Sandbox) -> None:
    gone = send(sandbox, omnimessage(time_to_send="2026-11-24T13:00"))
    send(sandbox, omnimessage(time_to_send="2026-11-24T14:00"))
    call(sandbox, "DELETE", f"/omnimessage/{gone}")

    assert sandbox.advance_to_next_message() == NOON + timedelta(hours=2)
    assert sandbox.messages[1]["state"] == "in_progress"
    assert sandbox.advance_to_next_message() == NOON + timedelta(hours=2)


def test_a_clock_set_back_undoes_nothing(sandbox: Sandbox) -> None:
    send(sandbox, omnimessage())
    sandbox.advance(2)
    sandbox.set_time(NOON - timedelta(days=1))
    assert sandbox.messages[0]["state"] == "delivered"


def test_a_running_clock_delivers_by_itself() -> None:
    with Sandbox(USERNAME, PASSWORD, delivery_seconds=0.05) as sandbox:
        omnimessage_id = send(sandbox, omnimessage())
        while statuses(sandbox, omnimessage_id) != [("sms", "DELIVRD")]:
            pass
        assert sandbox.now - datetime.now(timezone.utc) < timedelta(minutes=1)


def test_a_clock_that_is_frozen_and_resumed_goes_on_from_where_it_stood(sandbox: Sandbox) -> None:
    assert sandbox.now == sandbox.now == NOON
    sandbox.resume()
    assert NOON <= sandbox.now < NOON + timedelta(minutes=5)
    assert sandbox.freeze() == sandbox.now


@pytest.mark.parametrize("by", [-1, timedelta(seconds=-1), float("1e11")])
def test_the_clock_is_not_advanced_backwards_or_out_of_reach(sandbox: Sandbox, by: Any) -> None:
    with pytest.raises(ValueError, match="advance"):
        sandbox.advance(by)
    with pytest.raises(ValueError, match="the clock goes to the year"):
        sandbox.set_time(datetime(9500, 1, 1))


def test_a_bulk_send_answers_each_message_in_order_and_refuses_only_the_bad_ones(sandbox: Sandbox) -> None:
    bodies = [omnimessage("+37255550101"), omnimessage("nobody"), "rubbish", omnimessage("+37255550104")]
    answer = call(sandbox, "POST", "/omnimessages", {"messages": bodies})

    assert answer.status_code == 201
    first, second, third, fourth = answer.json()["messages"]
    assert [first["to"], fourth["to"]] == ["+37255550101", "+37255550104"]
    assert [error["source"] for error in second["errors"] + third["errors"]] == ["to", "messages[2]"]
    assert [message["to"] for message in sandbox.messages] == ["+37255550101", "+37255550104"]


@pytest.mark.parametrize(
    ("body", "code"), [({}, "106"), ({"messages": []}, "105"), ({"messages": {}}, "105"), ({"messages": None}, "106")]
)
def test_a_bulk_send_without_messages_is_invalid(sandbox: Sandbox, body: Any, code: str) -> None:
    answer = call(sandbox, "POST", "/omnimessages", body)
    assert answer.status_code == 400
    assert [(error["code"], error["source"]) for error in answer.json()["errors"]] == [(code, "messages")]


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"[]", b"null", b'"hi"', b'{"to": NaN}', b"\xff\xfe", b"[" * 100_000, b'{"to": ' + b"9" * 5000 + b"}"],
)
@pytest.mark.parametrize("path", ["/omnimessage", "/omnimessages"])
def test_a_body_that_is_not_a_json_object_is_invalid(sandbox: Sandbox, path: str, raw: bytes) -> None:
    answer = call(sandbox, "POST", path, raw)
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["title"] in ("Invalid data", "Missing data")


def test_a_refused_message_is_answered_in_messentes_words_and_not_kept(sandbox: Sandbox) -> None:
    answer = call(sandbox, "POST", "/omnimessage", {**omnimessage(), "to": "+37255550005"})

    assert answer.status_code == 400
    assert answer.json() == {
        "errors": [
            {
                "title": "Invalid data",
                "detail": "to the sandbox refuses recipients that end in 0005",
                "code": "105",
                "source": "to",
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
@pytest.mark.parametrize(("method", "path"), [("POST", "/omnimessage"), ("GET", f"/omnimessage/{NOBODY}/status")])
def test_wrong_or_missing_credentials_are_answered_401(
    sandbox: Sandbox, method: str, path: str, authorization: str | None
) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    answer = requests.request(method, sandbox.url + path, json=omnimessage(), headers=headers, timeout=10)

    assert answer.status_code == 401
    assert (answer.json()["errors"][0]["code"], answer.json()["errors"][0]["source"]) == ("103", None)
    assert sandbox.messages == []


def test_the_scheme_is_understood_in_any_case(sandbox: Sandbox) -> None:
    credentials = base64.b64encode(f"{USERNAME}:{PASSWORD}".encode()).decode()
    answer = requests.get(
        f"{sandbox.url}/omnimessage/{NOBODY}/status", headers={"Authorization": f"basic {credentials}"}, timeout=10
    )
    assert answer.status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", f"/omnimessage/{NOBODY}/status", 404, "101"),
        ("DELETE", f"/omnimessage/{NOBODY}", 404, "101"),
        ("DELETE", "/omnimessage/not-a-uuid%2F..", 404, "101"),
        ("GET", "", 404, "101"),
        ("POST", "/omnimessage/", 404, "101"),
        ("POST", "/sms", 404, "101"),
        ("GET", "/omnimessage", 405, "107"),
        ("PUT", "/omnimessages", 405, "107"),
        ("GET", f"/omnimessage/{NOBODY}", 405, "107"),
        ("POST", f"/omnimessage/{NOBODY}/status", 405, "107"),
    ],
)
def test_what_does_not_exist_is_answered_in_messentes_words(
    sandbox: Sandbox, method: str, path: str, status: int, code: str
) -> None:
    answer = call(sandbox, method, path)
    assert answer.status_code == status
    assert answer.json()["errors"][0]["code"] == code


def test_every_call_is_in_the_journal_with_its_raw_body(sandbox: Sandbox) -> None:
    call(sandbox, "POST", "/omnimessage", b'{"to":  "nobody"}')
    call(sandbox, "GET", f"/omnimessage/{NOBODY}/status")

    sent, asked = sandbox.requests
    assert (sent["call"], sent["method"], sent["path"], sent["status"]) == ("send", "POST", "/v1/omnimessage", 400)
    assert (sent["body"], sent["at"], sent["fault"]) == ('{"to":  "nobody"}', NOON.isoformat(), None)
    assert (asked["call"], asked["status"], asked["body"]) == ("status", 404, "")


def test_a_message_is_kept_as_it_was_received_whatever_is_in_it(sandbox: Sandbox) -> None:
    text = "<script>alert(1)</script> \ud83d שלום 👩🏽‍💻 \u0000"
    body = {"to": "+37255555555", "messages": [{"channel": "sms", "text": text, "extra": [1]}], "priority": None}
    omnimessage_id = send(sandbox, body)

    assert sandbox.messages[0]["body"] == body
    assert sandbox.message(omnimessage_id) == sandbox.messages[0]


def test_a_hundred_senders_at_once_each_get_a_message_of_their_own(sandbox: Sandbox) -> None:
    with ThreadPoolExecutor(10) as pool:
        ids = list(pool.map(lambda _: send(sandbox, omnimessage()), range(100)))
    assert len(set(ids)) == len(sandbox.messages) == 100


def test_another_program_drives_the_sandbox_through_its_address(sandbox: Sandbox) -> None:
    send(sandbox, omnimessage())
    other = SandboxClient(sandbox.url, USERNAME, PASSWORD)

    assert other.advance(2) == NOON + timedelta(seconds=2)
    assert [message["state"] for message in other.messages] == ["delivered"]
    assert other.connection == sandbox.connection
    other.reset()
    assert sandbox.messages == sandbox.requests == sandbox.faults == []


def test_the_connection_is_airflows_own_json(sandbox: Sandbox) -> None:
    assert json.loads(sandbox.airflow_conn) == {
        "conn_type": "omnimessage",
        "login": USERNAME,
        "password": PASSWORD,
        "host": sandbox.url,
        "extra": {},
    }


def test_an_unknown_message_is_named_as_such(sandbox: Sandbox) -> None:
    with pytest.raises(ValueError, match="no such message"):
        sandbox.message(NOBODY)


def test_impossible_settings_are_refused_before_anything_starts() -> None:
    with pytest.raises(ValueError, match="delivery_seconds"):
        Sandbox(delivery_seconds=-1)
    with pytest.raises(RuntimeError, match="not running"):
        _ = Sandbox().url
