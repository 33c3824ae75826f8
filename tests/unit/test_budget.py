"""``OmnimessageHook.within``: every call ends in time, and an error says whether something was sent."""

from __future__ import annotations

import asyncio
import json
import threading

import pytest

from airflow_provider_omnimessage.api.errors import DeadlineExceededError, LostResponseError, RateLimitedError
from airflow_provider_omnimessage.api.messages import sms
from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook

TO = "+37255555555"
ID = "6bd8c1ee-6ac2-4eb5-a0a1-6d46b2f42ae6"

CALLS = {
    "send": lambda hook: hook.send(TO, [sms("a")]),
    "bulk send": lambda hook: hook.post_bulk([hook.compose(TO, [sms("a")])]),
    "cancel": lambda hook: hook.try_to_cancel(ID),
    "delivery report": lambda hook: hook.get_delivery_report(ID),
}


@pytest.fixture
def hook(sandbox):
    with OmnimessageHook() as hook:
        yield hook


def post_all(hook: OmnimessageHook, count: int = 1) -> list[object]:
    async def post() -> list[object]:
        await hook.look_up_connection()
        return list(await hook.post_all([hook.compose(TO, [sms("a")]) for _ in range(count)]))

    return asyncio.run(post())


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("seconds", [0, -1])
def test_without_time_no_call_is_made_and_the_error_says_so(hook, sandbox, call, seconds):
    with hook.within(seconds), pytest.raises(DeadlineExceededError, match="nothing was sent") as caught:
        call(hook)
    assert (caught.value.maybe_processed, caught.value.may_pass) == (False, True)
    assert sandbox.requests == []


def test_without_time_no_call_is_made_on_an_event_loop_either(hook, sandbox):
    with hook.within(0):
        (error,) = post_all(hook)
    assert isinstance(error, DeadlineExceededError)
    assert sandbox.requests == []


@pytest.mark.parametrize("retry_after", [4, 25, 999_999])
def test_a_pause_that_would_end_too_late_is_not_begun(hook, sandbox, pauses, retry_after):
    sandbox.add_fault("rate_limited", retry_after=retry_after, times="always")
    with hook.within(3), pytest.raises(RateLimitedError) as caught:
        hook.send(TO, [sms("a")])
    assert not caught.value.maybe_processed
    assert pauses == []


@pytest.mark.parametrize("retry_after", [4, 999_999])
def test_a_pause_that_would_end_too_late_is_not_begun_on_an_event_loop_either(hook, sandbox, retry_after):
    sandbox.add_fault("rate_limited", retry_after=retry_after, times="always")
    with hook.within(3):
        (error,) = post_all(hook)
    assert isinstance(error, RateLimitedError)


def test_repeats_and_pauses_stay_within_the_time(hook, sandbox, pauses):
    sandbox.add_fault("server_error", times="always", retry_after=1)
    with hook.within(10), pytest.raises(Exception, match="server error"):
        hook.get_delivery_report(ID)
    assert 1 <= sum(pauses) < 10


def test_many_calls_share_the_time(hook, sandbox, pauses):
    sandbox.add_fault("server_error", times="always", retry_after=1)
    with hook.within(10):
        for _ in range(50):
            with pytest.raises(Exception, match=r"server error|no time is left"):
                hook.get_delivery_report(ID)
    assert sum(pauses) < 10


def test_a_slow_response_is_cut_off_at_the_end_and_counts_as_lost(hook, sandbox):
    sandbox.add_fault("slow", seconds=30)
    with hook.within(0.3), pytest.raises(LostResponseError) as caught:
        hook.send(TO, [sms("a")])
    assert caught.value.maybe_processed


def test_a_slow_response_is_cut_off_on_an_event_loop_too(hook, sandbox):
    sandbox.add_fault("slow", seconds=30)
    with hook.within(0.3):
        (error,) = post_all(hook)
    assert isinstance(error, LostResponseError)


def test_of_nested_limits_the_earlier_end_counts(hook, pauses):
    assert hook.seconds_left is None
    with hook.within(10):
        with hook.within(60):
            assert hook.seconds_left <= 10
        with hook.within(2):
            assert hook.seconds_left <= 2
        assert 2 < hook.seconds_left <= 10
    assert hook.seconds_left is None


def test_a_limit_holds_in_the_threads_that_share_the_hook(hook, sandbox):
    errors: list[BaseException] = []

    def cancel() -> None:
        try:
            hook.try_to_cancel(ID)
        except DeadlineExceededError as error:
            errors.append(error)

    with hook.within(0):
        threads = [threading.Thread(target=cancel) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(errors) == 3
    assert sandbox.requests == []


def test_after_the_limit_calls_are_made_again(hook, sandbox):
    with hook.within(0), pytest.raises(DeadlineExceededError):
        hook.send(TO, [sms("a")])
    hook.send(TO, [sms("a")])
    assert len(sandbox.messages) == 1


def test_the_connections_deadline_holds_inside_a_longer_limit(sandbox, pauses, monkeypatch):
    connection = {**sandbox.connection, "extra": {"deadline": 5}}
    monkeypatch.setenv("AIRFLOW_CONN_OMNIMESSAGE_DEFAULT", json.dumps(connection))
    sandbox.add_fault("server_error", times="always", retry_after=1)
    with OmnimessageHook() as hook, hook.within(600), pytest.raises(Exception, match="server error"):
        hook.get_delivery_report(ID)
    assert sum(pauses) < 5
