"""What a wait leaves: its result, its next start in another process, and thousands of messages."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone

import pytest
from awaiting import a_report, a_wait, at, record
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_omnimessage.api import backoff
from airflow_provider_omnimessage.api.awaited_message import AwaitedMessage
from airflow_provider_omnimessage.api.delivery import (
    DeliveryReport,
)
from airflow_provider_omnimessage.api.errors import (
    InvalidInputError,
    RateLimitedError,
)
from airflow_provider_omnimessage.api.wait_result import Ending, WaitResult
from airflow_provider_omnimessage.api.waiting import Wait


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
    def test_it_waits_at_least_as_long_as_retry_after(self):
        error = RateLimitedError("", status_code=429, retry_after=7)
        assert backoff.pause(error, 1, 0.0) == 7
        assert backoff.pause(error, 1, 1.0) == 7 + backoff.FIRST_PAUSE

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
