"""The rules of a wait: when to look, what a report adds up to, when it is over."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reports import T0, a_report

from airflow_provider_omnimessage.api import backoff
from airflow_provider_omnimessage.api.delivery import DeliveryReport
from airflow_provider_omnimessage.api.errors import (
    AuthenticationError,
    LostResponseError,
    NotFoundError,
    NotSentError,
    RateLimitedError,
    RejectedError,
    ServerError,
    UnexpectedResponseError,
    UntrustedError,
)
from airflow_provider_omnimessage.api.waiting import FLOOR, Awaited, Ending, Verdict, Wait


def a_wait(*ids, time_to_send=T0, **settings):
    messages = [Awaited(id_, time_to_send) for id_ in ids or ("m-1",)]
    wait = Wait(messages, since=T0 - timedelta(hours=1), poke_interval=60.0, **settings)
    wait.plan(T0 - timedelta(hours=1))
    return wait


def at(seconds):
    return T0 + timedelta(seconds=seconds)


class TestAWait:
    def test_nothing_is_due_before_its_time_not_even_at_last(self):
        wait = a_wait()
        assert wait.due(at(-1)) == wait.due(at(-1), last=True) == []
        assert wait.due(at(10)) == wait.messages

    def test_whoever_looks_exactly_on_time_does_not_look_twice(self):
        wait = a_wait(*(f"m-{n}" for n in range(50)))
        for message in wait.messages:
            for _ in range(20):
                look = message.next_look
                wait.heard(message, a_report(None), look)
                assert message.next_look > look + timedelta(seconds=1)

    def test_one_whose_time_has_come_is_looked_at_first_where_that_is_asked_for(self):
        wait = a_wait()
        wait.plan(at(3), look_first=True)
        assert wait.due(at(3)) == wait.messages

    def test_delivered_is_the_end(self):
        wait = a_wait()
        news = wait.heard(wait.messages[0], a_report("DELIVRD"), at(10))
        assert "viber: DELIVRD" in news
        assert wait.verdict.ending is Ending.FULFILLED
        assert wait.verdict.reports[0]["outcome"] == "delivered"
        assert wait.next_look is None

    def test_a_failure_is_doubted_looked_at_again_and_then_told_channel_by_channel(self):
        wait = a_wait()
        (message,) = wait.messages
        wait.heard(message, a_report("UNDELIV", error="no such user"), at(10))
        assert wait.in_doubt
        assert wait.next_look == at(10 + FLOOR)
        wait.heard(message, a_report("UNDELIV", error="no such user"), at(15))
        assert wait.verdict.ending is Ending.FAILED
        assert wait.verdict.reason == "m-1 failed (viber: UNDELIV (no such user))"

    def test_each_change_is_news_once(self):
        wait = a_wait()
        (message,) = wait.messages
        reports = [a_report(None), a_report(None), a_report("ACK"), a_report("ACK"), a_report("UNDELIV", None)]
        news = [wait.heard(message, report, at(10 * n)) for n, report in enumerate(reports)]
        assert [item is not None for item in news] == [True, False, True, False, True]

    def test_an_outage_is_news_once_and_its_end_again(self):
        wait = a_wait()
        (message,) = wait.messages
        news = [wait.heard_error(message, ServerError("broken", status_code=503), at(n)) for n in (10, 20)]
        news.append(wait.heard(message, a_report(None), at(30)))
        assert [item is not None for item in news] == [True, False, True]

    @pytest.mark.parametrize(
        "error",
        [
            ServerError("", status_code=503),
            LostResponseError(""),
            NotSentError(""),
            RateLimitedError("", status_code=429),
            UnexpectedResponseError("a gateway's page", status_code=200),
        ],
    )
    def test_what_may_pass_is_patience(self, error):
        wait = a_wait()
        wait.heard_error(wait.messages[0], error, at(100_000))
        assert wait.verdict is None

    @pytest.mark.parametrize(
        "error",
        [
            AuthenticationError("who are you", status_code=401),
            RejectedError("no", status_code=400),
            UntrustedError("an unknown issuer"),
            UnexpectedResponseError("elsewhere", status_code=307, maybe_processed=False),
        ],
    )
    def test_what_will_not_pass_is_the_end(self, error):
        wait = a_wait()
        wait.heard_error(wait.messages[0], error, at(10))
        assert wait.verdict.ending is Ending.REFUSED
        assert str(error) in wait.verdict.reason

    def test_a_404_is_patience_at_first_and_an_error_later(self):
        wait = a_wait()
        missing = NotFoundError("not found", status_code=404, codes=["101"])
        wait.heard_error(wait.messages[0], missing, at(10))
        assert wait.verdict is None
        wait.heard_error(wait.messages[0], missing, at(61))
        assert wait.verdict.ending is Ending.REFUSED
        assert "unknown to Messente" in wait.verdict.reason

    def test_after_a_429_it_stays_due_where_the_pause_is_kept_elsewhere(self):
        wait = a_wait()
        wait.heard_error(wait.messages[0], RateLimitedError("", status_code=429), at(10), stays_due=True)
        assert wait.due(at(10)) == wait.messages

    def test_else_it_is_looked_at_when_messente_has_asked_for_and_not_sooner_than_usual(self):
        wait = a_wait()
        wait.heard_error(wait.messages[0], RateLimitedError("", status_code=429, retry_after=90), at(10))
        assert wait.next_look == at(100)
        wait.heard_error(wait.messages[0], RateLimitedError("", status_code=429), at(100))
        assert wait.next_look > at(101)

    def test_delivered_is_not_seen_unless_nobody_could_tell(self):
        wait = a_wait(wait_for="seen")
        (message,) = wait.messages
        wait.heard(message, a_report("DELIVRD"), at(10))
        assert wait.verdict is None
        wait.heard(message, a_report("SEEN"), at(20))
        assert wait.verdict.ending is Ending.FULFILLED

    def test_seen_is_given_up_where_only_sms_has_delivered(self):
        wait = a_wait(wait_for="seen")
        wait.heard(wait.messages[0], a_report("EXPIRED", "UNDELIV", "NACK", "DELIVRD"), at(10))
        assert wait.verdict.ending is Ending.FAILED
        assert "cannot tell" in wait.verdict.reason

    def test_its_time_being_over_says_how_far_it_came(self):
        wait = a_wait("m-1", "m-2", "m-3")
        wait.heard(wait.messages[0], a_report("UNDELIV", None), at(10))
        wait.heard_error(wait.messages[1], ServerError("server error (503)", status_code=503), at(10))
        verdict = wait.timed_out("the timeout of 0:10:00")
        assert verdict.ending is Ending.TIMED_OUT
        assert verdict.reason == (
            "Not delivered within the timeout of 0:10:00: m-1: viber: UNDELIV; whatsapp: in progress; "
            "m-2: no report yet, asking again: server error (503); "
            "m-3: not asked for, as nobody asks before 2026-11-23 09:00:00 UTC"
        )

    def test_the_end_survives_its_way_to_the_worker(self):
        verdict = Verdict(Ending.FAILED, "why", [{"outcome": "failed"}])
        assert Verdict.of(json.loads(json.dumps(verdict.as_dict()))) == verdict


class TestManyMessages:
    def end(self, wait, *outcomes):
        words = {"delivered": "DELIVRD", "failed": "UNDELIV", "cancelled": "DELETED", "open": None}
        for message, outcome in zip(wait.messages, outcomes, strict=True):
            for seconds in (10, 15):
                if message.ending is None:
                    wait.heard(message, a_report(words[outcome]), at(seconds))
        return wait.verdict and wait.verdict.ending

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

    def test_one_that_has_ended_is_not_asked_for_again(self):
        wait = a_wait("m-1", "m-2")
        wait.heard(wait.messages[0], a_report("DELIVRD"), at(10))
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


class TestGoingOnInAnotherProcess:
    def test_it_knows_what_has_ended_what_was_told_and_when_to_look(self):
        first = a_wait("m-1", "m-2")
        first.heard(first.messages[0], a_report("DELIVRD"), at(10))
        first.heard(first.messages[1], a_report("ACCEPTD"), at(10))
        second = a_wait("m-1", "m-2")
        second.recall(json.loads(json.dumps(first.as_dict())))
        assert [message.ending for message in second.messages] == [Ending.FULFILLED, None]
        assert second.next_look == first.next_look
        assert second.heard(second.messages[1], a_report("ACCEPTD"), at(20)) is None, "told before"
        second.heard(second.messages[1], a_report("DELIVRD"), at(30))
        first.heard(first.messages[1], a_report("DELIVRD"), at(30))
        assert second.verdict == first.verdict

    def test_what_is_kept_names_no_recipient(self):
        wait = a_wait()
        wait.heard(wait.messages[0], a_report("UNDELIV"), at(10))
        assert "37255" not in json.dumps(wait.as_dict())

    @given(
        st.recursive(
            st.none() | st.booleans() | st.text() | st.integers(),
            lambda inner: (
                st.lists(inner)
                | st.dictionaries(
                    st.sampled_from(["m-1", "statuses", "next_look", "ending", "reason", "last_news"]), inner
                )
            ),
        )
    )
    def test_what_cannot_be_read_is_asked_for_anew(self, kept):
        wait = a_wait()
        wait.recall(kept)
        wait.recall({"m-1": kept})
        wait.heard(wait.messages[0], a_report("DELIVRD"), at(10))
        assert wait.verdict is not None


NOW = datetime(2026, 11, 23, 9, 0, tzinfo=timezone.utc)


class TestThousands:
    def a_wait(self, count, **settings):
        wait = Wait(
            [Awaited(f"m-{index}") for index in range(count)],
            since=NOW,
            poke_interval=60.0,
            **{"only_count": True, **settings},
        )
        wait.plan(NOW, look_first=True)
        return wait

    def end(self, wait, statuses):
        for message, status in zip(wait.messages, statuses, strict=False):
            for _ in range(2):  # a failure takes a second look
                if message.ending is None:
                    report = DeliveryReport.read({"statuses": [{"channel": "sms", "status": status}]})
                    wait.heard(message, report, NOW)

    def test_a_share_is_enough(self):
        wait = self.a_wait(200, require=0.95)
        self.end(wait, ["DELIVRD"] * 189)
        assert wait.verdict is None
        self.end(wait, ["DELIVRD"] * 190)
        assert wait.verdict.ending is Ending.FULFILLED
        assert wait.verdict.reports == []
        assert wait.verdict.counted["delivered"] == 190
        assert wait.verdict.counted["in_progress"] == 10

    def test_more_than_the_rest_is_too_many(self):
        wait = self.a_wait(200, require=0.95)
        self.end(wait, ["UNDELIV"] * 10)
        assert wait.verdict is None
        self.end(wait, ["UNDELIV"] * 11)
        verdict = Verdict.of(wait.verdict.as_dict())
        assert verdict.ending is Ending.FAILED
        assert verdict.reason.startswith("11 of 200 were not, and require=0.95: m-0 failed")
        assert [each["omnimessage_id"] for each in verdict.counted["undelivered"][:2]] == ["m-0", "m-1"]
        assert len(verdict.counted["undelivered"]) == 100

    def test_what_is_due_stays_due_until_it_is_heard_of(self):
        wait = self.a_wait(3)
        assert wait.due(NOW) == wait.due(NOW) == list(wait.messages)
        self.end(wait, ["ACK"])
        assert wait.due(NOW) == list(wait.messages[1:])
        assert wait.next_look == NOW

    def test_a_reason_tells_the_first_and_counts_the_rest(self):
        wait = self.a_wait(1000)
        reason = wait.timed_out("the timeout").reason
        assert reason.count("m-") == 20
        assert reason.endswith("; and 980 more")
