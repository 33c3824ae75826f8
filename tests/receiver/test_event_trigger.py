"""Asset events, against a real receiver; the sandbox posts the reports."""

from __future__ import annotations

import asyncio
import json
import os
import time
from typing import Any

import pytest
from full_size import first as first_ones
from receivers import CONN_ID, REPLY_SECRET, RunningReceiver, report
from waiting import PATIENCE

from airflow_provider_omnimessage.api.errors import InvalidInputError
from airflow_provider_omnimessage.api.messages import sms, viber
from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook
from airflow_provider_omnimessage.receiver.events import FAILURES
from airflow_provider_omnimessage.receiver.store import StoreUnavailableError
from airflow_provider_omnimessage.sandbox import Sandbox
from airflow_provider_omnimessage.triggers import events
from airflow_provider_omnimessage.triggers.events import OmnimessageEventTrigger


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "PERSISTED_AFTER", 0.05)
    monkeypatch.setattr(events, "CONFIRM_AFTER", 0.05)


async def fired(many: int, **arguments: Any) -> list[dict[str, Any]]:
    """Run a trigger, as a triggerer that has just started does, until it has fired so often."""
    path, kwargs = OmnimessageEventTrigger(**arguments).serialize()
    assert path == "airflow_provider_omnimessage.triggers.events.OmnimessageEventTrigger"
    running = OmnimessageEventTrigger(**json.loads(json.dumps(kwargs))).run()
    payloads: list[dict[str, Any]] = []
    try:
        while len(payloads) < many:
            event = await asyncio.wait_for(anext(running), PATIENCE)
            payloads.append(event.payload)
        return payloads
    finally:
        await running.aclose()  # type: ignore[attr-defined]


def fail(receiver: RunningReceiver, sandbox: Sandbox) -> str:
    """Send a message that fails, and return its id once the receiver has its report."""
    id_ = OmnimessageHook(CONN_ID).send("+37255550001", [sms("a")]).omnimessage_id
    sandbox.advance(30)
    _until_posted(receiver, [id_])
    return id_


def status_requests(sandbox: Sandbox) -> int:
    return sum(request["call"] == "status" for request in sandbox.requests)


def begin(receiver: RunningReceiver, consumer: str = "airflow") -> None:
    for position in (consumer + FAILURES, consumer):
        receiver.events(consumer=position)


def test_each_message_fires_once_with_its_final_outcome(receiver: RunningReceiver, pushing_sandbox: Sandbox) -> None:
    begin(receiver)
    hook = OmnimessageHook(CONN_ID)
    outcomes = {"+37255550001": "failed", "+37255550002": "delivered", "+37255550003": "delivered"}
    ids = {hook.send(to, [viber("a"), sms("a")]).omnimessage_id: ending for to, ending in outcomes.items()}
    scheduled = hook.send("+37255559999", [sms("a")], time_to_send="2099-01-01T00:00+00:00").omnimessage_id
    hook.cancel(scheduled)
    ids[scheduled] = "cancelled"
    pushing_sandbox.advance(30)
    _until_posted(receiver, ids)

    payloads = asyncio.run(fired(4))
    assert {payload["id"]: payload["outcome"] for payload in payloads} == ids
    delivered = next(payload for payload in payloads if payload["outcome"] == "delivered")
    assert set(delivered) == {"id", "kind", "outcome", "channel", "time", "price", "conn_id"}
    assert delivered["conn_id"] == CONN_ID
    assert "+372" not in json.dumps(payloads)


def test_a_trigger_that_restarts_goes_on_where_it_was(receiver: RunningReceiver, pushing_sandbox: Sandbox) -> None:
    begin(receiver)
    for number in range(3):
        receiver.post(report(f"a{number}"))

    async def first() -> list[dict[str, Any]]:
        trigger = OmnimessageEventTrigger().run()
        try:
            payloads = [(await anext(trigger)).payload for _ in range(3)]
            # it goes on reading: then it has acknowledged what it has fired
            waiting = asyncio.ensure_future(anext(trigger))
            await _until_acknowledged(receiver, 3)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            return payloads
        finally:
            await trigger.aclose()  # type: ignore[attr-defined]

    before = asyncio.run(first())
    receiver.post(report("b"))
    after = asyncio.run(fired(1))
    assert [payload["id"] for payload in before + after] == ["a0", "a1", "a2", "b"]


def test_what_was_not_acknowledged_fires_again_with_the_same_payload(
    receiver: RunningReceiver, pushing_sandbox: Sandbox
) -> None:
    begin(receiver)
    for number in range(3):
        receiver.post(report(f"a{number}"))
    killed = asyncio.run(fired(2))
    assert asyncio.run(fired(3))[:2] == killed


def test_later_and_doubled_reports_of_a_message_do_not_fire(
    receiver: RunningReceiver, pushing_sandbox: Sandbox
) -> None:
    begin(receiver)
    for status in ("ACK", "DELIVRD", "DELIVRD", "SEEN", "UNDELIV"):
        receiver.post(report("a", status))
    receiver.post(report("a", "DELIVRD", message_id="another channel"))
    receiver.post(report("b"))
    assert [payload["id"] for payload in asyncio.run(fired(2))] == ["a", "b"]


def test_consumers_do_not_take_each_others_events(receiver: RunningReceiver, pushing_sandbox: Sandbox) -> None:
    begin(receiver, "one")
    begin(receiver, "two")
    receiver.post(report("a"))
    for consumer in ("one", "two"):
        assert [payload["id"] for payload in asyncio.run(fired(1, consumer=consumer))] == ["a"]


def test_replies_fire_only_if_requested(receiver: RunningReceiver, pushing_sandbox: Sandbox) -> None:
    begin(receiver, "with")
    begin(receiver, "without")
    receiver.post({"msg_id": "r1", "channel": "sms", "text": "OK"}, route="replies", password=REPLY_SECRET)
    receiver.post(report("a"))
    with_replies = asyncio.run(fired(2, consumer="with", replies=True))
    assert [(payload["id"], payload["outcome"]) for payload in with_replies] == [("r1", "replied"), ("a", "delivered")]
    assert [payload["id"] for payload in asyncio.run(fired(1, consumer="without"))] == ["a"]


def test_a_failure_waits_for_messente_to_come_back(receiver: RunningReceiver, pushing_sandbox: Sandbox) -> None:
    begin(receiver)
    id_ = OmnimessageHook(CONN_ID).send("+37255550001", [sms("a")]).omnimessage_id
    pushing_sandbox.advance(30)
    _until_posted(receiver, [id_])
    pushing_sandbox.add_fault("server_error", call="status", times=2, status=503)
    assert [payload["outcome"] for payload in asyncio.run(fired(1))] == ["failed"]


FAULTS_OF_ONE_RESPONSE = [
    {"fault": "unauthorized"},
    {"fault": "html"},
    {"fault": "broken_json"},
    {"fault": "cut"},
    {"fault": "redirect", "location": "https://example.com/"},
]


@pytest.mark.parametrize("fault", first_ones(2, FAULTS_OF_ONE_RESPONSE), ids=lambda fault: fault["fault"])
def test_no_bad_response_of_messente_loses_a_failure(
    receiver: RunningReceiver, pushing_sandbox: Sandbox, fault: dict[str, str]
) -> None:
    begin(receiver)
    id_ = fail(receiver, pushing_sandbox)
    pushing_sandbox.add_fault(**fault, call="status", times=1)
    assert [(payload["id"], payload["outcome"]) for payload in asyncio.run(fired(1))] == [(id_, "failed")]


def test_a_failure_waits_until_the_connection_is_corrected(
    receiver: RunningReceiver, pushing_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(receiver)
    id_ = fail(receiver, pushing_sandbox)
    variable = f"AIRFLOW_CONN_{CONN_ID.upper()}"
    right = os.environ[variable]
    monkeypatch.setenv(variable, json.dumps({**json.loads(right), "login": "somebody else"}))

    async def correct_it_while_the_trigger_runs() -> list[dict[str, Any]]:
        firing = asyncio.create_task(fired(1))
        while not await asyncio.to_thread(lambda: status_requests(pushing_sandbox)):
            await asyncio.sleep(0.05)
        monkeypatch.setenv(variable, right)
        return await firing

    assert [payload["id"] for payload in asyncio.run(correct_it_while_the_trigger_runs())] == [id_]


def test_what_has_fired_does_not_fire_again_because_a_failure_is_unconfirmed(
    receiver: RunningReceiver, pushing_sandbox: Sandbox
) -> None:
    begin(receiver)
    failed = fail(receiver, pushing_sandbox)
    pushing_sandbox.add_fault("server_error", call="status", times="always", status=503)

    async def first() -> list[str]:
        trigger = OmnimessageEventTrigger().run()
        ids = []
        for number in range(3):
            await asyncio.to_thread(receiver.post, report(f"a{number}"))
            ids.append((await asyncio.wait_for(anext(trigger), PATIENCE)).payload["id"])
        end = await asyncio.to_thread(lambda: receiver.events().body["position"])
        following = asyncio.ensure_future(anext(trigger))
        await _until_acknowledged(receiver, end)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        return ids

    assert asyncio.run(first()) == ["a0", "a1", "a2"]
    receiver.post(report("b"))
    assert [payload["id"] for payload in asyncio.run(fired(1))] == ["b"]
    pushing_sandbox.clear_faults()
    assert {payload["id"] for payload in asyncio.run(fired(2))} == {"b", failed}  # b was not acknowledged


def test_deliveries_do_not_wait_for_slow_confirmations(receiver: RunningReceiver, pushing_sandbox: Sandbox) -> None:
    begin(receiver)
    for _ in range(3):
        fail(receiver, pushing_sandbox)
    pushing_sandbox.add_fault("slow", call="status", times="always", seconds=5)

    async def deliver_during_the_first_request() -> list[dict[str, Any]]:
        firing = asyncio.create_task(fired(1))
        await asyncio.sleep(1)
        await asyncio.to_thread(receiver.post, report("delivered"))
        return await asyncio.wait_for(firing, 10)

    assert [payload["id"] for payload in asyncio.run(deliver_during_the_first_request())] == ["delivered"]


def test_failures_fire_in_order_but_pass_one_that_messente_does_not_report(
    receiver: RunningReceiver, pushing_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(receiver)
    receiver.post(report("not-known-yet", "UNDELIV"))
    id_ = fail(receiver, pushing_sandbox)

    async def nothing_fires() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(anext(OmnimessageEventTrigger().run()), 2)

    asyncio.run(nothing_fires())
    monkeypatch.setattr(events, "PASS_AFTER", 0.1)
    monkeypatch.setattr(events, "LONG_POLL", 0.2)
    assert [payload["id"] for payload in asyncio.run(fired(1))] == [id_]


def test_events_go_on_after_the_receiver_has_failed(
    receiver: RunningReceiver, pushing_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(receiver)
    failed = fail(receiver, pushing_sandbox)
    receiver.post(report("a"))
    pushing_sandbox.add_fault("server_error", call="status", times="always", status=503)
    store = receiver.receiver.store

    def failing_page(*_: object) -> None:
        raise StoreUnavailableError("the database does not respond")

    async def run() -> list[str]:
        trigger = OmnimessageEventTrigger().run()
        try:
            ids = [(await asyncio.wait_for(anext(trigger), PATIENCE)).payload["id"]]
            with monkeypatch.context() as patch:
                patch.setattr(store, "page", failing_page)
                following = asyncio.ensure_future(anext(trigger))
                await asyncio.sleep(1)  # it has lost the connection, and tries again
            await asyncio.to_thread(pushing_sandbox.clear_faults)
            ids.append((await asyncio.wait_for(following, PATIENCE)).payload["id"])
            await asyncio.to_thread(receiver.post, report("b"))
            ids.append((await asyncio.wait_for(anext(trigger), PATIENCE)).payload["id"])
            return ids
        finally:
            await trigger.aclose()  # type: ignore[attr-defined]

    assert asyncio.run(run()) == ["a", failed, "b"]


def test_a_trigger_that_is_stopped_leaves_nothing_running(receiver: RunningReceiver, pushing_sandbox: Sandbox) -> None:
    begin(receiver)
    fail(receiver, pushing_sandbox)
    pushing_sandbox.add_fault("slow", call="status", times="always", seconds=3)
    receiver.post(report("a"))

    async def run() -> int:
        await fired(1)
        return len(asyncio.all_tasks()) - 1

    assert asyncio.run(run()) == 0


def test_a_connection_without_a_receiver_is_named_and_tried_again(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    async def run() -> None:
        firing = asyncio.ensure_future(anext(OmnimessageEventTrigger().run()))
        until, out = time.monotonic() + PATIENCE, ""
        while "set push_url or receiver_url" not in out:
            assert time.monotonic() < until, out
            await asyncio.sleep(0.05)
            out += capsys.readouterr().out
        assert not firing.done()
        firing.cancel()
        await asyncio.gather(firing, return_exceptions=True)

    asyncio.run(run())


@pytest.mark.parametrize("consumer", ["", "delivery stats", "a" * 201, "é", "a+failures", None])
def test_a_name_that_the_receiver_would_reject_is_rejected_in_the_dag(consumer: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"consumer: .+ is not the name of a consumer; use 1 to 200 letters"):
        OmnimessageEventTrigger(consumer=consumer)


async def _until_acknowledged(receiver: RunningReceiver, position: int) -> None:
    until = time.monotonic() + PATIENCE
    store = receiver.receiver.store
    while (acknowledged := await asyncio.to_thread(store.consumer_position, CONN_ID, "airflow") or 0) < position:
        assert time.monotonic() < until, acknowledged
        await asyncio.sleep(0.02)


def _until_posted(receiver: RunningReceiver, ids: Any) -> None:
    ended = {"DELIVRD", "SEEN", "UNDELIV", "DELETED"}
    until = time.monotonic() + PATIENCE
    while set(ids) - {id_ for id_, status in receiver.log() if status in ended}:
        assert time.monotonic() < until, receiver.log()
        time.sleep(0.05)
