"""What happens to a message in the sandbox as its clock is moved, seen through Messente's API."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import pytest
from sandbox_calls import NOON, call, cancel, omnimessage, report, send, statuses

from airflow_provider_omnimessage.sandbox import Sandbox
from airflow_provider_omnimessage.sandbox.outcomes import OUTCOMES, planned_steps


@pytest.fixture(scope="module")
def running() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(running: Sandbox) -> Sandbox:
    running.reset()
    running.freeze()
    running.set_time(NOON)
    return running


def test_sms_is_delivered_in_two_seconds_after_ack_and_acceptd(sandbox: Sandbox) -> None:
    omnimessage_id = send(sandbox, omnimessage())

    seen = [statuses(sandbox, omnimessage_id)]
    for _ in range(4):
        sandbox.advance(0.5)
        seen.append(statuses(sandbox, omnimessage_id))

    assert [status for [(_, status)] in seen] == [None, "ACK", "ACCEPTD", "ACCEPTD", "DELIVRD"]
    assert sandbox.messages[0]["state"] == "delivered"


def test_delivery_report_has_all_fields_and_a_price_once_final(sandbox: Sandbox) -> None:
    omnimessage_id = send(sandbox, {**omnimessage(), "messages": [{"channel": "sms", "text": "ö" * 71}]})
    in_progress = report(sandbox, omnimessage_id)["statuses"][0]
    sandbox.advance(2)
    final = report(sandbox, omnimessage_id)

    assert (in_progress["status"], in_progress["err"], in_progress["error"], in_progress["price_info"]) == (None,) * 4
    assert final == {
        "omnimessage_id": omnimessage_id,
        "to": "+37255555555",
        "statuses": [
            {
                "omnimessage_id": omnimessage_id,
                "message_id": sandbox.messages[0]["message_ids"][0],
                "to": "+37255555555",
                "channel": "sms",
                "sender": "Sandbox",
                "status": "DELIVRD",
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
        ("0016", ["viber", "sms"], [("viber", "UNKNOWN")], "unknown"),
        ("1234", ["viber", "sms"], [("viber", "DELIVRD")], "delivered"),
    ],
)
def test_last_four_digits_choose_the_outcome(
    sandbox: Sandbox, ending: str, channels: list[str], expected: list[tuple[str, str]], state: str
) -> None:
    omnimessage_id = send(sandbox, omnimessage(f"+3725555{ending}", *channels))
    sandbox.advance(timedelta(days=30))

    assert statuses(sandbox, omnimessage_id) == expected
    assert sandbox.messages[0]["state"] == state


@pytest.mark.parametrize(
    ("ending", "status", "err", "error"),
    [
        ("0001", "UNDELIV", 1, "Delivery failure"),
        ("0007", "EXPIRED", 2, "Sending message expired"),
        ("0008", "REJECTD", 4, "Error crediting message"),
        ("0010", "REJECTD", 6, "Too many identical messages"),
        ("0011", "REJECTD", 7, "Sender name not allowed"),
        ("0012", "UNDELIV", 8, "Operator blacklisted"),
        ("0013", "UNDELIV", 9, "Unroutable"),
        ("0014", "FAILED", 999, "General temporary error"),
        ("0015", "NACK", 5, "Invalid number format"),
        ("0016", "UNKNOWN", 0, None),
        ("0017", "UNDELIV", 3, "Invalid number"),
    ],
)
def test_failures_carry_messentes_error_codes(
    sandbox: Sandbox, ending: str, status: str, err: int, error: str | None
) -> None:
    omnimessage_id = send(sandbox, omnimessage(f"+3725555{ending}"))
    sandbox.advance(2)

    (entry,) = report(sandbox, omnimessage_id)["statuses"]
    assert (entry["status"], entry["err"], entry["error"]) == (status, err, error)
    assert entry["price_info"]["parts_count"] == 1


def test_no_special_number_ends_in_9() -> None:
    """Tests of bulk sends use thousands of ordinary recipients that do."""
    assert not [ending for ending in OUTCOMES if ending.endswith("9")]


@pytest.mark.parametrize(
    ("second", "sent_after", "outcome"),
    [
        (omnimessage("+37255550018"), timedelta(minutes=59), ("REJECTD", 6)),
        (omnimessage("+37255550018"), timedelta(hours=1), ("DELIVRD", 0)),
        ({"to": "+37255550018", "messages": [{"channel": "sms", "text": "other"}]}, timedelta(0), ("DELIVRD", 0)),
        (omnimessage("+37255550018", "whatsapp"), timedelta(0), ("DELIVRD", 0)),
        (omnimessage("+37266660018"), timedelta(0), ("DELIVRD", 0)),
    ],
    ids=["within an hour", "after an hour", "another text", "another channel", "another number"],
)
def test_same_text_to_a_number_ending_in_0018_is_rejected_for_an_hour(
    sandbox: Sandbox, second: dict[str, object], sent_after: timedelta, outcome: tuple[str, int]
) -> None:
    send(sandbox, omnimessage("+37255550018"))
    sandbox.advance(sent_after)
    omnimessage_id = send(sandbox, second)
    sandbox.advance(2)

    entry = report(sandbox, omnimessage_id)["statuses"][0]
    assert (entry["status"], entry["err"]) == outcome
    assert sandbox.messages[0]["state"] == "delivered"


def test_other_numbers_accept_repeated_text_unless_the_sandbox_blocks_it(sandbox: Sandbox) -> None:
    for _ in range(2):
        send(sandbox, omnimessage())
    sandbox.advance(2)
    assert [message["state"] for message in sandbox.messages] == ["delivered", "delivered"]

    with Sandbox(block_repeated_text=True) as strict:
        strict.freeze()
        for _ in range(2):
            send(strict, omnimessage())
        strict.advance(2)
        assert [message["state"] for message in strict.messages] == ["delivered", "failed"]


def test_fallback_channel_is_tried_once_the_first_has_failed(sandbox: Sandbox) -> None:
    omnimessage_id = send(sandbox, omnimessage("+37255550002", "viber", "sms"))

    sandbox.advance(1.9)
    assert statuses(sandbox, omnimessage_id) == [("viber", "ACCEPTD")]
    sandbox.advance(0.1)
    assert statuses(sandbox, omnimessage_id) == [("viber", "UNDELIV"), ("sms", None)]
    sandbox.advance(2)
    assert statuses(sandbox, omnimessage_id) == [("viber", "UNDELIV"), ("sms", "DELIVRD")]


@pytest.mark.parametrize("lifetime", [{"ttl": 60}, {"validity": 1}])
def test_channel_expires_after_its_lifetime_and_the_next_is_tried(sandbox: Sandbox, lifetime: dict[str, int]) -> None:
    body = omnimessage("+37255550004", "viber", "sms")
    body["messages"][0] = {**body["messages"][0], **lifetime}
    omnimessage_id = send(sandbox, body)

    sandbox.advance(59.9)
    assert statuses(sandbox, omnimessage_id) == [("viber", "ACCEPTD")]
    sandbox.advance(0.1)
    assert statuses(sandbox, omnimessage_id) == [("viber", "EXPIRED"), ("sms", None)]


def test_lifetime_has_no_effect_after_delivery(sandbox: Sandbox) -> None:
    body = omnimessage("+37255550003", "viber", "sms")
    body["messages"][0] = {**body["messages"][0], "ttl": 2}
    omnimessage_id = send(sandbox, body)
    sandbox.advance(100)

    assert statuses(sandbox, omnimessage_id) == [("viber", "SEEN")]


def test_lifetime_has_no_effect_between_delivery_and_reading() -> None:
    steps = planned_steps("+37255550003", channel="viber", position=0, lifetime=1.6, delivery_seconds=2)
    assert [step.status for step in steps] == ["ACK", "ACCEPTD", "DELIVRD", "SEEN"]


def test_huge_lifetime_is_accepted(sandbox: Sandbox) -> None:
    body = omnimessage("+37255550004", "viber", "sms")
    body["messages"][0] = {**body["messages"][0], "ttl": 10**30}
    assert statuses(sandbox, send(sandbox, body)) == [("viber", None)]


@pytest.mark.parametrize(
    "time_to_send",
    ["2026-11-24T13:00", "2026-11-24T13:00:00Z", "2026-11-24T15:00:00+02:00", "2026-11-24T08:00:00-05:00"],
)
def test_scheduled_message_is_sent_at_its_time(sandbox: Sandbox, time_to_send: str) -> None:
    omnimessage_id = send(sandbox, omnimessage(time_to_send=time_to_send))

    sandbox.advance(3599.999)
    message = sandbox.messages[0]
    assert (message["state"], message["time_to_send"]) == ("scheduled", "2026-11-24T13:00:00+00:00")
    assert statuses(sandbox, omnimessage_id) == [("sms", None)]

    sandbox.advance(0.001)
    assert sandbox.messages[0]["sent_at"] == "2026-11-24T13:00:00+00:00"
    sandbox.advance(2)
    assert statuses(sandbox, omnimessage_id) == [("sms", "DELIVRD")]


def test_time_in_the_past_sends_immediately_with_a_note(sandbox: Sandbox) -> None:
    send(sandbox, omnimessage(time_to_send="2026-11-24T11:59:59"))

    message = sandbox.messages[0]
    assert message["sent_at"] == NOON.isoformat()
    assert message["notes"] == ["time_to_send was in the past: sent immediately"]


def test_unknown_fields_are_accepted_and_reported(sandbox: Sandbox) -> None:
    body = omnimessage(time_to_sent="2026-11-24T13:00")
    body["messages"][0] = {**body["messages"][0], "sendr": None}
    body["messages"].append({"channel": "whatsapp", "image": {"id": "1", "captoin": "c"}})
    send(sandbox, body)

    unknown = ["sms.sendr", "whatsapp.image.captoin", "time_to_sent"]
    assert sandbox.messages[0]["unknown_fields"] == unknown
    assert sandbox.messages[0]["notes"] == [f"Unknown fields, ignored: {', '.join(unknown)}"]


@pytest.mark.parametrize(
    ("autoconvert", "parts", "notes"),
    [
        ({}, 2, []),
        ({"autoconvert": "off"}, 2, []),
        ({"autoconvert": "on"}, 2, []),
        ({"autoconvert": "full"}, 1, ['autoconvert changed the SMS to: "Tere ohtust" - ' + "a" * 80]),
    ],
    ids=["default", "off", "on", "full"],
)
def test_full_autoconvert_lowers_parts_and_price(
    sandbox: Sandbox, autoconvert: dict[str, str], parts: int, notes: list[str]
) -> None:
    text = "“Tere õhtust” – " + "a" * 80
    body = {**omnimessage(), "messages": [{"channel": "sms", "text": text, **autoconvert}]}
    omnimessage_id = send(sandbox, body)
    sandbox.advance(2)

    price = report(sandbox, omnimessage_id)["statuses"][0]["price_info"]
    assert (price["parts_count"], price["total_price"]) == (parts, f"{parts * 0.05:.3f}")
    assert sandbox.messages[0]["notes"] == notes


def test_scheduled_message_can_be_cancelled_once_and_is_never_sent(sandbox: Sandbox) -> None:
    omnimessage_id = send(sandbox, omnimessage("+37255555555", "viber", "sms", time_to_send="2026-11-24T13:00"))
    sandbox.advance(60)

    first = call(sandbox, "DELETE", f"/omnimessage/{omnimessage_id}")
    second = call(sandbox, "DELETE", f"/omnimessage/{omnimessage_id}")
    sandbox.advance(7200)

    assert (first.status_code, first.headers["Content-Type"], first.json()) == (202, "application/json", {})
    assert second.status_code == 404
    message = sandbox.messages[0]
    assert (message["state"], message["sent_at"]) == ("cancelled", None)
    assert message["cancelled_at"] == "2026-11-24T12:01:00+00:00"
    assert statuses(sandbox, omnimessage_id) == [("viber", "DELETED")]


@pytest.mark.parametrize("fields", [{}, {"time_to_send": "2026-11-24T13:00"}])
def test_sent_message_cannot_be_cancelled(sandbox: Sandbox, fields: dict[str, str]) -> None:
    omnimessage_id = send(sandbox, omnimessage(**fields))
    sandbox.advance(3600)

    response = call(sandbox, "DELETE", f"/omnimessage/{omnimessage_id}")

    assert response.status_code == 404
    assert response.json()["errors"][0]["code"] == "101"
    assert sandbox.messages[0]["state"] != "cancelled"


def test_late_cancel_returns_404_and_the_message_is_sent_once(sandbox: Sandbox) -> None:
    omnimessage_id = send(sandbox, omnimessage("+37255550006", time_to_send="2026-11-24T13:00"))

    assert cancel(sandbox, omnimessage_id) == 404
    assert sandbox.messages[0]["sent_at"] == NOON.isoformat()
    sandbox.advance(7200)
    assert sandbox.messages[0]["sent_at"] == NOON.isoformat()
    assert statuses(sandbox, omnimessage_id) == [("sms", "DELIVRD")]


def test_events_happen_in_order_and_at_their_time_however_far_the_clock_moves(sandbox: Sandbox) -> None:
    late = send(sandbox, omnimessage(time_to_send="2026-11-24T14:00"))
    early = send(sandbox, omnimessage("+37255550002", "viber", "sms", time_to_send="2026-11-24T13:00"))

    sandbox.set_time(datetime(2026, 11, 25))

    by_id = {message["omnimessage_id"]: message for message in sandbox.messages}
    assert by_id[late]["sent_at"] == "2026-11-24T14:00:00+00:00"
    assert [s["timestamp"] for s in by_id[early]["statuses"]] == ["2026-11-24T13:00:02", "2026-11-24T13:00:04"]
    assert sandbox.now == datetime(2026, 11, 25, tzinfo=timezone.utc)


def test_clock_advances_to_the_next_scheduled_message(sandbox: Sandbox) -> None:
    cancelled = send(sandbox, omnimessage(time_to_send="2026-11-24T13:00"))
    send(sandbox, omnimessage(time_to_send="2026-11-24T14:00"))
    cancel(sandbox, cancelled)

    assert sandbox.advance_to_next_message() == NOON + timedelta(hours=2)
    assert sandbox.messages[1]["state"] == "in_progress"
    assert sandbox.advance_to_next_message() == NOON + timedelta(hours=2)


def test_moving_the_clock_back_undoes_nothing(sandbox: Sandbox) -> None:
    send(sandbox, omnimessage())
    sandbox.advance(2)
    sandbox.set_time(NOON - timedelta(days=1))
    assert sandbox.messages[0]["state"] == "delivered"


def test_running_clock_delivers_without_being_moved() -> None:
    with Sandbox(delivery_seconds=0.05) as sandbox:
        omnimessage_id = send(sandbox, omnimessage())
        while statuses(sandbox, omnimessage_id) != [("sms", "DELIVRD")]:
            pass
        assert sandbox.now - datetime.now(timezone.utc) < timedelta(minutes=1)


def test_resumed_clock_runs_on_from_where_it_was_frozen(sandbox: Sandbox) -> None:
    assert sandbox.now == sandbox.now == NOON
    sandbox.resume()
    assert NOON <= sandbox.now < NOON + timedelta(minutes=5)
    assert sandbox.freeze() == sandbox.now


@pytest.mark.parametrize("by", [-1, timedelta(seconds=-1), float("1e11")])
def test_clock_rejects_negative_and_excessive_moves(sandbox: Sandbox, by: float | timedelta) -> None:
    with pytest.raises(ValueError, match="advance"):
        sandbox.advance(by)
    with pytest.raises(ValueError, match="9500 is too far in the future"):
        sandbox.set_time(datetime(9500, 1, 1))
