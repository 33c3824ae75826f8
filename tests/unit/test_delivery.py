"""What a delivery report adds up to, and when the next poll is."""

from __future__ import annotations

import itertools
import json

import pytest
from awaiting import T0, a_report
from full_size import first
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_omnimessage.api.delivery import (
    CONFIRM_FAILED_AFTER,
    CONFIRM_UNKNOWN_AFTER,
    Outcome,
)
from airflow_provider_omnimessage.api.poll_times import SHORTEST_GAP, next_poll, spread_of

IN_PROGRESS = (None, "ACK", "ACCEPTD")
FAILED = ("UNDELIV", "FAILED", "REJECTD", "EXPIRED", "NACK")
UNKNOWN = ("UNKNOWN", "BRAND_NEW", "delivrd", "")
EVERY_STATUS = (*IN_PROGRESS, *FAILED, *UNKNOWN, "DELIVRD", "SEEN", "DELETED")


def rule_4(statuses):
    """The rule, in its own words."""
    if "SEEN" in statuses:
        return Outcome.SEEN
    if "DELIVRD" in statuses:
        return Outcome.DELIVERED
    if statuses and set(statuses) == {"DELETED"}:
        return Outcome.CANCELLED
    if statuses and all(status in FAILED or status == "DELETED" for status in statuses):
        return Outcome.FAILED
    return Outcome.IN_PROGRESS


class TestWhatAReportAddsUpTo:
    @pytest.mark.parametrize("channels", first(3, [0, 1, 2, 3, 4]))
    def test_every_combination_of_statuses_follows_the_rule(self, channels):
        for statuses in itertools.product(EVERY_STATUS, repeat=channels):
            assert a_report(*statuses).outcome is rule_4(statuses), statuses

    @pytest.mark.parametrize("channels", [1, 2, 3])
    def test_only_ended_channels_can_be_a_failure_and_unknown_takes_longer(self, channels):
        for statuses in itertools.product(EVERY_STATUS, repeat=channels):
            seconds = a_report(*statuses).seconds_to_confirm
            if rule_4(statuses) is Outcome.FAILED:
                assert seconds == CONFIRM_FAILED_AFTER
            elif "UNKNOWN" in statuses and set(statuses) <= {*FAILED, "DELETED", "UNKNOWN"}:
                assert seconds == CONFIRM_UNKNOWN_AFTER
            else:
                assert seconds is None, statuses

    def test_the_summary_is_small_plain_data_without_the_recipient(self):
        report = a_report("UNDELIV", "DELIVRD", error="+37255555555 is gone", price="0.050")
        summary = report.summary(T0)
        assert json.loads(json.dumps(summary)) == summary
        assert summary == {
            "omnimessage_id": "m-1",
            "outcome": "delivered",
            "delivered_by": "whatsapp",
            "seconds_to_delivery": 7.0,
            "price": "0.1",
            "channels": [
                {"channel": "viber", "status": "UNDELIV", "error": "+37255•••55 is gone", "err": 1},
                {"channel": "whatsapp", "status": "DELIVRD", "error": "+37255•••55 is gone", "err": 1},
            ],
        }

    @pytest.mark.parametrize("timestamp", [None, "", "soon"])
    def test_what_is_not_known_is_none(self, timestamp):
        summary = a_report("DELIVRD", price="free", timestamp=timestamp).summary(T0)
        assert (summary["seconds_to_delivery"], summary["price"]) == (None, None)
        assert a_report("DELIVRD").summary(None)["seconds_to_delivery"] is None
        assert a_report(None).summary(T0)["delivered_by"] is None
        assert a_report("DELIVRD", timestamp=timestamp).changed_at is None

    def test_its_text_names_each_channel(self):
        assert str(a_report("UNDELIV", None, error="no such user")) == (
            "viber: UNDELIV (no such user); whatsapp: in progress (no such user)"
        )
        assert str(a_report()) == "no channel tried yet"


def polls_until(age, poke_interval=60.0, spread=0.5):
    ages = []
    now = 0.0
    while (now := next_poll(now, poke_interval, spread)) <= age:
        ages.append(now)
    return ages


class TestWhenToPoll:
    @pytest.mark.parametrize("spread", [0.0, 0.3, 0.999])
    def test_a_message_delivered_after_half_a_minute_takes_few_polls(self, spread):
        polls = polls_until(30, spread=spread)
        assert len(polls) + 1 <= 8
        assert polls[0] >= SHORTEST_GAP

    def test_the_gap_grows_to_poke_interval_and_stays_there(self):
        polls = polls_until(3600)
        gaps = [after - before for before, after in itertools.pairwise(polls)]
        assert gaps[0] == SHORTEST_GAP
        assert gaps[-1] == 60.0
        assert gaps == sorted(gaps)

    def test_there_is_no_poll_before_time_to_send(self):
        assert next_poll(-3600, 60, 0.0) > 0

    @given(
        age=st.floats(-1e6, 1e6),
        poke_interval=st.floats(0.01, 1e5),
        spread=st.floats(0, 1, exclude_max=True),
    )
    def test_the_next_poll_is_later_and_at_most_poke_interval_away(self, age, poke_interval, spread):
        poll = next_poll(age, poke_interval, spread)
        assert poll > age or poll - age == pytest.approx(0, abs=1e-6 * abs(age))
        if age >= 2 * poke_interval:
            assert poll - age <= poke_interval * (1 + 1e-6)

    @given(age=st.floats(0, 1e5), spread=st.floats(0, 1, exclude_max=True))
    def test_a_process_that_starts_in_between_finds_the_same_next_poll(self, age, spread):
        poll = next_poll(age, 60.0, spread)
        assert next_poll((age + poll) / 2, 60.0, spread) == pytest.approx(poll)

    def test_a_thousand_messages_for_one_time_are_spread(self):
        first = sorted(next_poll(0, 60, spread_of(f"id-{n}")) for n in range(1000))
        assert first[-1] - first[0] > SHORTEST_GAP * 0.9
        in_one_second = max(sum(1 for poll in first if begin <= poll < begin + 1) for begin in first)
        assert in_one_second < 300
