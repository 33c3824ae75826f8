"""Waits that are woken by reports, with the fallback for those that are lost; the sandbox posts the reports."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from full_size import full_size
from receivers import CONN_ID, RunningReceiver, report
from waiting import PATIENCE

from airflow_provider_omnimessage.api import delivery, waiting
from airflow_provider_omnimessage.api.messages import sms, viber
from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook
from airflow_provider_omnimessage.receiver.store import Store
from airflow_provider_omnimessage.sandbox import Sandbox
from airflow_provider_omnimessage.triggers import listening
from airflow_provider_omnimessage.triggers.omnimessage import OmnimessageDeliveryTrigger
from airflow_provider_omnimessage.triggers.polling import _pollers


def now() -> datetime:
    return datetime.now(timezone.utc)


def send(to: str = "+37255555555", **when: Any) -> str:
    return OmnimessageHook(CONN_ID).send(to, [viber("a"), sms("a")], **when).omnimessage_id


def trigger(
    *ids: str, poke_interval: float = 600.0, seconds: float = 60, **settings: Any
) -> OmnimessageDeliveryTrigger:
    return OmnimessageDeliveryTrigger(
        messages=[(id_, None) for id_ in ids],
        omnimessage_conn_id=CONN_ID,
        since=now().isoformat(),
        deadline=(now() + timedelta(seconds=seconds)).isoformat(),
        poke_interval=poke_interval,
        **settings,
    )


async def outcome(waiting: OmnimessageDeliveryTrigger) -> dict[str, Any]:
    (event,) = [event async for event in waiting.run()]
    payload: dict[str, Any] = event.payload
    return payload


async def until_connected() -> None:
    """Wait until the waits on this loop know that reports arrive."""

    async def connected() -> None:
        while not any(poller.listener.is_reliable for poller in _pollers.get(asyncio.get_running_loop(), {}).values()):
            await asyncio.sleep(0.01)

    await asyncio.wait_for(connected(), PATIENCE)


def run(*waiting: OmnimessageDeliveryTrigger, meanwhile: Callable[[], object]) -> list[dict[str, Any]]:
    """Run triggers in one event loop, and do something once they listen."""

    async def all_of_them() -> list[dict[str, Any]]:
        running = [asyncio.ensure_future(outcome(one)) for one in waiting]
        await until_connected()
        await asyncio.to_thread(meanwhile)
        return await asyncio.wait_for(asyncio.gather(*running), 50)

    return asyncio.run(all_of_them())


def polls(sandbox: Sandbox) -> int:
    return sum(request["call"] == "status" for request in sandbox.requests)


def test_a_delivered_message_ends_its_wait_without_a_single_poll(pushing_sandbox: Sandbox) -> None:
    id_ = send()
    (payload,) = run(trigger(id_), meanwhile=lambda: pushing_sandbox.advance(30))
    assert payload["ending"] == "fulfilled"
    (summary,) = payload["reports"]
    assert (summary["outcome"], summary["delivered_by"]) == ("delivered", "viber")
    assert polls(pushing_sandbox) == 0


def test_a_message_delivered_before_the_wait_needs_no_poll_either(
    receiver: RunningReceiver, pushing_sandbox: Sandbox
) -> None:
    id_ = send()
    pushing_sandbox.advance(30)
    listening_until(lambda: (id_, "DELIVRD") in receiver.log())
    assert run(trigger(id_), meanwhile=lambda: None)[0]["ending"] == "fulfilled"
    assert polls(pushing_sandbox) == 0


@full_size
def test_waits_for_different_messages_share_one_long_poll(receiver: RunningReceiver, pushing_sandbox: Sandbox) -> None:
    ids = [send(f"+3725551{number:04}") for number in range(2000, 2040)]
    payloads = run(*map(trigger, ids), meanwhile=lambda: pushing_sandbox.advance(30))
    assert {payload["ending"] for payload in payloads} == {"fulfilled"}
    assert [payload["reports"][0]["omnimessage_id"] for payload in payloads] == ids
    assert polls(pushing_sandbox) == 0


def test_a_failed_channel_is_polled_for_and_its_fallback_awaited(pushing_sandbox: Sandbox) -> None:
    id_ = send("+37255550002")
    (payload,) = run(trigger(id_), meanwhile=lambda: step(pushing_sandbox))
    assert payload["ending"] == "fulfilled"
    assert payload["reports"][0]["delivered_by"] == "sms"
    assert polls(pushing_sandbox) <= 2


def test_a_failure_is_confirmed_by_messente(pushing_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (delivery, waiting):
        monkeypatch.setattr(module, "CONFIRM_FAILED_AFTER", 0.2)
    id_ = send("+37255550001")
    (payload,) = run(trigger(id_), meanwhile=lambda: step(pushing_sandbox))
    assert payload["ending"] == "failed"
    assert "viber: UNDELIV (Delivery failure); sms: UNDELIV (Delivery failure)" in payload["reason"]


def test_a_message_cancelled_before_its_time_ends_the_wait_at_once(pushing_sandbox: Sandbox) -> None:
    time_to_send = now() + timedelta(hours=1)
    id_ = send(time_to_send=time_to_send)
    waiting = OmnimessageDeliveryTrigger(
        messages=[(id_, time_to_send.isoformat())],
        omnimessage_conn_id=CONN_ID,
        since=now().isoformat(),
        deadline=(now() + timedelta(hours=2)).isoformat(),
    )
    (payload,) = run(waiting, meanwhile=lambda: OmnimessageHook(CONN_ID).cancel(id_))
    assert payload["ending"] == "cancelled"


def test_a_message_that_must_be_read_ends_when_it_is(pushing_sandbox: Sandbox) -> None:
    id_ = send("+37255550003")
    (payload,) = run(trigger(id_, wait_for="seen"), meanwhile=lambda: step(pushing_sandbox))
    assert (payload["ending"], payload["reports"][0]["outcome"]) == ("fulfilled", "seen")
    assert polls(pushing_sandbox) == 0


@pytest.mark.parametrize("wait_for", ["delivered", "seen"])
def test_a_wait_for_a_message_of_another_wait_ends_at_once_too(
    receiver: RunningReceiver, pushing_sandbox: Sandbox, wait_for: Any
) -> None:
    """The other one goes on, for another message, or until the messages are read."""
    id_, another = send(), send("+37255555556")

    async def both() -> dict[str, Any]:
        first = asyncio.ensure_future(outcome(trigger(id_, another, wait_for=wait_for)))
        await until_connected()
        (poller,) = _pollers[asyncio.get_running_loop()].values()
        await asyncio.to_thread(receiver.post, report(id_, channel="viber"))
        while not poller.listener._followed[id_].statuses:
            await asyncio.sleep(0.01)
        payload = await asyncio.wait_for(outcome(trigger(id_)), PATIENCE)
        assert not first.done()
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        return payload

    assert asyncio.run(both())["ending"] == "fulfilled"
    assert polls(pushing_sandbox) == 0


@pytest.mark.parametrize("collect", [30.0, 0.05], ids=["by the long poll", "perhaps with the stored ones"])
def test_each_report_that_a_wait_gets_is_counted(
    receiver: RunningReceiver, pushing_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, collect: float
) -> None:
    counted: list[tuple[Any, ...]] = []
    monkeypatch.setattr(listening, "COLLECT", collect)
    monkeypatch.setattr(listening.metrics, "count", lambda *arguments, **_: counted.append(arguments))
    id_ = send()
    run(trigger(id_), meanwhile=lambda: step(pushing_sandbox))
    received = [arguments for arguments in counted if arguments[0] == "push_received"]
    assert {arguments[1]["conn_id"] for arguments in received} == {CONN_ID}
    assert 1 <= sum(arguments[2] for arguments in received) <= len(receiver.log())


@full_size
def test_reports_that_are_lost_are_found_by_polling(pushing_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[str] = []
    monkeypatch.setattr(listening.metrics, "count", lambda event, *_, **__: counted.append(event))
    monkeypatch.setattr(listening, "_is_settled", lambda report: True)
    ids = [send(f"+3725551{number:04}") for number in range(2000, 2004)]

    monkeypatch.setattr(Store, "append", lambda self, events: {})

    payloads = run(*(trigger(id_, poke_interval=0.2) for id_ in ids), meanwhile=lambda: pushing_sandbox.advance(30))
    assert {payload["ending"] for payload in payloads} == {"fulfilled"}
    assert counted.count("push_missed") >= 3


def step(sandbox: Sandbox) -> None:
    for _ in range(16):
        sandbox.advance(1)


def listening_until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)
