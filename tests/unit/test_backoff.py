"""Which call may be made again, after how long, and never past the deadline."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_omnimessage import metrics
from airflow_provider_omnimessage.api import backoff, calls, responses
from airflow_provider_omnimessage.api.cancel_result import Cancellation, CancelResult
from airflow_provider_omnimessage.api.delivery import Outcome
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
from airflow_provider_omnimessage.api.messages import sms
from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook

TO = "+37255555555"
ID = "6bd8c1ee-6ac2-4eb5-a0a1-6d46b2f42ae6"
SEND, CANCEL, REPORT = calls.send({}), calls.cancel(ID), calls.delivery_report(ID)
NOW = datetime(2026, 11, 23, 9, 0, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("error", "post", "others"),
    [
        (NotSentError(""), True, True),
        (UntrustedError(""), False, False),
        (RateLimitedError("", status_code=429), True, True),
        (LostResponseError(""), False, True),
        (ServerError("", status_code=503), False, True),
        (UnexpectedResponseError("", status_code=200), False, False),
        (AuthenticationError("", status_code=401), False, False),
        (NotFoundError("", status_code=404), False, False),
        (RejectedError("", status_code=400), False, False),
        (KeyError("a defect of ours"), False, False),
    ],
)
def test_a_post_is_repeated_only_if_it_certainly_was_not_processed(error, post, others):
    assert backoff.may_repeat(SEND, error) is post
    assert backoff.may_repeat(CANCEL, error) is backoff.may_repeat(REPORT, error) is others


@given(attempt=st.integers(1, 10_000), share=st.floats(0, 1))
def test_a_pause_grows_up_to_a_limit(attempt, share):
    assert 0 <= backoff.pause(NotSentError(""), attempt, share) <= backoff.LONGEST_PAUSE


def test_a_pause_doubles_and_its_jitter_is_full():
    assert [backoff.pause(NotSentError(""), attempt, 1.0) for attempt in (1, 2, 3, 4)] == [1, 2, 4, 8]
    assert backoff.pause(NotSentError(""), 4, 0.0) == 0


def test_the_jitter_is_added_to_retry_after():
    error = RateLimitedError("", status_code=429, retry_after=7)
    assert (backoff.pause(error, 1, 0.0), backoff.pause(error, 1, 1.0)) == (7, 8)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        (" 120 ", 120.0),
        (format_datetime(NOW + timedelta(minutes=2), usegmt=True), 120.0),
        (format_datetime(NOW - timedelta(minutes=2), usegmt=True), 0.0),
        ("Mon, 23 Nov 2026 09:00:30", 30.0),
        ("soon", None),
        ("-5", None),
        ("1e9", None),
        ("9999999", None),
        ("", None),
        (None, None),
        ("Mon, 99 Nov 2026 09:00:30 GMT", None),
        ("٣", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(header, seconds):
    assert responses.retry_after_seconds(header, NOW) == seconds


@given(st.text())
def test_any_retry_after_is_read_as_seconds_or_ignored(header):
    seconds = responses.retry_after_seconds(header, NOW)
    assert seconds is None or seconds >= 0


@pytest.mark.parametrize("status", [429, 503])
def test_the_error_contains_retry_after(status):
    answer = responses.Response(status, {"Retry-After": "Mon, 23 Nov 2026 09:00:30 GMT"}, b"", NOW)
    with pytest.raises((RateLimitedError, ServerError)) as caught:
        SEND.result(answer)
    assert caught.value.retry_after == 30


class TestDeadline:
    def test_all_attempts_and_pauses_together_stay_within_it(self, sandbox, pauses, monkeypatch):
        connection = {**sandbox.connection, "extra": {"deadline": 20}}
        monkeypatch.setenv("AIRFLOW_CONN_OMNIMESSAGE_DEFAULT", json.dumps(connection))
        sandbox.add_fault("server_error", times="always")
        with OmnimessageHook() as hook, pytest.raises(ServerError):
            hook.get_delivery_report(ID)
        assert len(pauses) == len(sandbox.requests) - 1
        assert len(pauses) >= 2
        assert sum(pauses) < 20

    @pytest.mark.parametrize(
        ("begun", "pause", "times"),
        [
            (b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", 0.05, 1),
            (b"HTTP/1.1 200 OK\r\nX-Endless: ", 0.05, 1),
            (b"HTTP/1.1 200 OK\r\n\r\n", 0.0, 1000),
        ],
        ids=["body", "headers", "endless"],
    )
    def test_a_response_that_arrives_byte_by_byte_is_lost_at_the_timeout(
        self, monkeypatch, sandbox, begun, pause, times
    ):
        """The timeout of a socket alone would wait for as long as each byte comes in time."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            gone = threading.Event()

            def drip() -> None:
                connection, _ = server.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(begun)
                    with contextlib.suppress(OSError):
                        while not gone.wait(pause):
                            connection.sendall(b" " * times)

            thread = threading.Thread(target=drip, daemon=True)
            thread.start()
            connection = {**sandbox.connection, "host": f"http://127.0.0.1:{server.getsockname()[1]}"}
            connection["extra"] = {"timeout": 0.4}
            monkeypatch.setenv("AIRFLOW_CONN_OMNIMESSAGE_DEFAULT", json.dumps(connection))
            with OmnimessageHook() as hook, pytest.raises(LostResponseError, match=r"was not complete after 0\.4 s"):
                hook.send(TO, [sms("a")])
            gone.set()
            thread.join()

    def test_the_connection_is_tested_once(self, sandbox, pauses):
        sandbox.add_fault("server_error", times="always")
        assert OmnimessageHook().test_connection()[0] is False
        assert (len(sandbox.requests), pauses) == (1, [])


class TestCancel:
    def test_it_distinguishes_cancelled_now_cancelled_before_sent_and_unknown(self, sandbox):
        with OmnimessageHook() as hook:
            waiting = hook.send(TO, [sms("a")], time_to_send=timedelta(hours=1)).omnimessage_id
            sent = hook.send(TO, [sms("a")]).omnimessage_id
            sandbox.advance(60)
            assert hook.try_to_cancel(waiting) == Cancellation(CancelResult.CANCELLED)
            again, too_late = hook.try_to_cancel(waiting), hook.try_to_cancel(sent)
            assert (again.result, again.is_cancelled) == (CancelResult.ALREADY_CANCELLED, True)
            assert (too_late.result, too_late.is_cancelled) == (CancelResult.ALREADY_SENT, False)
            assert str(too_late) == "has been sent already (sms: DELIVRD)"
            assert hook.try_to_cancel(ID) == Cancellation(CancelResult.UNKNOWN)

    @pytest.mark.parametrize("fault", ["lost_answer", "server_error"])
    def test_after_a_lost_response_it_was_cancelled_now(self, sandbox, fault):
        with OmnimessageHook() as hook:
            omnimessage_id = hook.send(TO, [sms("a")], time_to_send=timedelta(hours=1)).omnimessage_id
            sandbox.add_fault(fault, call="cancel", processed=True)
            assert hook.try_to_cancel(omnimessage_id).result is CancelResult.CANCELLED

    def test_if_the_report_after_a_404_fails_it_is_an_error(self, sandbox):
        with OmnimessageHook() as hook:
            sandbox.add_fault("server_error", call="status", times="always")
            with pytest.raises(ServerError):
                hook.try_to_cancel(ID)

    def test_a_message_that_was_cancelled_before_counts_as_cancelled(self, sandbox):
        with OmnimessageHook() as hook:
            omnimessage_id = hook.send(TO, [sms("a")], time_to_send=timedelta(hours=1)).omnimessage_id
            hook.cancel(omnimessage_id)
            hook.cancel(omnimessage_id)

    def test_one_that_was_sent_in_the_meantime_is_not_called_cancelled(self, sandbox):
        with OmnimessageHook() as hook:
            accepted_at = datetime.now(timezone.utc)
            omnimessage_id = hook.send(TO, [sms("a")]).omnimessage_id
            sandbox.add_fault("cut", call="cancel")
            with pytest.raises(NotFoundError, match="has been sent already"):
                hook.cancel(omnimessage_id, accepted_at)

    def test_without_any_response_it_is_an_error(self, sandbox):
        with OmnimessageHook() as hook:
            omnimessage_id = hook.send(TO, [sms("a")], time_to_send=timedelta(hours=1)).omnimessage_id
            sandbox.add_fault("lost_answer", times="always")
            with pytest.raises(LostResponseError):
                hook.cancel(omnimessage_id)


class TestRequestsInFlight:
    """``on_kill`` needs to know whether a request waits for its response."""

    def test_before_during_and_after_a_call(self, sandbox):
        sandbox.add_fault("slow", seconds=0.5, processed=True)
        hook = OmnimessageHook()
        assert hook.unanswered_call is None
        sending = threading.Thread(target=hook.send, args=(TO, [sms("a")]))
        sending.start()
        while not sandbox.messages:
            time.sleep(0.01)
        assert hook.unanswered_call == "'send' (POST)"
        sending.join()
        assert hook.unanswered_call is None


class TestMetrics:
    @pytest.fixture
    def counted(self, monkeypatch):
        counted: list[tuple[object, ...]] = []

        class Stats:
            incr = staticmethod(lambda name, tags: counted.append((name, tags)))
            timing = staticmethod(lambda name, value, tags: counted.append((name, value, tags)))

        monkeypatch.setattr(metrics, "airflow_stats", lambda: Stats)
        return counted

    def test_each_repeat_is_counted(self, sandbox, counted):
        sandbox.add_fault("rate_limited", times=2)
        with OmnimessageHook() as hook:
            hook.send(TO, [sms("a")])
        assert counted == [("omnimessage.retried", {"call": "send"})] * 2

    @pytest.mark.parametrize(
        ("outcome", "names"),
        [
            (Outcome.DELIVERED, ["omnimessage.delivered", "omnimessage.delivery_duration"]),
            (Outcome.SEEN, ["omnimessage.delivered", "omnimessage.delivery_duration"]),
            (Outcome.FAILED, ["omnimessage.failed"]),
            (Outcome.IN_PROGRESS, []),
            (Outcome.CANCELLED, []),
        ],
    )
    def test_each_end_is_counted_and_a_delivery_is_timed(self, counted, outcome, names):
        metrics.count_outcome(outcome, 2.5, {})
        assert [each[0] for each in counted] == names

    def test_airflows_own_stats_take_it(self):
        metrics.count("scheduled", {"dag_id": "a"})
        metrics.count_outcome(Outcome.SEEN, 1.0, {"dag_id": "a"})
