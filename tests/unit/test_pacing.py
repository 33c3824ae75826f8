"""The rate limit and the pause after a 429 that everything in a process shares."""

from __future__ import annotations

import asyncio
import bisect
import json
import math
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_omnimessage.api import calls, pacing
from airflow_provider_omnimessage.api.errors import DeadlineExceededError, OmnimessageError, RateLimitedError
from airflow_provider_omnimessage.api.pacing import Pacing
from airflow_provider_omnimessage.hooks.aiohttp_transport import AiohttpTransport
from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook
from airflow_provider_omnimessage.hooks.pacing import Pace, pace_of

ID = "6bd8c1ee-6ac2-4eb5-a0a1-6d46b2f42ae6"


def turns(count: int, rate_limit: float, now: float = 0.0, state: Pacing | None = None) -> list[float]:
    """The times of so many requests, all of which want to go out at once."""
    state, times = state or Pacing(), []
    for _ in range(count):
        wait, state = pacing.take_turn(state, now, rate_limit)
        times.append(now + wait)
    return times


def most_in_a_second(times: list[float]) -> int:
    times = sorted(times)
    return max(bisect.bisect_left(times, start + 1.0) - index for index, start in enumerate(times))


class TestRate:
    @given(st.floats(0.1, 10_000), st.integers(1, 400))
    def test_no_second_holds_more_requests_than_the_limit(self, rate_limit, count):
        assert most_in_a_second(turns(count, rate_limit)) <= math.ceil(rate_limit)

    @settings(max_examples=25)
    @given(st.lists(st.floats(0, 0.04), min_size=400, max_size=400))
    def test_late_requests_do_not_exceed_the_limit(self, delays):
        times = [turn + delay for turn, delay in zip(turns(400, 150), delays, strict=True)]
        assert most_in_a_second(times) <= 150

    def test_two_thousand_take_little_longer_than_they_must(self):
        assert turns(2_000, 150)[-1] <= 1.15 * 2_000 / 150

    def test_a_few_requests_after_a_rest_wait_for_nothing(self):
        assert turns(10, 150) == [0.0] * 10

    def test_a_turn_that_comes_too_late_is_not_taken(self):
        pace = Pace()
        assert pace.take_turn("cancel", rate_limit=0.1, left=1) == 0
        for _ in range(3):
            with pytest.raises(DeadlineExceededError):
                pace.take_turn("cancel", rate_limit=0.1, left=1)
        assert pace.take_turn("cancel", rate_limit=0.1, left=60) < 12

    def test_threads_take_different_turns(self):
        pace = Pace()
        with ThreadPoolExecutor(8) as threads:
            waits = list(threads.map(lambda _: pace.take_turn("cancel", rate_limit=10, left=600), range(50)))
        assert max(waits) > 5


class TestPause:
    def test_it_lasts_as_long_as_retry_after(self):
        assert pacing.pause(Pacing(), 100.0, 99.0, 30.0).paused_until == 130.0

    def test_no_response_pauses_a_process_for_longer_than_five_minutes(self):
        assert pacing.pause(Pacing(), 100.0, 99.0, 999_999.0).paused_until == 400.0

    def test_without_a_time_it_doubles_until_a_success(self):
        state, lengths = Pacing(), []
        for now in (100.0, 200.0, 300.0):
            state = pacing.pause(state, now, now - 1, None)
            lengths.append(state.paused_until - now)
        assert lengths == [1, 2, 4]
        state = pacing.pause(pacing.succeed(state), 400.0, 399.0, None)
        assert state.paused_until == 401.0

    def test_requests_that_went_out_together_cause_one_pause(self):
        state = pacing.pause(Pacing(), 100.0, 99.0, None)
        again = pacing.pause(state, 100.1, 99.1, None)
        assert (again.pauses, again.paused_until) == (1, pytest.approx(101.1))

    def test_a_request_that_begins_just_before_a_pause_does_not_shorten_it(self):
        state = pacing.pause(Pacing(), 100.0, 99.0, 30.0)
        assert pacing.pause(state, 100.2, 100.1, 1.0).paused_until == 130.0


class TestShared:
    """After one 429, nothing in the process calls Messente until the pause is over."""

    def test_a_hundred_calls_during_the_pause_make_one_request(self, sandbox):
        sandbox.add_fault("rate_limited", retry_after=30)
        for _ in range(100):
            with OmnimessageHook() as hook, pytest.raises(RateLimitedError):
                hook.get_conn().make(calls.delivery_report(ID))
        assert len(sandbox.requests) == 1
        assert 29 < pace_of(sandbox.url).pause_left() <= 30

    def test_a_call_that_is_not_made_raises_with_the_time_until_it_may_be(self, sandbox):
        sandbox.add_fault("rate_limited", retry_after=30)
        with OmnimessageHook() as hook:
            for words in ("429", "nothing was sent"):
                with pytest.raises(RateLimitedError, match=words) as caught:
                    hook.get_conn().make(calls.delivery_report(ID))
                # (now + 30) - now is not always 30
                assert 29 < caught.value.retry_after <= 30.000001
                assert not caught.value.maybe_processed

    def test_triggers_pause_with_tasks(self, sandbox):
        sandbox.add_fault("rate_limited", retry_after=30)
        with OmnimessageHook() as hook:
            with pytest.raises(RateLimitedError):
                hook.get_conn().make(calls.delivery_report(ID))

            async def ask() -> None:
                transport = await AiohttpTransport.open(hook.settings, connections=1)
                try:
                    with pytest.raises(RateLimitedError, match="nothing was sent"):
                        await transport.make(calls.delivery_report(ID))
                finally:
                    await transport.close()

            asyncio.run(ask())
        assert len(sandbox.requests) == 1

    def test_a_call_with_time_waits_out_the_pause(self, sandbox, pauses):
        sandbox.add_fault("rate_limited", retry_after=30)
        with OmnimessageHook() as hook:
            with pytest.raises(RateLimitedError):
                hook.get_conn().make(calls.delivery_report(ID))
            with pytest.raises(OmnimessageError, match="404"):
                hook.get_delivery_report(ID)
        assert sum(pauses) >= 29
        assert len(sandbox.requests) == 2

    def test_the_connection_sets_the_rate(self, sandbox, pauses, monkeypatch):
        connection = {**sandbox.connection, "extra": {"rate_limit": "1"}}
        monkeypatch.setenv("AIRFLOW_CONN_OMNIMESSAGE_DEFAULT", json.dumps(connection))
        with OmnimessageHook() as hook:
            for _ in range(3):
                with pytest.raises(OmnimessageError, match="404"):
                    hook.get_delivery_report(ID)
        assert sum(pauses) > 2


def test_a_timeout_that_interrupts_a_turn_stops_no_later_request():
    """For example the notifier, which runs in the same process after the task's timeout."""
    pace = Pace()
    pace._lock.acquire()  # what an interrupt between acquire and release leaves behind
    for _ in range(3):
        assert pace.take_turn("cancel", rate_limit=150, left=30) < 1
        with pace.request("cancel"):
            pass
