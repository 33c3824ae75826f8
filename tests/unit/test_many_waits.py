"""Waits that start together leave the event loop to others in between."""

from __future__ import annotations

import asyncio
from collections import Counter

from airflow_provider_omnimessage.triggers.crowds import STARTS_TOGETHER
from airflow_provider_omnimessage.triggers.omnimessage import OmnimessageDeliveryTrigger

NEW_YEAR = "2099-01-01T09:00:00+00:00"


def test_few_are_planned_between_two_turns_of_the_event_loop(sandbox, monkeypatch):
    turn = 0
    planned: Counter[int] = Counter()
    plan = OmnimessageDeliveryTrigger._plan

    def counted(self):
        planned[turn] += 1
        return plan(self)

    monkeypatch.setattr(OmnimessageDeliveryTrigger, "_plan", counted)

    async def wait_for(number: int) -> None:
        trigger = OmnimessageDeliveryTrigger(
            messages=[[f"message-{number}", NEW_YEAR]],
            omnimessage_conn_id="omnimessage_default",
            since="2026-11-24T09:00:00+00:00",
            deadline="2099-01-02T09:00:00+00:00",
        )
        async for _ in trigger.run():
            raise AssertionError("it waits")

    async def start_all() -> None:
        nonlocal turn
        waits = [asyncio.create_task(wait_for(number)) for number in range(100)]
        while planned.total() < 100:
            turn += 1
            await asyncio.sleep(0)
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)

    asyncio.run(asyncio.wait_for(start_all(), 30))
    assert max(planned.values()) <= STARTS_TOGETHER
