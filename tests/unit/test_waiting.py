"""The rules of a wait: when to poll, what a report means, and when the wait is over."""

from __future__ import annotations

import itertools
import json
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_omnimessage.api import backoff
from airflow_provider_omnimessage.api.awaited_message import AwaitedMessage
from airflow_provider_omnimessage.api.delivery import (
    CONFIRM_FAILED_AFTER,
    CONFIRM_UNKNOWN_AFTER,
    DeliveryReport,
    Outcome,
)
from airflow_provider_omnimessage.api.errors import (
    AuthenticationError,
    DeadlineExceededError,
    InvalidInputError,
    LostResponseError,
    NotFoundError,
    NotSentError,
    RateLimitedError,
    RejectedError,
    ServerError,
    UnexpectedResponseError,
    UntrustedError,
)
from airflow_provider_omnimessage.api.poll_times import SHORTEST_GAP, next_poll, spread_of
from airflow_provider_omnimessage.api.wait_result import Ending, WaitResult
from airflow_provider_omnimessage.api.waiting import Wait

T0 = datetime(2026, 11, 23, 9, 0, tzinfo=timezone.utc)
CHANNELS = ("viber", "whatsapp", "rcs", "sms")
IN_PROGRESS = (None, "ACK", "ACCEPTD")
FAILED = ("UNDELIV", "FAILED", "REJECTD", "EXPIRED", "NACK")
UNKNOWN = ("UNKNOWN", "BRAND_NEW", "delivrd", "")
EVERY_STATUS = (*IN_PROGRESS, *FAILED, *UNKNOWN, "DELIVRD", "SEEN", "DELETED")


def a_report(*statuses, error=None, price=None, timestamp="2026-11-23T09:00:07", omnimessage_id="m-1"):
    return DeliveryReport.read(
        {
            "omnimessage_id": omnimessage_id,
            "to": "+37255555555",
            "statuses": [
                {
                    "status": status,
                    "channel": channel,
                    "message_id": f"id-{channel}",
                    "error": error,
                    "err": 1 if error else 0,
                    "timestamp": timestamp,
                    "price_info": price and {"total_price": price},
                }
                for status, channel in zip(statuses, CHANNELS, strict=False)
            ],
        }
    )


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
    @pytest.mark.parametrize("channels", [0, 1, 2, 3, 4])
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


def a_wait(*ids, time_to_send=T0, seconds=36_000, poke_interval=60.0, **settings):
    """Make a wait that began an hour before its messages are sent, and ends ``seconds`` after."""
    messages = [AwaitedMessage(id_, time_to_send) for id_ in ids or ("m-1",)]
    begin = T0 - timedelta(hours=1)
    wait = Wait(messages, since=begin, deadline=at(seconds), poke_interval=poke_interval, **settings)
    wait.start(begin)
    return wait


def at(seconds):
    return T0 + timedelta(seconds=seconds)


def record(wait, message, report, now):
    """Record a report as if it were about this message."""
    body = {"omnimessage_id": message.omnimessage_id, "statuses": [status._asdict() for status in report.statuses]}
    return wait.record_report(message, DeliveryReport.read(body), now)


class TestAWait:
    def test_nothing_is_due_before_its_time(self):
        wait = a_wait()
        assert wait.due(at(-1)) == []
        assert wait.due(at(10)) == wait.messages

    def test_a_poll_exactly_on_time_is_not_repeated(self):
        wait = a_wait(*(f"m-{n}" for n in range(50)))
        for message in wait.messages:
            for _ in range(20):
                poll = message.next_poll
                record(wait, message, a_report(None), poll)
                assert message.next_poll > poll + timedelta(seconds=1)

    def test_messages_that_were_sent_can_be_polled_first(self):
        wait = a_wait()
        wait.start(at(3), poll_first=True)
        assert wait.due(at(3)) == wait.messages

    def test_delivered_is_the_end(self):
        wait = a_wait()
        news = wait.record_report(wait.messages[0], a_report("DELIVRD"), at(10))
        assert "viber: DELIVRD" in news
        assert wait.result.ending is Ending.FULFILLED
        assert wait.result.reports[0]["outcome"] == "delivered"
        assert wait.next_poll is None

    def test_each_change_is_news_once(self):
        wait = a_wait()
        (message,) = wait.messages
        reports = [a_report(None), a_report(None), a_report("ACK"), a_report("ACK"), a_report("UNDELIV", None)]
        news = [wait.record_report(message, report, at(10 * n)) for n, report in enumerate(reports)]
        assert [item is not None for item in news] == [True, False, True, False, True]

    def test_an_outage_is_news_once_and_its_end_again(self):
        wait = a_wait()
        (message,) = wait.messages
        news = [wait.record_error(message, ServerError("broken", status_code=503), at(n)) for n in (10, 20)]
        news.append(wait.record_report(message, a_report(None), at(30)))
        assert [item is not None for item in news] == [True, False, True]

    @pytest.mark.parametrize(
        "error",
        [
            ServerError("", status_code=503),
            LostResponseError(""),
            NotSentError(""),
            DeadlineExceededError(""),
            RateLimitedError("", status_code=429),
            UnexpectedResponseError("a gateway's page", status_code=200),
        ],
    )
    def test_a_transient_error_does_not_end_it(self, error):
        wait = a_wait()
        wait.record_error(wait.messages[0], error, at(30_000))
        assert wait.result is None

    @pytest.mark.parametrize(
        "error",
        [
            AuthenticationError("who are you", status_code=401),
            RejectedError("no", status_code=400),
            UntrustedError("an unknown issuer"),
            UnexpectedResponseError("elsewhere", status_code=307, maybe_processed=False),
        ],
    )
    def test_a_permanent_error_ends_it(self, error):
        wait = a_wait()
        wait.record_error(wait.messages[0], error, at(10))
        assert wait.result.ending is Ending.ERROR
        assert str(error) in wait.result.reason
        assert wait.result.reports[0]["outcome"] == "unknown"

    def test_a_404_is_retried_in_the_first_minute_and_an_error_later(self):
        wait = a_wait()
        missing = NotFoundError("not found", status_code=404, codes=["101"])
        wait.record_error(wait.messages[0], missing, at(10))
        assert wait.result is None
        wait.record_error(wait.messages[0], missing, at(61))
        assert wait.result.ending is Ending.ERROR
        assert "unknown to Messente" in wait.result.reason

    def test_a_report_about_another_message_is_not_taken_for_its_own(self):
        wait = a_wait()
        news = wait.record_report(wait.messages[0], a_report("DELIVRD", omnimessage_id="m-2"), at(10))
        assert "the response is about m-2" in news
        assert wait.result is None
        assert wait.messages[0].report is None
        wait.record_report(wait.messages[0], a_report("DELIVRD", omnimessage_id=""), at(20))
        assert wait.result.ending is Ending.FULFILLED

    def test_after_a_429_a_message_stays_due_but_for_the_pause(self):
        wait = a_wait("m-1", "m-2")
        wait.record_error(wait.messages[0], RateLimitedError("", status_code=429), at(10))
        assert wait.messages[0] in wait.due(at(10))
        wait.pause(at(100))
        wait.pause(at(50))
        assert wait.due(at(99)) == []
        assert wait.next_poll == at(100)
        assert set(map(id, wait.due(at(100)))) == set(map(id, wait.messages))

    def test_delivered_is_not_seen_unless_no_channel_could_report_it(self):
        wait = a_wait(wait_for="seen")
        (message,) = wait.messages
        wait.record_report(message, a_report("DELIVRD"), at(10))
        assert wait.result is None
        wait.record_report(message, a_report("SEEN"), at(20))
        assert wait.result.ending is Ending.FULFILLED

    def test_waiting_for_seen_fails_if_only_sms_has_delivered(self):
        wait = a_wait(wait_for="seen")
        wait.record_report(wait.messages[0], a_report("EXPIRED", "UNDELIV", "NACK", "DELIVRD"), at(10))
        assert wait.result.ending is Ending.FAILED
        assert "cannot report whether it was read" in wait.result.reason
        assert wait.result.reports[0]["outcome"] == "delivered"

    def test_a_timeout_names_the_state_of_each_message(self):
        wait = a_wait("m-1", "m-2", "m-3")
        wait.record_report(wait.messages[0], a_report("UNDELIV", None), at(10))
        wait.record_error(wait.messages[1], ServerError("server error (503)", status_code=503), at(10))
        result = wait.timed_out("the timeout of 0:10:00")
        assert result.ending is Ending.TIMED_OUT
        assert result.reason == (
            "Not delivered within the timeout of 0:10:00: m-1: viber: UNDELIV; whatsapp: in progress; "
            "m-2: no report yet, polling again: server error (503); "
            "m-3: not polled before 2026-11-23 09:00:00 UTC"
        )

    def test_what_a_report_from_elsewhere_needs(self):
        """A receiver of pushed reports can end a wait, or make one of its messages due."""
        wait = a_wait("m-1", "m-2")
        assert wait.find("m-3") is None
        wait.make_due(wait.find("m-2"), at(-10))
        assert wait.due(at(1)) == [], "not before its time"
        wait.make_due(wait.find("m-2"), at(1))
        assert wait.due(at(1)) == [wait.messages[1]]
        wait.record_report(wait.find("m-2"), a_report("DELIVRD", omnimessage_id="m-2"), at(2))
        wait.make_due(wait.find("m-2"), at(3))
        assert wait.due(at(3)) == []


class TestAFailureIsConfirmed:
    def test_by_a_second_poll_five_seconds_later(self):
        wait = a_wait()
        (message,) = wait.messages
        wait.record_report(message, a_report("UNDELIV", error="no such user"), at(10))
        assert wait.needs_confirmation
        assert wait.next_poll == at(10 + CONFIRM_FAILED_AFTER)
        wait.record_report(message, a_report("UNDELIV", error="no such user"), at(15))
        assert wait.result.ending is Ending.FAILED
        assert wait.result.reason == "m-1 failed (viber: UNDELIV (no such user))"

    @pytest.mark.parametrize("poke_interval", [0.05, 1.0, 60.0])
    def test_whatever_poke_interval_is(self, poke_interval):
        wait = a_wait(poke_interval=poke_interval)
        (message,) = wait.messages
        wait.record_report(message, a_report("UNDELIV"), at(1))
        assert wait.next_poll == at(6)
        for seconds in (1.05, 2, 5.9):
            wait.record_report(message, a_report("UNDELIV"), at(seconds))
            assert wait.result is None
        wait.record_report(message, a_report("UNDELIV", "DELIVRD"), at(6))
        assert wait.result.ending is Ending.FULFILLED

    def test_at_the_deadline_a_failure_that_is_not_confirmed_is_a_timeout(self):
        wait = a_wait(seconds=12)
        (message,) = wait.messages
        wait.record_report(message, a_report("UNDELIV"), at(10))
        wait.record_report(message, a_report("UNDELIV"), at(12))
        result = wait.result or wait.timed_out("the timeout")
        assert result.ending is Ending.TIMED_OUT
        assert "viber: UNDELIV" in result.reason
        assert result.reports[0]["outcome"] == "in_progress"

    @pytest.mark.parametrize(
        ("statuses", "ending"),
        [
            # a fallback began, and its own outcome has to be seen twice, too
            ([["UNDELIV"], ["UNDELIV", "UNDELIV"]], None),
            ([["UNDELIV"], ["UNDELIV", "UNDELIV"], ["UNDELIV", "UNDELIV"]], Ending.FAILED),
            ([["UNDELIV"], ["UNDELIV", None]], None),
            ([["UNDELIV"], ["UNDELIV", "DELIVRD"]], Ending.FULFILLED),
            # a channel is gone from the report
            ([["UNDELIV", "UNDELIV"], ["UNDELIV"]], None),
            ([["UNDELIV"], []], None),
            ([[], ["UNDELIV"]], None),
            # a status changes
            ([[None], ["UNDELIV"]], None),
            ([["UNDELIV"], ["ACK"], ["UNDELIV"]], None),
            ([["UNDELIV"], ["FAILED"]], Ending.FAILED),
            ([["UNDELIV"], ["DELETED"]], Ending.CANCELLED),
            ([["UNDELIV", "DELETED"]], None),
            ([["UNDELIV", "DELETED"], ["UNDELIV", "DELETED"]], Ending.FAILED),
            # the carrier finds out
            ([["UNKNOWN"], ["UNDELIV"]], None),
            ([["UNKNOWN"], ["UNKNOWN"]], None),
            ([["UNKNOWN"], ["DELIVRD"]], Ending.FULFILLED),
            ([["BRAND_NEW"], ["BRAND_NEW"]], None),
        ],
    )
    def test_reports_that_change(self, statuses, ending):
        wait = a_wait()
        (message,) = wait.messages
        for number, each in enumerate(statuses):
            if message.ending is None:
                wait.record_report(message, a_report(*each), at(10 + 5 * number))
        assert message.ending is ending

    @pytest.mark.parametrize("statuses", [["UNKNOWN"], ["UNDELIV", "UNKNOWN"], ["UNKNOWN", "DELETED"]])
    def test_unknown_ends_after_a_bounded_time(self, statuses):
        wait = a_wait()
        (message,) = wait.messages
        now, polls = at(10), 0
        while wait.result is None:
            wait.record_report(message, a_report(*statuses, timestamp=None), now)
            polls += 1
            if wait.result is None:
                assert now < wait.next_poll <= at(10 + CONFIRM_UNKNOWN_AFTER)
                now = wait.next_poll
        assert now == at(10 + CONFIRM_UNKNOWN_AFTER)
        assert polls > 5, "the carrier may still find out"
        assert wait.result.ending is Ending.FAILED
        assert wait.result.reports[0]["outcome"] == "failed"

    def test_a_process_that_starts_late_reads_from_the_report_since_when_it_is_unknown(self):
        wait = a_wait()
        wait.record_report(wait.messages[0], a_report("UNKNOWN", timestamp="2026-11-23T09:00:07"), at(1000))
        assert wait.result.ending is Ending.FAILED

    def test_an_unknown_status_is_in_progress_forever(self):
        wait = a_wait()
        for seconds in range(0, 30_000, 600):
            wait.record_report(wait.messages[0], a_report("BRAND_NEW"), at(seconds))
        assert wait.result is None


class TestTheLastPoll:
    @given(seconds=st.floats(10, 1e6), poke_interval=st.floats(1, 1e6))
    def test_it_comes_shortly_before_the_deadline(self, seconds, poke_interval):
        wait = a_wait(seconds=seconds, poke_interval=poke_interval)
        (message,) = wait.messages
        last = None
        for _ in range(100_000):
            if wait.next_poll > wait.deadline:
                break
            last = wait.next_poll
            wait.start(last)  # skips ahead: the schedule follows from the time alone
            wait.record_report(message, a_report(None), max(last, at(seconds - 2 * poke_interval - 20)))
        assert last is not None
        assert wait.deadline - last <= timedelta(seconds=5)

    def test_it_is_spread_for_many_waits_with_one_deadline(self):
        polls = []
        for number in range(200):
            wait = a_wait(f"m-{number}", poke_interval=36_000)
            record(wait, wait.messages[0], a_report(None), at(30_000))
            polls.append(wait.next_poll)
        assert len(set(polls)) == 200
        assert max(polls) - min(polls) > timedelta(seconds=2)

    def test_it_never_comes_before_the_message_is_sent(self):
        wait = a_wait(time_to_send=at(100), seconds=101)
        assert wait.next_poll > at(100)
        wait = a_wait(time_to_send=at(100), seconds=99)
        assert wait.due(at(99)) == []

    def test_a_process_that_starts_after_it_polls_at_once(self):
        wait = a_wait(seconds=100)
        wait.start(at(130))
        assert wait.due(at(130)) == wait.messages


class TestTheResult:
    @pytest.mark.parametrize(
        "result",
        [
            WaitResult(Ending.FAILED, "why", [{"outcome": "failed"}]),
            WaitResult(Ending.FULFILLED, "", [], {"messages": 2, "delivered": 2}),
        ],
    )
    def test_it_survives_its_way_to_the_worker(self, result):
        assert WaitResult.from_event(json.loads(json.dumps(result.to_event()))) == result

    def test_an_event_of_an_older_version_is_read(self):
        event = {"ending": "refused", "reason": "who", "reports": [], "counted": {"messages": 1}}
        assert WaitResult.from_event(event) == WaitResult(Ending.ERROR, "who", [], {"messages": 1})

    @pytest.mark.parametrize(
        ("event", "field"),
        [
            (None, "event: NoneType"),
            ("done", "event: 'done'"),
            ({}, "event.ending: NoneType"),
            ({"ending": "gone", "reason": "", "reports": []}, "event.ending: 'gone'"),
            ({"ending": [], "reason": "", "reports": []}, "event.ending: list"),
            ({"ending": "failed", "reports": []}, "event.reason: NoneType"),
            ({"ending": "failed", "reason": "", "reports": None}, "event.reports: NoneType"),
            ({"ending": "failed", "reason": "", "reports": ["a"]}, "event.reports: list"),
            ({"ending": "failed", "reason": "", "reports": [], "counts": 3}, "event.counts: int"),
        ],
    )
    def test_anything_else_is_rejected_by_name(self, event, field):
        with pytest.raises(InvalidInputError, match=rf"^{field} is not what the delivery trigger sends"):
            WaitResult.from_event(event)

    def test_a_single_id_brings_a_single_report(self):
        result = WaitResult(Ending.FULFILLED, "", [{"a": 1}])
        assert result.output(single=True) == {"a": 1}
        assert result.output(single=False) == [{"a": 1}]
        assert WaitResult(Ending.ERROR, "", []).output(single=True) == []
        assert WaitResult(Ending.FULFILLED, "", [], {"messages": 1}).output(single=False) == {"messages": 1}


class TestManyMessages:
    def end(self, wait, *outcomes):
        words = {"delivered": "DELIVRD", "failed": "UNDELIV", "cancelled": "DELETED", "open": None}
        for message, outcome in zip(wait.messages, outcomes, strict=True):
            for seconds in (10, 15):
                if message.ending is None:
                    record(wait, message, a_report(words[outcome]), at(seconds))
        return wait.result and wait.result.ending

    @pytest.mark.parametrize(
        ("outcomes", "all_", "any_"),
        [
            (("delivered", "delivered"), Ending.FULFILLED, Ending.FULFILLED),
            (("delivered", "open"), None, Ending.FULFILLED),
            (("delivered", "failed"), Ending.FAILED, Ending.FULFILLED),
            (("failed", "open"), Ending.FAILED, None),
            (("failed", "cancelled"), Ending.FAILED, Ending.FAILED),
            (("cancelled", "open"), Ending.CANCELLED, None),
            (("cancelled", "cancelled"), Ending.CANCELLED, Ending.CANCELLED),
            (("open", "open"), None, None),
        ],
    )
    def test_all_and_any(self, outcomes, all_, any_):
        assert self.end(a_wait("m-1", "m-2", require="all"), *outcomes) is all_
        assert self.end(a_wait("m-1", "m-2", require="any"), *outcomes) is any_

    def test_one_that_has_ended_is_not_polled_again(self):
        wait = a_wait("m-1", "m-2")
        wait.record_report(wait.messages[0], a_report("DELIVRD"), at(10))
        assert wait.due(at(1000)) == [wait.messages[1]]
        assert [report["omnimessage_id"] for report in wait.timed_out("it").reports] == ["m-1", "m-2"]


class TestBackoff:
    def test_it_waits_as_long_as_messente_asked_and_never_less(self):
        asked = RateLimitedError("", status_code=429, retry_after=7)
        assert backoff.pause(asked, 1, 0.0) == 7
        assert backoff.pause(asked, 1, 1.0) == 7 + backoff.FIRST_PAUSE

    def test_it_doubles_up_to_a_bound_with_full_jitter(self):
        silent = RateLimitedError("", status_code=429)
        assert [backoff.pause(silent, attempt, 1.0) for attempt in (1, 2, 3, 99)] == [1, 2, 4, backoff.LONGEST_PAUSE]
        assert backoff.pause(silent, 3, 0.0) == 0


class TestContinuingInAnotherProcess:
    def test_it_knows_what_has_ended_what_was_logged_and_when_to_poll(self):
        first = a_wait("m-1", "m-2", "m-3")
        record(first, first.messages[0], a_report("DELIVRD"), at(10))
        record(first, first.messages[1], a_report("ACCEPTD"), at(10))
        record(first, first.messages[2], a_report("UNDELIV"), at(10))
        second = a_wait("m-1", "m-2", "m-3")
        second.restore(json.loads(json.dumps(first.to_dict())))
        assert [message.ending for message in second.messages] == [Ending.FULFILLED, None, None]
        assert second.next_poll == first.next_poll
        assert record(second, second.messages[1], a_report("ACCEPTD"), at(20)) is None, "logged before"
        assert "failed" in record(second, second.messages[2], a_report("UNDELIV"), at(20)), "the second poll"
        record(second, second.messages[1], a_report("DELIVRD"), at(30))
        record(first, first.messages[2], a_report("UNDELIV"), at(20))
        record(first, first.messages[1], a_report("DELIVRD"), at(30))
        assert second.result == first.result

    def test_what_is_kept_names_no_recipient(self):
        wait = a_wait()
        wait.record_report(wait.messages[0], a_report("UNDELIV"), at(10))
        assert "37255" not in json.dumps(wait.to_dict())

    @given(
        st.recursive(
            st.none() | st.booleans() | st.text() | st.integers(),
            lambda inner: (
                st.lists(inner)
                | st.dictionaries(
                    st.sampled_from(["m-1", "statuses", "next_poll", "ending", "reason", "failing_since", "last_news"]),
                    inner,
                )
            ),
        )
    )
    def test_what_cannot_be_read_is_polled_again(self, kept):
        wait = a_wait()
        wait.restore(kept)
        wait.restore({"m-1": kept})
        wait.record_report(wait.messages[0], a_report("DELIVRD"), at(10))
        assert wait.result is not None


NOW = datetime(2026, 11, 23, 9, 0, tzinfo=timezone.utc)


class TestThousands:
    def a_wait(self, count, **settings):
        wait = Wait(
            [AwaitedMessage(f"m-{index}") for index in range(count)],
            since=NOW,
            deadline=NOW + timedelta(hours=1),
            poke_interval=60.0,
            **{"only_count": True, **settings},
        )
        wait.start(NOW, poll_first=True)
        return wait

    def end(self, wait, statuses):
        for message, status in zip(wait.messages, statuses, strict=False):
            for seconds in (0, 5):  # a failure takes a second poll
                if message.ending is None:
                    report = DeliveryReport.read({"statuses": [{"channel": "sms", "status": status}]})
                    wait.record_report(message, report, NOW + timedelta(seconds=seconds))

    def test_a_share_is_enough(self):
        wait = self.a_wait(200, require=0.95)
        self.end(wait, ["DELIVRD"] * 189)
        assert wait.result is None
        self.end(wait, ["DELIVRD"] * 190)
        assert wait.result.ending is Ending.FULFILLED
        assert wait.result.reports == []
        assert wait.result.counts["delivered"] == 190
        assert wait.result.counts["in_progress"] == 10

    def test_more_failures_than_allowed_end_it(self):
        wait = self.a_wait(200, require=0.95)
        self.end(wait, ["UNDELIV"] * 10)
        assert wait.result is None
        self.end(wait, ["UNDELIV"] * 11)
        result = WaitResult.from_event(wait.result.to_event())
        assert result.ending is Ending.FAILED
        assert result.reason.startswith("11 of 200 were not, and require=0.95: m-0 failed")
        assert [each["omnimessage_id"] for each in result.counts["undelivered"][:2]] == ["m-0", "m-1"]
        assert len(result.counts["undelivered"]) == 100

    def test_what_is_due_stays_due_until_something_is_recorded(self):
        wait = self.a_wait(3)
        assert wait.due(NOW) == wait.due(NOW) == list(wait.messages)
        self.end(wait, ["ACK"])
        assert wait.due(NOW) == list(wait.messages[1:])
        assert wait.next_poll == NOW

    def test_a_reason_names_the_first_and_counts_the_rest(self):
        wait = self.a_wait(1000)
        reason = wait.timed_out("the timeout").reason
        assert reason.count("m-") == 20
        assert reason.endswith("; and 980 more")
