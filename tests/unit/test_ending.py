"""Many waits that end at once leave the rest of the triggerer its threads."""

from __future__ import annotations

import asyncio
import threading

from airflow.triggers.base import TaskSuccessEvent
from triggering import a_trigger, in_triggerer
from waiting import PATIENCE

WAITS = 100


def test_waits_that_end_leave_threads_to_others(delivered, monkeypatch):
    from airflow.sdk.execution_time.xcom import XCom

    may_store, stored = threading.Event(), []

    def store(**kwargs):
        assert may_store.wait(PATIENCE)
        stored.append(kwargs["value"])

    monkeypatch.setattr(XCom, "set", store)

    async def end_all():
        loop = asyncio.get_running_loop()
        waits = [in_triggerer(a_trigger(delivered, ends_task=True)) for _ in range(WAITS)]
        events = [asyncio.ensure_future(anext(wait.run())) for wait in waits]
        try:
            # what Airflow writes before it passes on an event takes a thread, too
            for _ in range(WAITS):
                await asyncio.wait_for(loop.run_in_executor(None, lambda: None), PATIENCE / 2)
                await asyncio.sleep(0.01)
        finally:
            may_store.set()
        return await asyncio.gather(*events)

    events = asyncio.run(end_all())
    assert all(isinstance(event, TaskSuccessEvent) for event in events)
    assert len(stored) == WAITS


def test_a_wait_that_is_cancelled_while_it_ends_leaves_its_turn(delivered, monkeypatch):
    from airflow.sdk.execution_time.xcom import XCom

    may_store, is_storing = threading.Event(), threading.Semaphore(0)

    def store(**kwargs):
        is_storing.release()
        assert may_store.wait(PATIENCE)

    monkeypatch.setattr(XCom, "set", store)

    async def end(wait):
        return await anext(in_triggerer(wait).run())

    async def cancel_some():
        waits = [asyncio.ensure_future(end(a_trigger(delivered, ends_task=True))) for _ in range(6)]
        assert await asyncio.to_thread(is_storing.acquire, timeout=PATIENCE)
        for wait in waits[:5]:
            wait.cancel()
        may_store.set()
        return await asyncio.wait_for(waits[5], PATIENCE)

    assert isinstance(asyncio.run(cancel_some()), TaskSuccessEvent)
