"""The one poller that all triggers of a connection share: its limit, its pauses, its session."""

from __future__ import annotations

import asyncio
import contextlib
import json
from datetime import timedelta

import pytest
from blockbuster import blockbuster_ctx
from full_size import full_size
from triggering import CONNECTION, a_trigger, fire, fired, now, status_requests

from airflow_provider_omnimessage.api.calls import delivery_report
from airflow_provider_omnimessage.api.errors import (
    AuthenticationError,
    DeadlineExceededError,
    LostResponseError,
    NotSentError,
    RateLimitedError,
    UntrustedError,
)
from airflow_provider_omnimessage.api.messages import omnimessage, sms
from airflow_provider_omnimessage.api.poll_times import next_poll, spread_of
from airflow_provider_omnimessage.api.waiting import Wait
from airflow_provider_omnimessage.hooks import lookup, network
from airflow_provider_omnimessage.hooks.aiohttp_transport import AiohttpTransport
from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook
from airflow_provider_omnimessage.hooks.settings import Settings
from airflow_provider_omnimessage.triggers import polling
from airflow_provider_omnimessage.triggers.polling import IN_FLIGHT, Poller

pytestmark = pytest.mark.usefixtures("quick_confirmation")


def a_wait():
    return Wait([], since=now(), deadline=now() + timedelta(hours=1), poke_interval=60.0)


class TestTheSharedPoller:
    def test_one_session_for_all_closed_with_the_last(self, send, sandbox, monkeypatch):
        opened, open_ = [], AiohttpTransport.open

        async def count(settings, **kwargs):
            opened.append(await open_(settings, **kwargs))
            return opened[-1]

        monkeypatch.setattr(AiohttpTransport, "open", count)
        ids = [send() for _ in range(50)]
        sandbox.advance(10)

        async def all_of_them():
            await fire(*(a_trigger(id_) for id_ in ids))
            assert polling._pollers[asyncio.get_running_loop()] == {}

        asyncio.run(all_of_them())
        assert len(opened) == 1
        assert opened[0]._session.closed

    def test_a_cancelled_wait_releases_the_session_too(self, send):
        async def cancel():
            task = asyncio.create_task(fire(a_trigger(send("+37255550004"))))
            while not polling._pollers.get(asyncio.get_running_loop()):
                await asyncio.sleep(0.01)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            assert polling._pollers[asyncio.get_running_loop()] == {}

        asyncio.run(cancel())

    @full_size
    def test_a_thousand_waits_that_start_together_and_restart_make_no_extra_requests(self, send, sandbox):
        """Their polls are spread over ``poke_interval``, and a restart repeats none of them."""
        ids = [f"m-{number}" for number in range(1000)]
        hour_ago = (now() - timedelta(hours=1)).isoformat()
        settings = {"since": hour_ago, "time_to_send": hour_ago, "poke_interval": 600, "seconds": 3600}
        sandbox.add_fault("server_error", call="status", times="always")

        async def wait_for(requests):
            waiting = [asyncio.create_task(fire(a_trigger(id_, **settings))) for id_ in ids]
            while len(status_requests(sandbox)) < requests:
                assert not any(task.done() for task in waiting)
                await asyncio.sleep(0.05)
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

        begun = now()
        asyncio.run(wait_for(2))
        asyncio.run(wait_for(4))
        polled = [request["path"] for request in status_requests(sandbox)]
        assert len(polled) == len(set(polled)), "no message is polled twice within one gap"
        until = 3600.0 + (now() - begun).total_seconds() + 1
        allowed = sum(next_poll(3600.0, 600.0, spread_of(id_)) <= until for id_ in ids)
        assert len(polled) <= allowed, "only messages that were due in that time"

    @full_size
    def test_hundreds_of_waits_that_are_due_at_once_are_polled_a_few_at_a_time(self, delivered, sandbox, monkeypatch):
        in_flight, most, make = 0, 0, AiohttpTransport.make

        async def counting(self, call, timeout):
            nonlocal in_flight, most
            in_flight += 1
            most = max(most, in_flight)
            try:
                return await make(self, call, timeout)
            finally:
                in_flight -= 1

        monkeypatch.setattr(AiohttpTransport, "make", counting)
        payloads = fired(*(a_trigger(delivered, poke_interval=0.001) for _ in range(300)))
        assert {payload["ending"] for payload in payloads} == {"fulfilled"}
        assert len(status_requests(sandbox)) == 300
        assert 1 < most <= IN_FLIGHT

    @full_size
    def test_nothing_blocks_the_loop(self, send, sandbox):
        """Blockbuster raises if the event loop calls something that blocks: a file, a socket, a sleep, a lock."""
        ids = [send() for _ in range(100)]
        sandbox.advance(10)
        with blockbuster_ctx():
            payloads = fired(*(a_trigger(id_) for id_ in ids))
        assert {payload["ending"] for payload in payloads} == {"fulfilled"}

    def test_a_429_is_one_pause_for_all(self, send, sandbox):
        ids = [send() for _ in range(40)]
        sandbox.advance(10)
        sandbox.add_fault("rate_limited", call="status", retry_after=3600)
        payloads = fired(*(a_trigger(id_, seconds=1) for id_ in ids))
        assert len(status_requests(sandbox)) <= IN_FLIGHT, "what was in flight already, and then nobody"
        reasons = {payload["reason"] for payload in payloads if payload["ending"] == "timed_out"}
        assert reasons
        assert all("rate limited by Messente" in reason for reason in reasons)

    @full_size
    def test_after_the_pause_all_go_on(self, send, sandbox):
        ids = [send() for _ in range(40)]
        sandbox.advance(10)
        sandbox.add_fault("rate_limited", call="status", retry_after=1)
        payloads = fired(*(a_trigger(id_) for id_ in ids))
        assert {payload["ending"] for payload in payloads} == {"fulfilled"}

    def test_without_retry_after_the_pauses_grow(self, sandbox, pauses):
        async def found():
            poller = Poller(CONNECTION)
            sandbox.add_fault("rate_limited", call="status", times=3)
            for _ in range(3):
                with pytest.raises(RateLimitedError):
                    await poller.make(delivery_report("m-1"), timeout=5)
                with pytest.raises(RateLimitedError):
                    await poller.make(delivery_report("m-1"), timeout=5)
                yield poller.pause_left()
                pauses.sleep(poller.pause_left())
            await poller.close()

        async def all_of_them():
            return [pause async for pause in found()]

        assert asyncio.run(all_of_them()) == pytest.approx([1, 2, 4], abs=0.5)
        assert len(status_requests(sandbox)) == 3, "during a pause nobody asks"

    def test_a_429_of_a_task_pauses_the_triggers_too(self, sandbox, send):
        async def paused_by():
            poller = Poller(CONNECTION)
            await poller.make(delivery_report(send()), timeout=5)
            sandbox.add_fault("rate_limited", call="status", retry_after=30)
            with OmnimessageHook() as hook, hook.within(1), pytest.raises(RateLimitedError):
                hook.get_delivery_report("m-1")
            left = poller.pause_left()
            await poller.close()
            return left

        assert asyncio.run(paused_by()) == pytest.approx(30, abs=2)

    def test_a_401_ends_all_waits_at_once(self, send, sandbox):
        ids = [send("+37255550004") for _ in range(20)]
        later = (now() + timedelta(hours=1)).isoformat()
        sandbox.add_fault("unauthorized", call="status", times="always")
        triggers = [a_trigger(id_, time_to_send=None if n == 0 else later, seconds=7200) for n, id_ in enumerate(ids)]
        payloads = fired(*triggers)
        assert {payload["ending"] for payload in payloads} == {"error"}
        assert all("login and password" in payload["reason"] for payload in payloads)
        assert len(status_requests(sandbox)) == 1

    def test_after_a_401_the_connection_is_looked_up_again(self, delivered, sandbox, monkeypatch):
        right = sandbox.airflow_conn
        wrong = json.dumps({**json.loads(right), "password": "changed-since"})
        monkeypatch.setenv("AIRFLOW_CONN_OMNIMESSAGE_DEFAULT", wrong)
        looked_up, connection_of = [], lookup.connection_of

        async def corrected(conn_id):
            connection = await connection_of(conn_id)
            looked_up.append(conn_id)
            monkeypatch.setenv("AIRFLOW_CONN_OMNIMESSAGE_DEFAULT", right)
            return connection

        monkeypatch.setattr(lookup, "connection_of", corrected)
        payloads = fired(*(a_trigger(delivered) for _ in range(20)))
        assert {payload["ending"] for payload in payloads} == {"fulfilled"}
        assert len(looked_up) == 2

    def test_a_wait_after_a_401_begins_anew(self, delivered, sandbox):
        async def one_after_another():
            async with polling.polling(CONNECTION, a_wait()) as poller:
                sandbox.add_fault("unauthorized", call="status")
                with pytest.raises(AuthenticationError):
                    await poller.make(delivery_report(delivered), timeout=5)
                return await fire(a_trigger(delivered))

        (event,) = asyncio.run(one_after_another())
        assert event.payload["ending"] == "fulfilled"

    def test_the_loop_runs_while_a_response_is_awaited(self, delivered, sandbox):
        sandbox.add_fault("slow", call="status", seconds=1)

        async def turn():
            turns = 0
            waiting = asyncio.create_task(fire(a_trigger(delivered)))
            while not status_requests(sandbox):
                await asyncio.sleep(0.01)
            while not waiting.done():
                turns += 1
                await asyncio.sleep(0.01)
            await waiting
            return turns

        assert asyncio.run(turn()) > 5


class TestTheTransport:
    def make(self, call, connection):
        async def make():
            transport = await AiohttpTransport.open(Settings.read(connection), connections=1)
            try:
                return await transport.make(call)
            finally:
                await transport.close()

        return asyncio.run(make())

    def a_connection(self, sandbox, **changes):
        from airflow.sdk import Connection

        return Connection(conn_id="c", **{**sandbox.connection, **changes})

    def test_it_makes_the_calls_that_tasks_make(self, sandbox):
        from airflow_provider_omnimessage.api import calls

        connection = self.a_connection(sandbox)
        accepted = self.make(calls.send(omnimessage("+37255555555", [sms("Grüße 🔑")])), connection)
        assert sandbox.message(accepted.omnimessage_id)["body"]["messages"][0]["text"] == "Grüße 🔑"
        assert self.make(delivery_report(accepted.omnimessage_id), connection).statuses[0].channel == "sms"

    def test_a_refused_connection_means_not_sent(self, sandbox):
        from _airflow import free_port

        with pytest.raises(NotSentError, match="nothing was sent"):
            self.make(delivery_report("m-1"), self.a_connection(sandbox, host=f"http://127.0.0.1:{free_port()}/v1"))

    def test_a_server_with_an_untrusted_certificate_gets_no_request(self, sandbox, untrusted_server):
        with pytest.raises(UntrustedError, match=r"CERTIFICATE_VERIFY_FAILED.*REQUESTS_CA_BUNDLE"):
            self.make(delivery_report("m-1"), self.a_connection(sandbox, host=untrusted_server.host))
        assert untrusted_server.received == []

    @pytest.mark.parametrize("fault", [{"fault": "cut", "times": 5}, {"fault": "slow", "seconds": 5}])
    def test_a_missing_response_is_a_lost_response(self, sandbox, fault):
        sandbox.add_fault(**fault)
        with pytest.raises(LostResponseError, match="no complete response"):
            self.make(delivery_report("m-1"), self.a_connection(sandbox, extra='{"timeout": 0.3}'))

    def test_a_redirect_is_not_followed(self, sandbox):
        sandbox.add_fault("redirect", location="https://elsewhere.example/")
        with pytest.raises(Exception, match=r"redirect to elsewhere\.example"):
            self.make(delivery_report("m-1"), self.a_connection(sandbox))
        assert len(sandbox.requests) == 1

    def test_it_takes_the_proxy_and_the_certificates_that_requests_takes(self, monkeypatch):
        settings = Settings("https://api.messente.com/v1", "user", "password")
        monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
        assert network.proxy_url(settings.base_url) == "http://proxy.example:3128"
        monkeypatch.setenv("NO_PROXY", "api.messente.com")
        assert network.proxy_url(settings.base_url) is None


class TestTheTurn:
    """A lock for a limited time."""

    @staticmethod
    async def a_turn(lock, seconds=10.0):
        async with polling._turn(lock, seconds, delivery_report("it")):
            await asyncio.sleep(10)

    @pytest.mark.parametrize("iterations", range(6))
    @pytest.mark.parametrize("kind", [asyncio.Lock, lambda: asyncio.Semaphore(1)], ids=["lock", "semaphore"])
    def test_a_wait_that_is_cancelled_when_its_turn_comes_ends_and_keeps_nothing(self, kind, iterations):
        async def cancel_around_the_turn():
            lock = kind()
            await lock.acquire()
            waiting = asyncio.ensure_future(self.a_turn(lock))
            await asyncio.sleep(0.01)
            lock.release()
            for _ in range(iterations):
                await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(waiting, 5)
            await asyncio.wait_for(lock.acquire(), 5)

        asyncio.run(cancel_around_the_turn())

    def test_it_ends_after_its_time_and_keeps_nothing(self):
        async def take():
            lock = asyncio.Lock()
            await lock.acquire()
            with pytest.raises(DeadlineExceededError):
                await self.a_turn(lock, 0.01)
            lock.release()
            await asyncio.sleep(0.01)
            assert not lock.locked()

        asyncio.run(take())
