"""Delivery reports and replies that the sandbox posts, received by a real server on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import sandbox_calls
from report_receiver import ReportReceiver
from sandbox_calls import NOON, cancel

from airflow_provider_omnimessage.sandbox import Sandbox

PASSWORD = "pässword 🔑"
AT_ONE = {"time_to_send": "2026-11-24T13:00"}


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
def receiver() -> Iterator[ReportReceiver]:
    with ReportReceiver() as server:
        yield server


def send(sandbox: Sandbox, dlr_url: str, to: str = "+37255555555", **fields: Any) -> str:
    return sandbox_calls.send(sandbox, sandbox_calls.omnimessage(to, "viber", "sms", **{"dlr_url": dlr_url, **fields}))


def post_one(sandbox: Sandbox, url: str) -> None:
    """Schedule a message and cancel it, which posts exactly one report."""
    assert cancel(sandbox, send(sandbox, url, **AT_ONE)) == 202
    sandbox.advance(1)


def test_every_status_change_is_posted_in_order_before_advance_returns(
    sandbox: Sandbox, receiver: ReportReceiver
) -> None:
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


def test_posted_report_is_one_flat_object_with_a_price_signed_with_the_password(
    sandbox: Sandbox, receiver: ReportReceiver
) -> None:
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
        "price_info": {"part_price": "0.030", "parts_count": 1, "total_price": "0.030"},
    }
    assert [report["price_info"] for report in receiver.reports[:-1]] == [None, None]
    assert receiver.signed_with(PASSWORD) == [True] * 3
    assert receiver.headers[-1]["Content-Type"] == "application/json"
    assert receiver.paths[-1] == "/reports?from=sandbox"


def test_cancel_posts_a_deleted_report(sandbox: Sandbox, receiver: ReportReceiver) -> None:
    post_one(sandbox, receiver.url)
    sandbox.advance(7200)
    assert [report["status"] for report in receiver.reports] == ["DELETED"]


def test_reports_on_several_messages_arrive_in_order_of_time(sandbox: Sandbox, receiver: ReportReceiver) -> None:
    for minute in (3, 1, 2):
        send(sandbox, receiver.url, time_to_send=f"2026-11-24T12:0{minute}")
    sandbox.advance(600)

    assert len(receiver.reports) == 9
    times = [report["timestamp"] for report in receiver.reports]
    assert times == sorted(times)


def test_rejected_report_is_not_repeated(sandbox: Sandbox, receiver: ReportReceiver) -> None:
    receiver.statuses = [500]
    post_one(sandbox, receiver.url)
    sandbox.advance(86400)

    assert len(receiver.bodies) == 1
    (post,) = sandbox.messages[0]["posts"]
    assert (post["at"], post["response"], post["problem"]) == (NOON.isoformat(), 500, "the response was 500")


def test_unreachable_receiver_is_recorded(sandbox: Sandbox, receiver: ReportReceiver) -> None:
    receiver.stop()
    post_one(sandbox, receiver.url)

    (post,) = sandbox.messages[0]["posts"]
    assert post["response"] is None
    assert "refused" in post["problem"]


@pytest.mark.parametrize("status", [204, 301, 307, 399])
def test_status_up_to_399_counts_as_received_and_redirects_are_not_followed(
    sandbox: Sandbox, receiver: ReportReceiver, status: int
) -> None:
    receiver.statuses = [status]
    post_one(sandbox, receiver.url)

    assert receiver.paths == ["/reports?from=sandbox"]
    assert [(post["response"], post["problem"]) for post in sandbox.messages[0]["posts"]] == [(status, None)]


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
    post_one(sandbox, url)

    (post,) = sandbox.messages[0]["posts"]
    assert post["response"] is None
    assert post["problem"].startswith("rejected: not an address of this machine")
    reply = sandbox.reply("OK", url=url, secret="s", sender="+37255555555")
    assert (reply["response"], reply["problem"]) == (None, post["problem"])


@pytest.mark.parametrize("url", ["http://127.0.0.1:99999/", "http://[::1", "http://localhost:port/"])
def test_unusable_url_is_recorded_as_a_problem(sandbox: Sandbox, url: str) -> None:
    post_one(sandbox, url)
    assert [bool(post["problem"]) for post in sandbox.messages[0]["posts"]] == [True]


def statuses(receiver: ReportReceiver) -> list[str]:
    return [report["status"] for report in receiver.reports]


def test_dropped_report_is_never_posted(sandbox: Sandbox, receiver: ReportReceiver) -> None:
    sandbox.add_report_fault("dropped", status="DELIVRD")
    send(sandbox, receiver.url)
    sandbox.advance(86400)

    assert statuses(receiver) == ["ACK", "ACCEPTD"]
    last = sandbox.messages[0]["posts"][-1]
    assert (last["status"], last["fault"], last["response"], last["problem"]) == (
        "DELIVRD",
        "dropped",
        None,
        "not posted",
    )


def test_doubled_report_is_posted_twice(sandbox: Sandbox, receiver: ReportReceiver) -> None:
    sandbox.add_report_fault("doubled", status="ACCEPTD")
    send(sandbox, receiver.url)
    sandbox.advance(10)

    assert statuses(receiver) == ["ACK", "ACCEPTD", "ACCEPTD", "DELIVRD"]
    assert receiver.bodies[1] == receiver.bodies[2]


def test_reordered_report_is_posted_after_the_next_one(sandbox: Sandbox, receiver: ReportReceiver) -> None:
    sandbox.add_report_fault("reordered", status="ACCEPTD")
    send(sandbox, receiver.url)
    sandbox.advance(10)

    assert statuses(receiver) == ["ACK", "DELIVRD", "ACCEPTD"]


def test_reordering_all_reports_swaps_pairs(sandbox: Sandbox, receiver: ReportReceiver) -> None:
    sandbox.add_report_fault("reordered", times="always")
    send(sandbox, receiver.url, "+37255550003")
    sandbox.advance(60)

    assert statuses(receiver) == ["ACCEPTD", "ACK", "SEEN", "DELIVRD"]


def test_reordered_report_that_none_follows_is_posted_in_the_end(sandbox: Sandbox, receiver: ReportReceiver) -> None:
    sandbox.add_report_fault("reordered", status="DELIVRD", seconds=30)
    send(sandbox, receiver.url)

    sandbox.advance(31.9)
    assert statuses(receiver) == ["ACK", "ACCEPTD"]
    sandbox.advance(0.1)
    assert statuses(receiver) == ["ACK", "ACCEPTD", "DELIVRD"]


def test_delayed_report_is_posted_later_unchanged(sandbox: Sandbox, receiver: ReportReceiver) -> None:
    sandbox.add_report_fault("delayed", status="DELIVRD", seconds=3600)
    send(sandbox, receiver.url)

    sandbox.advance(3601)
    assert statuses(receiver) == ["ACK", "ACCEPTD"]
    sandbox.advance(1)
    assert (receiver.reports[-1]["status"], receiver.reports[-1]["timestamp"]) == ("DELIVRD", "2026-11-24T12:00:02")
    assert sandbox.messages[0]["posts"][-1]["fault"] == "delayed"


def test_report_is_delayed_only_once(sandbox: Sandbox, receiver: ReportReceiver) -> None:
    sandbox.add_report_fault("delayed", seconds=60, times="always")
    send(sandbox, receiver.url)
    sandbox.advance(70)

    assert statuses(receiver) == ["ACK", "ACCEPTD", "DELIVRD"]


def test_delayed_report_is_posted_by_a_running_clock(sandbox: Sandbox, receiver: ReportReceiver) -> None:
    sandbox.add_report_fault("delayed", seconds=0.05)
    omnimessage_id = send(sandbox, receiver.url, **AT_ONE)
    sandbox.resume()
    cancel(sandbox, omnimessage_id)
    while not sandbox.messages[0]["posts"]:
        pass
    assert statuses(receiver) == ["DELETED"]


def test_report_can_be_signed_wrongly_or_with_an_old_password(sandbox: Sandbox, receiver: ReportReceiver) -> None:
    sandbox.add_report_fault("wrong_signature")
    sandbox.add_report_fault("old_password", password="before")
    send(sandbox, receiver.url)
    sandbox.advance(10)

    assert receiver.signed_with(PASSWORD) == [False, False, True]
    assert receiver.signed_with("before") == [False, True, False]


def test_fault_can_apply_to_every_third_report_after_the_first(sandbox: Sandbox, receiver: ReportReceiver) -> None:
    sandbox.add_report_fault("dropped", status="DELIVRD", after=1, every=3, times="always")
    for _ in range(8):
        send(sandbox, receiver.url)
        sandbox.advance(10)

    dropped = [any(post["fault"] == "dropped" for post in message["posts"]) for message in sandbox.messages]
    assert dropped == [False, False, False, True, False, False, True, False]
    assert [fault["hits"] for fault in sandbox.report_faults] == [2]


def test_cleared_report_faults_no_longer_apply(sandbox: Sandbox, receiver: ReportReceiver) -> None:
    sandbox.add_report_fault("dropped", times="always")
    sandbox.clear_faults()
    post_one(sandbox, receiver.url)
    assert statuses(receiver) == ["DELETED"]
    assert sandbox.report_faults == []


@pytest.mark.parametrize(
    ("fault", "options", "problem"),
    [
        ("lost", {}, "fault: 'lost' does not exist; use one of dropped"),
        ("dropped", {"times": 0}, "times: 0 is not accepted"),
        ("dropped", {"after": -1}, "after: -1 is not accepted"),
        ("dropped", {"every": 0}, "every: 0 is not accepted"),
        ("delayed", {}, "seconds: is missing"),
        ("delayed", {"seconds": -1}, "seconds: -1 is not accepted"),
        ("old_password", {}, "password: is missing"),
    ],
)
def test_impossible_report_fault_is_rejected_with_the_reason(
    sandbox: Sandbox, fault: str, options: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        sandbox.add_report_fault(fault, **options)


def test_reset_drops_reports_that_were_still_to_come(sandbox: Sandbox, receiver: ReportReceiver) -> None:
    sandbox.add_report_fault("delayed", seconds=5)
    sandbox.add_report_fault("reordered", seconds=5)
    post_one(sandbox, receiver.url)
    post_one(sandbox, receiver.url)
    sandbox.reset()
    sandbox.freeze()
    sandbox.advance(86400)
    assert receiver.bodies == []


def test_reply_is_posted_with_the_secret_of_the_number(sandbox: Sandbox, receiver: ReportReceiver) -> None:
    receiver.statuses = [204]
    reply = sandbox.reply(
        "OK K7QF 👍", url=receiver.url, secret="numbers own", sender="+37255555555", recipient="+37250001111"
    )

    (received,) = receiver.reports
    assert {**received, "response": 204, "problem": None} == reply
    assert {name: value for name, value in received.items() if name not in ("msg_id", "sub_msg_id")} == {
        "channel": "sms",
        "recipient": "+37250001111",
        "time": "2026-11-24T12:00:00.000000Z",
        "text": "OK K7QF 👍",
        "sender": "+37255555555",
    }
    assert receiver.signed_with("numbers own") == [True]


def test_reply_can_repeat_an_earlier_one(sandbox: Sandbox, receiver: ReportReceiver) -> None:
    first = sandbox.reply("OK", url=receiver.url, secret="s", sender="+37255555555")
    second = sandbox.reply("OK", url=receiver.url, secret="s", sender="+37255555555", msg_id=first["msg_id"])
    other = sandbox.reply("OK", url=receiver.url, secret="s", sender="+37255555555")

    assert second["msg_id"] == first["msg_id"] != other["msg_id"]
