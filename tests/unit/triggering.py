"""Makes triggers, and runs them as a triggerer does: from the row that they left in the database."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace

from airflow_provider_omnimessage.triggers.omnimessage import OmnimessageDeliveryTrigger

CONNECTION = "omnimessage_default"


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


async def fire(*triggers):
    async def events(trigger):
        return [event async for event in again(trigger).run()]

    found = await asyncio.gather(*map(events, triggers))
    assert all(len(events) == 1 for events in found), "each fires once"
    return [events[0] for events in found]


def fired(*triggers):
    events = asyncio.run(fire(*triggers))
    return [event.payload for event in events] if len(events) > 1 else events[0].payload


def status_requests(sandbox):
    return [request for request in sandbox.requests if request["call"] == "status"]
