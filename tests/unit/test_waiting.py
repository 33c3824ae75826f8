"""The rules of a wait: when to poll, what a report means, and when the wait is over."""

from __future__ import annotations

from datetime import timedelta

import pytest
from awaiting import a_report, a_wait, at, record
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_omnimessage.api.delivery import (
    CONFIRM_FAILED_AFTER,
    CONFIRM_UNKNOWN_AFTER,
)
from airflow_provider_omnimessage.api.errors import (
    AuthenticationError,
    DeadlineExceededError,
    LostResponseError,
    NotFoundError,
    NotSentError,
    RateLimitedError,
    RejectedError,
    ServerError,
    UnexpectedResponseError,
    UntrustedError,
)
from airflow_provider_omnimessage.api.wait_result import Ending


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
