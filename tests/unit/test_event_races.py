"""Storms whose tasks write the same Variable at the same time, in many orders, on a store that answers slowly."""

from __future__ import annotations

import json
import random
import re
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace

import pytest
from full_size import first
from turns import Turns, one_after_the_other

from airflow_provider_omnimessage.notifications import event_store
from airflow_provider_omnimessage.notifications.digest import Deduplicator
from airflow_provider_omnimessage.notifications.event_state import Event, EventState
from airflow_provider_omnimessage.notifications.event_store import EventStore

BEGIN = datetime(2026, 11, 30, 9, tzinfo=timezone.utc)
LOG = SimpleNamespace(info=lambda *_: None, warning=lambda *_: None)


class World:
    """Messente and Airflow's Variables, on one clock."""

    has_steps = False

    def __init__(self, seed: int, slowest: float) -> None:
        self.random = random.Random(seed)
        self.slowest = slowest
        self.turns = Turns()
        self.stored: dict[str, str] = {}
        self.sent: list[str] = []
        self.scheduled: dict[str, str] = {}

    @property
    def now(self):
        return BEGIN + timedelta(seconds=self.turns.now)

    def _wait(self):
        is_slow = self.random.random() < 0.1
        self.turns.sleep(self.random.uniform(0, self.slowest if is_slow else 0.1))

    # Airflow's Variables: a read may be as old, and a write as late, as it takes
    def get(self, key, default=None):
        value = self.stored.get(key, default)
        self._wait()
        return value

    def set(self, key, value, description=None):
        self._wait()
        self.stored[key] = value

    # Messente
    def send(self):
        self._wait()
        self.sent.append("first")

    def send_text(self, text):
        self._wait()
        self.sent.append(text)

    def schedule_text(self, text, at):
        self._wait()
        omnimessage_id = f"id {len(self.scheduled)}"
        self.scheduled[omnimessage_id] = text
        return [omnimessage_id]

    def schedule_steps(self, now, done):
        return iter(())

    def in_zone(self, time):
        return time.isoformat()

    def cancel(self, omnimessage_id, at):
        self._wait()
        self.scheduled[omnimessage_id] = ""

    def pending(self):
        return [text for text in self.scheduled.values() if text]

    def pending_ids(self):
        return {omnimessage_id for omnimessage_id, text in self.scheduled.items() if text}

    def known(self):
        state = EventState.read(json.loads(self.stored["omnimessage_events__report"]))
        return {one.omnimessage_id for one in state.scheduled}

    def run(self, *tasks, workers=4):
        """Run tasks, so many at a time."""
        queue = iter(tasks)
        self.turns.run(*[one_after_the_other(queue) for _ in range(workers)])

    def failure(self, number):
        return lambda: self._task().happened(Event("report", f"task_{number}"), self.now)

    def success(self):
        self._task().succeeded(Event("report", "load"), self.now)

    def _task(self):
        self.turns.sleep(self.random.uniform(0.5, 3))
        store = EventStore("report", LOG)
        return Deduplicator(store, self, LOG, quiet_for=timedelta(hours=1), is_tracked=True, is_reported=True)


@pytest.fixture(params=first(3, range(100)))
def world(request, monkeypatch):
    """Reads and writes take up to two seconds, most of them a tenth of one."""
    world = World(request.param, slowest=2)
    for name, substitute in (("Variable", world), ("time", world.turns), ("random", world.random)):
        monkeypatch.setattr(event_store, name, substitute)
    return world


def test_of_a_hundred_failures_at_once_one_digest_stays_and_no_message_is_lost(world):
    world.run(*[world.failure(number) for number in range(100)])
    assert 1 <= len(world.sent) <= 2, "many that write at the same moment may send a second one"
    (digest,) = world.pending()
    assert int(re.search(r"at least (\d+) more", digest)[1]) >= 32
    assert world.pending_ids() <= world.known()
    world.run(world.success)
    assert world.pending() == []
    assert len(world.sent) <= 3


def test_a_success_between_failures_leaves_nothing_that_the_last_one_does_not_cancel(world):
    world.run(*[world.failure(number) if number % 8 else world.success for number in range(40)])
    assert world.pending_ids() <= world.known()
    world.run(world.success)
    assert world.pending() == []
