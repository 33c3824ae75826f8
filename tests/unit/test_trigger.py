"""The trigger and the poller that all triggers share, against the sandbox over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import json
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import AirflowNotFoundException
from airflow.triggers.base import TaskSuccessEvent, TriggerEvent
from blockbuster import blockbuster_ctx

from airflow_provider_omnimessage.api import delivery, waiting
from airflow_provider_omnimessage.api.calls import delivery_report
from airflow_provider_omnimessage.api.errors import (
    AuthenticationError,
    LostResponseError,
    NotSentError,
    RateLimitedError,
    UntrustedError,
)
from airflow_provider_omnimessage.api.messages import omnimessage, sms, viber
from airflow_provider_omnimessage.api.poll_times import next_poll, spread_of
from airflow_provider_omnimessage.api.waiting import Wait
from airflow_provider_omnimessage.hooks import lookup, network
from airflow_provider_omnimessage.hooks.aiohttp_transport import AiohttpTransport
from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook
from airflow_provider_omnimessage.hooks.settings import Settings
from airflow_provider_omnimessage.triggers import omnimessage as triggers
from airflow_provider_omnimessage.triggers import polling
from airflow_provider_omnimessage.triggers.omnimessage import OmnimessageDeliveryTrigger
from airflow_provider_omnimessage.triggers.polling import IN_FLIGHT, Poller

CONNECTION = "omnimessage_default"


@pytest.fixture(autouse=True)
def _quick_confirmation(monkeypatch):
    for module in (delivery, waiting):
        monkeypatch.setattr(module, "CONFIRM_FAILED_AFTER", 0.2)


def now():
    return datetime.now(timezone.utc)


def a_trigger(*ids, time_to_send=None, seconds=30, **settings):
    return OmnimessageDeliveryTrigger(
        messages=[(id_, time_to_send) for id_ in ids],
        omnimessage_conn_id=CONNECTION,
        **{
            "since": now().isoformat(),
            "deadline": (now() + timedelta(seconds=seconds)).isoformat(),
            "poke_interval": 0.05,
            **settings,
        },
    )


def a_wait():
    return Wait([], since=now(), deadline=now() + timedelta(hours=1), poke_interval=60.0)


def again(trigger):
    """What a triggerer makes of the row that the trigger has left."""
    path, kwargs = trigger.serialize()
    assert path == "airflow_provider_omnimessage.triggers.omnimessage.OmnimessageDeliveryTrigger"
    return OmnimessageDeliveryTrigger(**json.loads(json.dumps(kwargs)))


def in_triggerer(trigger):
    trigger = again(trigger)
    trigger.trigger_id = 7
    trigger.task_instance = SimpleNamespace(dag_id="dag", task_id="wait", run_id="run", map_index=None)
    return trigger


@pytest.fixture
def pushed(monkeypatch):
    """What is pushed as XComs; the system tests have a supervisor for it."""
    from airflow.sdk.execution_time.xcom import XCom

    pushed = []
    monkeypatch.setattr(XCom, "set", lambda **kwargs: pushed.append(kwargs))
    return pushed


async def fire(*triggers):
    async def events(trigger):
        return [event async for event in again(trigger).run()]

    found = await asyncio.gather(*map(events, triggers))
    assert all(len(events) == 1 for events in found), "each fires once"
    return [events[0] for events in found]


def fired(*triggers):
    events = asyncio.run(fire(*triggers))
    return [event.payload for event in events] if len(events) > 1 else events[0].payload


@pytest.fixture
def send(sandbox):
    sandbox.freeze()
    return lambda to="+37255555555", **when: OmnimessageHook().send(to, [viber("a"), sms("a")], **when).omnimessage_id


@pytest.fixture
def delivered(send, sandbox):
    id_ = send()
    sandbox.advance(10)
    return id_


def status_requests(sandbox):
    return [request for request in sandbox.requests if request["call"] == "status"]


class TestTheTrigger:
    def test_it_fires_with_the_report(self, delivered):
        payload = fired(a_trigger(delivered))
        assert payload["ending"] == "fulfilled"
        (report,) = payload["reports"]
        assert (report["omnimessage_id"], report["delivered_by"]) == (delivered, "viber")

    def test_it_fires_with_the_carriers_reason(self, send, sandbox):
        id_ = send("+37255550001")
        sandbox.advance(10)
        payload = fired(a_trigger(id_))
        assert payload["ending"] == "failed"
        assert "viber: UNDELIV (Delivery failure); sms: UNDELIV (Delivery failure)" in payload["reason"]
        assert len(status_requests(sandbox)) == 2, "a failure takes a second look"

    def test_it_fires_when_the_message_is_cancelled(self, send):
        id_ = send(time_to_send=timedelta(hours=1))
        OmnimessageHook().cancel(id_)
        assert fired(a_trigger(id_))["ending"] == "cancelled"

    def test_nobody_asks_before_the_time_not_even_when_the_deadline_comes_first(self, send, sandbox):
        id_ = send(time_to_send=timedelta(hours=1))
        payload = fired(a_trigger(id_, time_to_send=(now() + timedelta(hours=1)).isoformat(), seconds=0.1))
        assert payload["ending"] == "timed_out"
        assert "not polled before" in payload["reason"]
        assert status_requests(sandbox) == []

    def test_the_deadline_is_absolute_and_takes_a_last_look(self, delivered, sandbox):
        assert fired(a_trigger(delivered, poke_interval=3600, seconds=-5))["ending"] == "fulfilled"
        assert len(status_requests(sandbox)) == 1

    def test_its_time_being_over_says_how_far_it_came(self, send, sandbox):
        id_ = send("+37255550004")
        sandbox.advance(10)
        payload = fired(a_trigger(id_, seconds=0.3, limit="the timeout of 0:00:01"))
        assert payload["reason"] == f"Not delivered within the timeout of 0:00:01: {id_}: viber: ACCEPTD"

    def test_any_of_many(self, send, sandbox):
        stuck, good = send("+37255550004"), send()
        sandbox.advance(10)
        assert fired(a_trigger(stuck, good, require="any"))["ending"] == "fulfilled"

    @pytest.mark.parametrize("fault", ["server_error", "cut", "lost_answer", "broken_json", "html"])
    def test_what_may_pass_is_waited_out(self, delivered, sandbox, fault):
        sandbox.add_fault(fault, call="status", times=3)
        assert fired(a_trigger(delivered))["ending"] == "fulfilled"

    def test_a_wrong_connection_is_told(self, sandbox, monkeypatch):
        monkeypatch.setenv("AIRFLOW_CONN_OMNIMESSAGE_DEFAULT", '{"conn_type": "omnimessage"}')
        payload = fired(a_trigger("m-1"))
        assert payload["ending"] == "error"
        assert "connection 'omnimessage_default', login" in payload["reason"]

    def test_a_success_ends_the_task_where_there_is_a_triggerer(self, delivered, pushed, monkeypatch):
        monkeypatch.setattr(triggers, "SHORTEST_ABSENCE", 0.0)

        async def event(**settings):
            return await anext(in_triggerer(a_trigger(delivered, **settings)).run())

        ended = asyncio.run(event(ends_task=True, one=True))
        assert isinstance(ended, TaskSuccessEvent)
        assert pushed[0]["value"]["omnimessage_id"] == delivered
        assert {**pushed[0], "value": None} == {
            "key": "return_value", "value": None, "dag_id": "dag", "task_id": "wait", "run_id": "run", "map_index": -1,
        }  # fmt: skip
        assert ended.xcoms is None, "Airflow would write it as JSON within JSON"
        asyncio.run(event(ends_task=True))
        assert isinstance(pushed[1]["value"], list)
        assert type(asyncio.run(event())) is TriggerEvent
        assert len(pushed) == 2

    def test_a_worker_ends_it_where_the_xcom_cannot_be_pushed(self, delivered, monkeypatch):
        from airflow.sdk.execution_time.xcom import XCom

        def no_supervisor(**kwargs):
            raise ConnectionError("gone")

        monkeypatch.setattr(XCom, "set", no_supervisor)
        monkeypatch.setattr(triggers, "SHORTEST_ABSENCE", 0.0)

        async def event():
            return await anext(in_triggerer(a_trigger(delivered, ends_task=True)).run())

        ended = asyncio.run(event())
        assert type(ended) is TriggerEvent
        assert ended.payload["reports"][0]["omnimessage_id"] == delivered

    def test_a_failure_never_does(self, send, sandbox, monkeypatch):
        monkeypatch.setattr(triggers, "SHORTEST_ABSENCE", 0.0)

        async def event():
            trigger = again(a_trigger(send("+37255550001"), ends_task=True))
            trigger.trigger_id = 7
            sandbox.advance(10)
            return await anext(trigger.run())

        assert type(asyncio.run(event())) is TriggerEvent

    def test_what_goes_back_to_a_worker_gives_the_scheduler_time_to_see_the_task_gone(self, send, sandbox):
        """A task that is back before the scheduler has noticed its going is taken for one that was killed."""
        id_ = send("+37255550001")
        sandbox.advance(10)

        async def event():
            trigger = again(a_trigger(id_, ends_task=True))
            trigger.trigger_id = 7
            firing = asyncio.ensure_future(anext(trigger.run()))
            while polling._pollers.get(asyncio.get_running_loop()) or not status_requests(sandbox):
                await asyncio.sleep(0.01)
            return await asyncio.wait_for(firing, 0.3)

        with pytest.raises(asyncio.TimeoutError):
            asyncio.run(event())

    def test_the_log_tells_each_change_once(self, send, sandbox, capsys):
        id_ = send()

        async def watch():
            waiting = asyncio.create_task(fire(a_trigger(id_)))
            for seconds in (0.6, 0.6, 5):
                seen = len(status_requests(sandbox))
                while len(status_requests(sandbox)) < seen + 3:
                    await asyncio.sleep(0.01)
                await asyncio.to_thread(sandbox.advance, seconds)
            await waiting

        asyncio.run(watch())
        told = [line.split(f"{id_}: ")[1] for line in capsys.readouterr().out.splitlines() if f"{id_}: " in line]
        expected = ["viber: in progress", "viber: ACK", "viber: ACCEPTD", "delivered (viber: DELIVRD)"]
        assert [line[: len(words)] for line, words in zip(told, expected, strict=True)] == expected

    def test_what_it_returns_ends_the_task_from_the_triggerer(self, send, sandbox, pushed, monkeypatch):
        id_ = send("+37255550001")
        sandbox.advance(10)

        async def event():
            trigger = a_trigger(id_, ends_task=True, one=True, returns=["fulfilled", "failed"])
            return await anext(in_triggerer(trigger).run())

        assert isinstance(asyncio.run(event()), TaskSuccessEvent)
        assert pushed[0]["value"]["outcome"] == "failed"

    def test_it_ends_by_its_deadline_though_responses_are_slow(self, send, sandbox):
        ids = [send("+37255550004") for _ in range(12)]
        sandbox.add_fault("slow", call="status", seconds=20, times="always")
        payload = fired(a_trigger(*ids, seconds=0.5))
        assert payload["ending"] == "timed_out"
        assert len(status_requests(sandbox)) == 1, "the others wait for the first"

    def test_rejected_credentials_are_one_request(self, send, sandbox):
        ids = [send() for _ in range(30)]
        sandbox.add_fault("unauthorized", call="status", times="always")
        assert fired(a_trigger(*ids))["ending"] == "error"
        assert len(status_requests(sandbox)) == 1

    def test_a_row_of_an_older_version_is_read(self, delivered):
        row = {
            "messages": [[delivered, None]],
            "omnimessage_conn_id": CONNECTION,
            "since": now().isoformat(),
            "deadline": (now() + timedelta(seconds=30)).isoformat(),
            "poke_interval": 0.05,
            "wait_for": "delivered",
            "require": "all",
            "limit": "the timeout of 0:00:30",
            "ends_task": True,
            "one": True,
            "bulk": None,
        }
        assert fired(OmnimessageDeliveryTrigger(**row))["ending"] == "fulfilled"
        bulk = {**row, "messages": [], "one": False, "bulk": {"ids": delivered, "moments": "-"}}
        assert fired(OmnimessageDeliveryTrigger(**bulk))["counts"]["delivered"] == 1

    def test_a_look_up_of_the_connection_that_fails_is_repeated(self, delivered, monkeypatch):
        look_up, failures = lookup.connection_of, [ConnectionError("no supervisor"), AirflowNotFoundException("gone")]

        async def fails_at_first(conn_id):
            if failures:
                raise failures.pop()
            return await look_up(conn_id)

        monkeypatch.setattr(lookup, "connection_of", fails_at_first)
        assert fired(a_trigger(delivered))["ending"] == "fulfilled"
        assert failures == []

    def test_a_connection_that_does_not_exist_ends_the_wait(self, sandbox, monkeypatch):
        monkeypatch.setattr(polling.backoff, "pause", lambda *_: 0.0)

        async def is_missing(conn_id):
            raise AirflowNotFoundException(conn_id)

        monkeypatch.setattr(lookup, "connection_of", is_missing)
        payload = fired(a_trigger("m-1"))
        assert payload["ending"] == "error"
        assert "connection 'omnimessage_default' does not exist; create it in Airflow" in payload["reason"]

    def test_what_comes_from_elsewhere_wakes_it(self, send, sandbox):
        """A listener finds the wait at the poller, makes a message due, and wakes it."""
        id_ = send()

        async def listen():
            waiting_ = asyncio.create_task(fire(a_trigger(id_, poke_interval=3600, seconds=7200)))
            while not polling._pollers.get(asyncio.get_running_loop()):
                await asyncio.sleep(0.01)
            (poller,) = polling._pollers[asyncio.get_running_loop()].values()
            await asyncio.sleep(0.05)
            await asyncio.to_thread(sandbox.advance, 10)
            (wait,) = poller.waits
            wait.make_due(wait.find(id_), now())
            poller.wake(wait)
            return await asyncio.wait_for(waiting_, 20)

        (event,) = asyncio.run(listen())
        assert event.payload["ending"] == "fulfilled"
        assert len(status_requests(sandbox)) == 1

    def test_what_it_serialises_is_no_secret(self, sandbox):
        _, kwargs = a_trigger("m-1").serialize()
        assert set(kwargs) == {
            "messages", "omnimessage_conn_id", "since", "deadline", "poke_interval",
            "wait_for", "require", "limit", "ends_task", "returns", "one", "bulk",
        }  # fmt: skip
        assert sandbox.password not in json.dumps(kwargs)


class TestThousands:
    def a_bulk(self, ids, **settings):
        return a_trigger(**{"bulk": {"ids": " ".join(ids), "moments": "-"}, **settings})

    def test_they_are_counted(self, send, sandbox):
        ids = [send("+37255550001" if index < 3 else "+37255555555") for index in range(60)]
        sandbox.advance(10)
        payload = fired(self.a_bulk(ids, require=0.9))
        assert payload["ending"] == "fulfilled"
        assert payload["reports"] == []
        assert payload["counts"]["messages"] == 60
        assert payload["counts"]["delivered"] >= 54

    def test_several_bulk_sends_are_one_wait(self, send, sandbox, tmp_path):
        ids = [send() for _ in range(5)]
        sandbox.advance(10)
        path = tmp_path / "results.jsonl"
        rows = [{"row": n, "omnimessage_id": id_, "time_to_send": None} for n, id_ in enumerate(ids[3:], 1)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        bulk = [{"ids": " ".join(ids[:3]), "moments": "-"}, {"results": str(path)}]
        assert fired(a_trigger(bulk=bulk))["counts"]["delivered"] == 5

    def test_success_ends_the_task_with_the_numbers(self, delivered, pushed):
        async def event():
            return await anext(in_triggerer(self.a_bulk([delivered], ends_task=True)).run())

        assert isinstance(asyncio.run(event()), TaskSuccessEvent)
        assert pushed[0]["value"]["delivered"] == 1

    def test_while_messente_asks_to_slow_down_nobody_asks(self, send, sandbox):
        ids = [send() for _ in range(40)]
        sandbox.advance(10)
        sandbox.add_fault("rate_limited", call="status", retry_after=1)
        asked = len(status_requests(sandbox))
        assert fired(self.a_bulk(ids))["ending"] == "fulfilled"
        assert len(status_requests(sandbox)) - asked <= 40 + IN_FLIGHT

    def test_refused_credentials_end_it(self, send, sandbox):
        ids = [send() for _ in range(40)]
        sandbox.add_fault("unauthorized", call="status", times="always")
        assert fired(self.a_bulk(ids))["ending"] == "error"
        assert len(status_requests(sandbox)) <= 2 * IN_FLIGHT

    def test_a_file_that_is_gone_is_told(self, sandbox, tmp_path):
        payload = fired(a_trigger(bulk={"results": str(tmp_path / "gone.jsonl")}))
        assert payload["ending"] == "error"
        assert payload["reason"].startswith("The results of the bulk send could not be read: ")

    @pytest.mark.parametrize("content", ['{"row": 1, "sta', "[1]", '{"name": "Anna"}', "\x00"])
    def test_a_file_that_is_something_else_by_now_is_told(self, sandbox, tmp_path, content):
        path = tmp_path / "results.jsonl"
        path.write_text(f"{content}\n")
        payload = fired(a_trigger(bulk={"results": str(path)}))
        assert payload["ending"] == "error"
        assert payload["reason"].startswith("The results of the bulk send could not be read: ")


class TestThePollerOfAll:
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

    def test_a_cancelled_wait_lets_go_too(self, send):
        async def cancel():
            task = asyncio.create_task(fire(a_trigger(send("+37255550004"))))
            while not polling._pollers.get(asyncio.get_running_loop()):
                await asyncio.sleep(0.01)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            assert polling._pollers[asyncio.get_running_loop()] == {}

        asyncio.run(cancel())

    def test_a_thousand_waits_that_begin_at_once_and_again_after_a_restart_ask_no_more_than_they_would(
        self, send, sandbox
    ):
        """Their looks are spread over ``poke_interval``, and a restart asks for none of them a second time."""
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
        asked = [request["path"] for request in status_requests(sandbox)]
        assert len(asked) == len(set(asked)), "nobody is asked for twice within one gap"
        until = 3600.0 + (now() - begun).total_seconds() + 1
        allowed = sum(next_poll(3600.0, 600.0, spread_of(id_)) <= until for id_ in ids)
        assert len(asked) <= allowed, "what was due in that time, and no herd"

    def test_a_thousand_waits_that_are_due_at_once_are_asked_for_a_few_at_a_time(self, delivered, sandbox, monkeypatch):
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
        payloads = fired(*(a_trigger(delivered, poke_interval=0.001) for _ in range(1000)))
        assert {payload["ending"] for payload in payloads} == {"fulfilled"}
        assert len(status_requests(sandbox)) == 1000
        assert 1 < most <= IN_FLIGHT

    def test_nothing_blocks_the_loop(self, send, sandbox):
        """Blockbuster raises where something that blocks is called on the loop: a file, a socket, a sleep, a lock."""
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
        told = {payload["reason"] for payload in payloads if payload["ending"] == "timed_out"}
        assert told
        assert all("rate limited by Messente" in reason for reason in told)

    def test_after_the_pause_all_go_on(self, send, sandbox):
        ids = [send() for _ in range(40)]
        sandbox.advance(10)
        sandbox.add_fault("rate_limited", call="status", times=3, retry_after=1)
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

    def test_a_429_that_a_task_got_pauses_the_triggers_too(self, sandbox, send):
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

    def test_a_401_fails_all_at_once_those_who_sleep_too(self, send, sandbox):
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

    def test_who_comes_after_a_refusal_begins_anew(self, delivered, sandbox):
        async def one_after_another():
            async with polling.polling(CONNECTION, a_wait()) as poller:
                sandbox.add_fault("unauthorized", call="status")
                with pytest.raises(AuthenticationError):
                    await poller.make(delivery_report(delivered), timeout=5)
                return await fire(a_trigger(delivered))

        (event,) = asyncio.run(one_after_another())
        assert event.payload["ending"] == "fulfilled"

    def test_the_loop_turns_while_an_answer_is_waited_for(self, delivered, sandbox):
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

    def test_nobody_listening_is_not_sent(self, sandbox):
        from _airflow import free_port

        with pytest.raises(NotSentError, match="nothing was sent"):
            self.make(delivery_report("m-1"), self.a_connection(sandbox, host=f"http://127.0.0.1:{free_port()}/v1"))

    def test_a_certificate_that_nobody_vouches_for_is_sent_nothing(self, sandbox, untrusted_server):
        with pytest.raises(UntrustedError, match=r"CERTIFICATE_VERIFY_FAILED.*REQUESTS_CA_BUNDLE"):
            self.make(delivery_report("m-1"), self.a_connection(sandbox, host=untrusted_server.host))
        assert untrusted_server.heard == []

    @pytest.mark.parametrize("fault", [{"fault": "cut", "times": 5}, {"fault": "slow", "seconds": 5}])
    def test_no_answer_is_a_lost_answer(self, sandbox, fault):
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
