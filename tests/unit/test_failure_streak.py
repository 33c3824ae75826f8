"""When a series of polls or cancels stops."""

from __future__ import annotations

import pytest

from airflow_provider_omnimessage.api.errors import (
    AuthenticationError,
    DeadlineExceededError,
    InvalidInputError,
    LostResponseError,
    NotCancelledError,
    NotFoundError,
    NotSentError,
    RateLimitedError,
    RejectedError,
    ServerError,
    UnexpectedResponseError,
)
from airflow_provider_omnimessage.api.failure_streak import SAME_FAILURES, FailureStreak

RATE_LIMITED = RateLimitedError("", status_code=429)
NO_TIME_LEFT = DeadlineExceededError("")


@pytest.fixture(params=[False, True], ids=["polls", "cancels"])
def streak(request):
    return FailureStreak(calls_are_repeated=request.param)


@pytest.mark.parametrize(
    "error",
    [
        NotSentError("down"),
        LostResponseError("down"),
        ServerError("down", status_code=503),
        UnexpectedResponseError("not Messente", status_code=404, maybe_processed=False),
    ],
    ids=lambda error: type(error).__name__,
)
def test_the_same_failure_stops_a_series_after_a_few(streak, error):
    for _ in range(SAME_FAILURES):
        assert streak.stopped_by is None
        streak.record_failure(error)
    assert streak.stopped_by is error


def test_a_success_starts_a_new_count(streak):
    for _ in range(SAME_FAILURES):
        streak.record_failure(NotSentError(""))
        streak.record_success()
    assert streak.stopped_by is None


def test_a_failure_of_another_kind_starts_a_new_count(streak):
    for _ in range(SAME_FAILURES):
        streak.record_failure(NotSentError(""))
        streak.record_failure(LostResponseError(""))
    assert streak.stopped_by is None


def test_rejected_credentials_stop_it_at_once(streak):
    error = AuthenticationError("", status_code=401)
    streak.record_failure(error)
    assert streak.stopped_by is error


@pytest.mark.parametrize(
    "error",
    [
        NotFoundError("", status_code=404),
        RejectedError("", status_code=400),
        InvalidInputError.of("omnimessage_id", "is not an id"),
        NotCancelledError.of("m-1", "sms: in progress"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_of_one_message_says_nothing_about_the_next(streak, error):
    for _ in range(10):
        streak.record_failure(error)
    assert streak.stopped_by is None


@pytest.mark.parametrize("error", [RATE_LIMITED, NO_TIME_LEFT], ids=lambda error: type(error).__name__)
def test_a_series_of_single_requests_stops_at_once_when_it_must_wait(error):
    streak = FailureStreak()
    streak.record_failure(error)
    assert streak.stopped_by is error


@pytest.mark.parametrize("error", [RATE_LIMITED, NO_TIME_LEFT], ids=lambda error: type(error).__name__)
def test_a_series_of_calls_that_wait_by_themselves_tries_the_next_with_the_time_that_is_left(error):
    streak = FailureStreak(calls_are_repeated=True)
    streak.record_failure(error)
    assert streak.stopped_by is None


def test_a_lack_of_time_does_not_hide_the_failures_that_used_it_up():
    streak = FailureStreak(calls_are_repeated=True)
    down = ServerError("down", status_code=503)
    for error in (down, NO_TIME_LEFT, NO_TIME_LEFT):
        streak.record_failure(error)
    assert streak.stopped_by is down
