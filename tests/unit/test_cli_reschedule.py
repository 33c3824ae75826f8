"""The command ``reschedule``."""

from __future__ import annotations

from datetime import timedelta

import pytest

TO = "+37255555555"
UNKNOWN = "6bd8c1ee-6ac2-4eb5-a0a1-6d46b2f42ae6"


@pytest.mark.parametrize("order", ["cancel_first", "schedule_first"])
def test_reschedule_replaces_a_message(run, sandbox, scheduled, order):
    ended = run("reschedule", scheduled, "--to", TO, "--text", "b", "--in", "2h", "--order", order, "--output", "json")
    assert ended.code == 0
    assert [message["state"] for message in sandbox.messages] == ["cancelled", "scheduled"]
    assert ended.rows[0]["omnimessage_id"] == sandbox.messages[1]["omnimessage_id"]


def test_reschedule_that_is_too_late_says_so(run, sandbox, scheduled):
    sandbox.advance(timedelta(hours=2))
    ended = run("reschedule", scheduled, "--to", TO, "--text", "b", "--in", "2h", "--output", "json")
    assert ended.code == 4
    assert ended.rows[0]["omnimessage_id"] is None
    assert "sent already" in ended.rows[0]["result"]


CANCELLED = "The old message OLD is cancelled; "
SCHEDULED = "The new message NEW is scheduled; the old one, OLD, may be too"


@pytest.mark.parametrize(
    ("order", "call", "fault", "code", "said"),
    [
        ("cancel_first", "send", "rate_limited", 5, f"{CANCELLED}the new one is not scheduled"),
        ("cancel_first", "send", "unauthorized", 3, f"{CANCELLED}the new one is not scheduled"),
        ("cancel_first", "send", "lost_answer", 6, f"{CANCELLED}it is not certain that the new one is scheduled"),
        ("schedule_first", "cancel", "unauthorized", 6, SCHEDULED),
        ("schedule_first", "cancel", "rate_limited", 6, SCHEDULED),
    ],
)
def test_reschedule_that_fails_in_between_says_what_is_scheduled(
    run, sandbox, scheduled, order, call, fault, code, said
):
    sandbox.add_fault(fault, call=call, times="always", **({"retry_after": 500} if fault == "rate_limited" else {}))
    ended = run("reschedule", scheduled, "--to", TO, "--text", "b", "--in", "2h", "--order", order)
    assert ended.code == code
    assert said.replace("OLD", scheduled).replace("NEW", sandbox.messages[-1]["omnimessage_id"]) in ended.stderr


def test_reschedule_that_cannot_withdraw_the_new_message_names_it(run, sandbox, scheduled):
    sandbox.advance(timedelta(hours=2))
    sandbox.add_fault("unauthorized", call="cancel", times="always", after=1)
    ended = run("reschedule", scheduled, "--to", TO, "--text", "b", "--in", "2h", "--order", "schedule_first")
    new = sandbox.messages[-1]["omnimessage_id"]
    assert ended.code == 6
    assert f"The old message {scheduled} was sent; the new one, {new}, may be scheduled too" in ended.stderr
