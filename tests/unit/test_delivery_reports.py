"""What the statuses of all channels add up to, and when to poll for them."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reports import EVERY_STATUS, FAILED, T0, a_report

from airflow_provider_omnimessage.api.delivery import Outcome, confirmed_outcome
from airflow_provider_omnimessage.api.waiting import FLOOR, next_look, spread_of


def rule_4(statuses):
    """The rule, in its own words."""
    if "SEEN" in statuses:
        return Outcome.SEEN
    if "DELIVRD" in statuses:
        return Outcome.DELIVERED
    if statuses and set(statuses) <= set(FAILED):
        return Outcome.FAILED
    if statuses and set(statuses) == {"DELETED"}:
        return Outcome.CANCELLED
    return Outcome.IN_PROGRESS


class TestWhatAReportAddsUpTo:
    @pytest.mark.parametrize("channels", [0, 1, 2, 3, 4])
    def test_every_mix_of_every_status_follows_the_rule(self, channels):
        for statuses in itertools.product(EVERY_STATUS, repeat=channels):
            assert a_report(*statuses).outcome is rule_4(statuses), statuses

    @pytest.mark.parametrize("channels", [1, 2, 3])
    def test_a_failure_needs_a_second_look_that_found_the_same_and_nothing_else_does(self, channels):
        for statuses in itertools.product(EVERY_STATUS, repeat=channels):
            report = a_report(*statuses)
            expected = rule_4(statuses)
            first = Outcome.IN_PROGRESS if expected is Outcome.FAILED else expected
            assert confirmed_outcome(report, None) is first
            assert confirmed_outcome(report, report) is expected

    @pytest.mark.parametrize(
        ("before", "report", "outcome"),
        [
            # growing: a fallback began, and what it becomes has to be seen twice, too
            (["UNDELIV"], ["UNDELIV", None], Outcome.IN_PROGRESS),
            (["UNDELIV"], ["UNDELIV", "UNDELIV"], Outcome.IN_PROGRESS),
            (["UNDELIV", "EXPIRED"], ["UNDELIV", "EXPIRED"], Outcome.FAILED),
            (["UNDELIV"], ["UNDELIV", "DELIVRD"], Outcome.DELIVERED),
            # shrinking: what was there is gone
            (["UNDELIV", "UNDELIV"], ["UNDELIV"], Outcome.IN_PROGRESS),
            (["UNDELIV"], [], Outcome.IN_PROGRESS),
            ([], ["UNDELIV"], Outcome.IN_PROGRESS),
            ([], [], Outcome.IN_PROGRESS),
            # changing one's mind
            ([None], ["UNDELIV"], Outcome.IN_PROGRESS),
            (["UNDELIV"], ["ACK"], Outcome.IN_PROGRESS),
            (["UNDELIV"], ["FAILED"], Outcome.FAILED),
            (["DELIVRD"], ["UNDELIV"], Outcome.IN_PROGRESS),
            (["UNDELIV"], ["DELETED"], Outcome.CANCELLED),
            (["UNDELIV", "DELETED"], ["UNDELIV", "DELETED"], Outcome.IN_PROGRESS),
        ],
    )
    def test_reports_that_grow_and_shrink(self, before, report, outcome):
        assert confirmed_outcome(a_report(*report), a_report(*before)) is outcome

    def test_the_summary_is_small_plain_and_without_the_recipient(self):
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
    def test_what_is_not_known_is_left_open(self, timestamp):
        summary = a_report("DELIVRD", price="free", timestamp=timestamp).summary(T0)
        assert (summary["seconds_to_delivery"], summary["price"]) == (None, None)
        assert a_report("DELIVRD").summary(None)["seconds_to_delivery"] is None
        assert a_report(None).summary(T0)["delivered_by"] is None

    def test_it_is_said_channel_by_channel(self):
        assert str(a_report("UNDELIV", None, error="no such user")) == (
            "viber: UNDELIV (no such user); whatsapp: in progress (no such user)"
        )
        assert str(a_report()) == "no channel tried yet"


def looks_until(age, poke_interval=60.0, spread=0.5):
    ages = []
    now = 0.0
    while (now := next_look(now, poke_interval, spread)) <= age:
        ages.append(now)
    return ages


class TestWhenToLook:
    @pytest.mark.parametrize("spread", [0.0, 0.3, 0.999])
    def test_a_message_delivered_after_half_a_minute_takes_few_looks(self, spread):
        looks = looks_until(30, spread=spread)
        assert len(looks) + 1 <= 8
        assert looks[0] >= FLOOR

    def test_the_gap_grows_to_poke_interval_and_stays_there(self):
        looks = looks_until(3600)
        gaps = [after - before for before, after in itertools.pairwise(looks)]
        assert gaps[0] == FLOOR
        assert gaps[-1] == 60.0
        assert gaps == sorted(gaps)

    def test_nobody_asks_before_the_time(self):
        assert next_look(-3600, 60, 0.0) > 0

    @given(
        age=st.floats(-1e6, 1e6),
        poke_interval=st.floats(0.01, 1e5),
        spread=st.floats(0, 1, exclude_max=True),
    )
    def test_the_next_look_is_later_and_at_most_poke_interval_away(self, age, poke_interval, spread):
        look = next_look(age, poke_interval, spread)
        assert look > age or look - age == pytest.approx(0, abs=1e-6 * abs(age))
        if age >= 2 * poke_interval:
            assert look - age <= poke_interval * (1 + 1e-6)

    @given(age=st.floats(0, 1e5), spread=st.floats(0, 1, exclude_max=True))
    def test_whoever_comes_in_between_finds_the_same_next_look(self, age, spread):
        look = next_look(age, 60.0, spread)
        assert next_look((age + look) / 2, 60.0, spread) == pytest.approx(look)

    def test_a_thousand_messages_of_one_moment_are_spread(self):
        first = sorted(next_look(0, 60, spread_of(f"id-{n}")) for n in range(1000))
        assert first[-1] - first[0] > FLOOR * 0.9
        in_one_second = max(sum(1 for look in first if begin <= look < begin + 1) for begin in first)
        assert in_one_second < 300
