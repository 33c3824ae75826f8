"""The listener of a triggerer, against a real receiver; the sandbox posts the reports."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import pytest
from blockbuster import blockbuster_ctx
from full_size import full_size
from receivers import CONN_ID, RunningReceiver, report
from waiting import PATIENCE

from airflow_provider_omnimessage.api.delivery import DeliveryReport, Outcome
from airflow_provider_omnimessage.api.messages import sms, viber
from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook
from airflow_provider_omnimessage.receiver.client import delivery_report, stored_reports
from airflow_provider_omnimessage.receiver.keys import ConnectionSecrets
from airflow_provider_omnimessage.sandbox import Sandbox
from airflow_provider_omnimessage.triggers import listening
from airflow_provider_omnimessage.triggers.listening import Listener


class Waiting:
    """A subscriber that records its calls."""

    def __init__(self, *omnimessage_ids: str) -> None:
        self.omnimessage_ids = omnimessage_ids
        self.statuses: dict[str, dict[str, str]] = {}
        self.outcomes: dict[str, Outcome] = {}
        self.new: list[dict[str, str]] = []
        self.push: list[bool] = []

    def on_events(
        self, omnimessage_id: str, events: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]
    ) -> None:
        self.statuses[omnimessage_id] = {event["message_id"]: event["status"] for event in events}
        self.new.append({event["message_id"]: event["status"] for event in new})
        self.outcomes[omnimessage_id] = delivery_report(omnimessage_id, events).outcome

    def on_push(self, is_reliable: bool) -> None:
        self.push.append(is_reliable)


@contextlib.asynccontextmanager
async def listening_to(*subscribers: Waiting) -> AsyncIterator[Listener]:
    listener = Listener(CONN_ID, lambda: OmnimessageHook(CONN_ID).look_up_connection())
    try:
        for subscriber in subscribers:
            listener.join(subscriber)
        yield listener
    finally:
        await listener.close()


async def until(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    async def wait() -> None:
        while not condition():
            await asyncio.sleep(0.01)

    await asyncio.wait_for(wait(), seconds)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "RETRY_AFTER", 0.05)


def test_reports_of_the_sandbox_reach_subscribers(pushing_sandbox: Sandbox) -> None:
    id_ = OmnimessageHook(CONN_ID).send("+37255550002", [viber("a"), sms("a")]).omnimessage_id

    async def follow() -> Waiting:
        waiting = Waiting(id_)
        async with listening_to(waiting):
            await until(lambda: True in waiting.push)
            for _ in range(12):  # the sandbox's clock does not move between the steps
                await asyncio.to_thread(pushing_sandbox.advance, 1)
            await until(lambda: waiting.outcomes.get(id_) is Outcome.DELIVERED)
        return waiting

    waiting = asyncio.run(follow())
    assert sorted(waiting.statuses[id_].values()) == ["DELIVRD", "UNDELIV"]
    assert [request["call"] for request in pushing_sandbox.requests] == ["send"]


@full_size
def test_reports_stored_before_a_subscriber_joins_reach_it_at_once(
    receiver: RunningReceiver, pushing_sandbox: Sandbox
) -> None:
    for number in range(120):  # more than fit into one request
        receiver.post(report(f"m{number}"))

    async def follow() -> Waiting:
        waiting = Waiting(*(f"m{number}" for number in range(120)), "unknown")
        async with listening_to(waiting):
            await until(lambda: len(waiting.outcomes) == 120)
        return waiting

    assert set(asyncio.run(follow()).outcomes.values()) == {Outcome.DELIVERED}


def test_subscribers_join_and_leave_at_any_time(receiver: RunningReceiver, pushing_sandbox: Sandbox) -> None:
    receiver.post(report("b", "ACK"))

    async def follow() -> tuple[Waiting, Waiting]:
        first, second = Waiting("a"), Waiting("b", "a")
        async with listening_to(first) as listener:
            await until(lambda: True in first.push)
            listener.join(second)
            await until(lambda: "b" in second.statuses)
            listener.leave(first)
            await asyncio.to_thread(receiver.post, report("a"))
            await until(lambda: "a" in second.statuses)
        return first, second

    first, second = asyncio.run(follow())
    assert first.statuses == {}
    assert second.push == [True]


def test_a_subscriber_that_joins_later_gets_all_that_another_has_got(
    receiver: RunningReceiver, pushing_sandbox: Sandbox
) -> None:
    async def follow() -> tuple[Waiting, Waiting]:
        first, second = Waiting("a", "b"), Waiting("a")
        async with listening_to(first) as listener:
            await until(lambda: True in first.push and not listener._unread)
            for channel in ("viber", "sms"):
                status = "UNDELIV" if channel == "viber" else "ACK"
                await asyncio.to_thread(receiver.post, report("a", status, message_id=channel))
            await until(lambda: len(first.statuses.get("a", ())) == 2)
            news_of_first = list(first.new)
            listener.join(second)
            await until(lambda: second.new)
            assert second.new == [{"viber": "UNDELIV", "sms": "ACK"}]
            assert first.new == news_of_first
            listener.leave(first)
            await asyncio.to_thread(receiver.post, report("a", message_id="sms"))
            await until(lambda: second.outcomes.get("a") is Outcome.DELIVERED)
            listener.leave(second)
            assert not listener._followed
        return first, second

    first, second = asyncio.run(follow())
    assert second.new[1:] == [{"sms": "DELIVRD"}]
    assert first.statuses == {"a": {"viber": "UNDELIV", "sms": "ACK"}}


class HeldLookup:
    """Holds the response to the first lookup of stored reports."""

    def __init__(self, receiver: RunningReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
        self.has_read, self.may_respond = threading.Event(), threading.Event()
        self._stored = receiver.receiver.store.stored
        monkeypatch.setattr(receiver.receiver.store, "stored", self._read)

    def __enter__(self) -> HeldLookup:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.may_respond.set()

    def _read(self, *arguments: Any) -> Any:
        found = self._stored(*arguments)
        self.has_read.set()
        self.may_respond.wait(20)
        return found


def test_a_message_that_is_left_and_joined_during_a_lookup_is_looked_up_again(
    receiver: RunningReceiver, pushing_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def follow(lookup: HeldLookup) -> None:
        first, second = Waiting("a"), Waiting("a")
        async with listening_to(first, Waiting("b")) as listener:
            await asyncio.to_thread(lookup.has_read.wait, PATIENCE)
            listener.leave(first)
            await asyncio.to_thread(receiver.post, report("a"))
            await until(lambda: listener._position == 1)
            listener.join(second)
            lookup.may_respond.set()
            await until(lambda: "a" in second.outcomes)

    with HeldLookup(receiver, monkeypatch) as lookup:
        asyncio.run(follow(lookup))


def test_events_stored_while_the_receiver_was_unreachable_reach_subscribers(
    database: str, pushing_sandbox: Sandbox, receiver: RunningReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)

    async def follow() -> Waiting:
        waiting = Waiting("a")
        async with listening_to(waiting):
            await until(lambda: waiting.push[-1])
            # a password that is not the connection's: the receiver is there, and hands out nothing
            secrets, receiver.secrets = receiver.secrets, {CONN_ID: ConnectionSecrets("other", "x")}
            receiver.receiver.keys._cache.clear()
            await asyncio.to_thread(receiver.post, report("b"), password="other")  # ends the long poll
            await until(lambda: not waiting.push[-1])
            await asyncio.to_thread(receiver.post, report("a"), password="other")
            receiver.secrets = secrets
            receiver.receiver.keys._cache.clear()
            await until(lambda: waiting.push[-1] and "a" in waiting.outcomes)
        return waiting

    waiting = asyncio.run(follow())
    assert waiting.push == [False, True, False, True]
    warnings = [record.getMessage() for record in caplog.records if record.name == listening.__name__]
    assert len(warnings) == 2, "once when it is lost, once when it is back"
    assert "polling Messente instead" in warnings[0]
    assert "check that the receiver sees the connection" in warnings[0]


another_log = pytest.mark.parametrize(
    ("log_id", "last_seq"), [("another", 0), (None, 5)], ids=["another database", "restored from a backup"]
)


@another_log
def test_the_listener_notices_another_database_behind_the_receiver(
    receiver: RunningReceiver, pushing_sandbox: Sandbox, log_id: str | None, last_seq: int
) -> None:
    for number in range(10):
        receiver.post(report(f"old{number}"))

    async def follow() -> None:
        waiting = Waiting("a", "b")
        async with listening_to(waiting) as listener:
            await until(lambda: waiting.push[-1] and not listener._unread)
            await asyncio.to_thread(receiver.post, report("b", "ACK"))
            await until(lambda: "b" in waiting.outcomes)
            await asyncio.to_thread(receiver.shorten_log, log_id, last_seq)
            await until(lambda: listener._position == last_seq)
            for id_ in ("a", "b"):
                await asyncio.to_thread(receiver.post, report(id_))
            await until(lambda: list(waiting.outcomes.values()) == [Outcome.DELIVERED] * 2)

    asyncio.run(follow())


@another_log
def test_a_lookup_in_the_former_database_does_not_hide_newer_reports(
    receiver: RunningReceiver,
    pushing_sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    log_id: str | None,
    last_seq: int,
) -> None:
    for number in range(10):
        receiver.post(report(f"old{number}"))
    receiver.post(report("a", "ACK"))

    async def follow(lookup: HeldLookup) -> None:
        waiting = Waiting("a")
        async with listening_to(waiting) as listener:
            await asyncio.to_thread(lookup.has_read.wait, PATIENCE)
            await asyncio.to_thread(receiver.shorten_log, log_id, last_seq)
            await until(lambda: listener._position == last_seq)
            lookup.may_respond.set()
            await asyncio.to_thread(receiver.post, report("a"))
            await until(lambda: waiting.outcomes.get("a") is Outcome.DELIVERED)

    with HeldLookup(receiver, monkeypatch) as lookup:
        asyncio.run(follow(lookup))


def test_polls_that_find_statuses_without_reports_make_reports_unreliable(
    receiver: RunningReceiver, pushing_sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    def found(omnimessage_id: str, status: str, timestamp: str = "2026-01-01T00:00:00") -> DeliveryReport:
        event = {"message_id": f"{omnimessage_id}-sms", "status": status, "channel": "sms", "timestamp": timestamp}
        return delivery_report(omnimessage_id, [event])

    async def follow() -> Waiting:
        waiting = Waiting("a", "b")
        async with listening_to(waiting) as listener:
            await until(lambda: waiting.push[-1] and not listener._unread)
            await asyncio.to_thread(receiver.post, report("b"))
            await until(lambda: "b" in waiting.outcomes)
            for _ in range(5):  # no news: what a report has brought, and what is in progress
                listener.record_poll("b", found("b", "DELIVRD"))
                listener.record_poll("a", found("a", "ACK"))
            assert listener.is_reliable
            for _ in range(listening.MISSES):
                assert listener.is_reliable
                listener.record_poll("a", found("a", "DELIVRD"))
            assert not listener.is_reliable
            await asyncio.to_thread(receiver.post, report("c"))
            await until(lambda: listener.is_reliable)
        return waiting

    assert asyncio.run(follow()).push == [False, True, False, True]
    assert caplog.text.count("polling as often as without a receiver") == 1


def test_it_never_blocks_the_event_loop(receiver: RunningReceiver, pushing_sandbox: Sandbox) -> None:
    receiver.post(report("a"))

    async def follow() -> None:
        await OmnimessageHook(CONN_ID).look_up_connection()  # Airflow's own look-up, and imports
        waiting = Waiting("a")
        with blockbuster_ctx("airflow_provider_omnimessage"):
            async with listening_to(waiting):
                await until(lambda: "a" in waiting.outcomes)

    asyncio.run(follow())


def test_a_task_reads_what_is_stored(receiver: RunningReceiver, pushing_sandbox: Sandbox) -> None:
    receiver.post(report("a", "ACK"))
    receiver.post(report("a", "DELIVRD"))
    settings = OmnimessageHook(CONN_ID).settings
    found = stored_reports(settings, CONN_ID, ["a", "unknown"])
    assert {id_: stored.outcome for id_, stored in found.items()} == {"a": Outcome.DELIVERED}
    assert found["a"].price == "0.1"
