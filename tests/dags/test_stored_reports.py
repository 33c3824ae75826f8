"""A sensor on a worker reads the reports that the receiver has stored before it polls Messente."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG
from receivers import CONN_ID, RunningReceiver, report
from waiting import PATIENCE

from airflow_provider_omnimessage.api.awaited_message import AwaitedMessage
from airflow_provider_omnimessage.api.messages import sms
from airflow_provider_omnimessage.api.wait_result import Ending
from airflow_provider_omnimessage.api.waiting import Wait
from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook
from airflow_provider_omnimessage.receiver.store import Store
from airflow_provider_omnimessage.sandbox import Sandbox
from airflow_provider_omnimessage.sensors.omnimessage import OmnimessageDeliverySensor
from airflow_provider_omnimessage.sensors.polling import WorkerPoller


@pytest.fixture
def receiver(tmp_path: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningReceiver]:
    with RunningReceiver(f"sqlite:///{tmp_path}/receiver.db") as running:
        connection = {**sandbox.connection, "extra": {"push_url": running.url}}
        monkeypatch.setenv(f"AIRFLOW_CONN_{CONN_ID.upper()}", json.dumps(connection))
        sandbox.freeze()
        yield running


def wait_in(mode: str, omnimessage_id: str) -> DAG:
    with DAG(f"stored_{mode}", schedule=None, start_date=datetime(2026, 1, 1)) as dag:
        OmnimessageDeliverySensor(
            task_id="wait", omnimessage_id=omnimessage_id, mode=mode, deferrable=False, timeout=60
        )
    return dag


def polls(sandbox: Sandbox) -> int:
    return sum(request["call"] == "status" for request in sandbox.requests)


@pytest.mark.parametrize("mode", ["poke", "reschedule"])
def test_a_stored_delivery_needs_no_poll(
    run_dag: Callable[..., Any], receiver: RunningReceiver, sandbox: Sandbox, mode: str
) -> None:
    id_ = OmnimessageHook(CONN_ID).send("+37255555555", [sms("a")]).omnimessage_id
    sandbox.advance(30)
    end = time.monotonic() + PATIENCE
    while (id_, "DELIVRD") not in receiver.log():
        assert time.monotonic() < end
        time.sleep(0.05)
    run = run_dag(wait_in(mode, id_))
    assert run.state == "success"
    assert run.xcom("wait")["outcome"] == "delivered"
    assert polls(sandbox) == 0


def test_a_receiver_that_is_down_is_logged_once_and_messente_polled(
    run_dag: Callable[..., Any], sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = {**sandbox.connection, "extra": {"receiver_url": "http://127.0.0.1:9"}}
    monkeypatch.setenv(f"AIRFLOW_CONN_{CONN_ID.upper()}", json.dumps(connection))
    sandbox.freeze()
    id_ = OmnimessageHook(CONN_ID).send("+37255555555", [sms("a")]).omnimessage_id
    sandbox.advance(30)
    run = run_dag(wait_in("poke", id_))
    assert run.state == "success"
    assert polls(sandbox) == 1
    assert run.log.count("No delivery reports from the receiver, polling Messente instead") == 1


def test_a_slow_receiver_leaves_time_to_poll_messente_and_what_it_has_found_counts(
    receiver: RunningReceiver, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All lookups would take twice as long as the poll may."""
    for number in range(3):
        receiver.post(report(f"m{number}"))
    stored, lookups = Store.stored, []

    def slow(self: Store, conn_id: str, ids: Iterable[str]) -> Any:
        lookups.append(ids)
        time.sleep(0.8)
        return stored(self, conn_id, ids)

    monkeypatch.setattr(Store, "stored", slow)
    sandbox.add_fault("server_error", call="status", times="always")
    now = datetime.now(timezone.utc)
    messages = [AwaitedMessage(f"m{number}") for number in range(500)]
    wait = Wait(messages, since=now, deadline=now + timedelta(hours=1), poke_interval=60.0)
    wait.start(now, poll_first=True)
    hook = OmnimessageHook(CONN_ID)
    WorkerPoller(hook, wait, hook.log).poll(wait.due(now), seconds=4)
    assert len(lookups) <= 4
    assert dict(wait.endings) == {Ending.FULFILLED: 3}
    assert polls(sandbox) > 0
    assert wait.next_poll is not None
    assert wait.next_poll > now, "the others are polled at their next time"
    assert not wait.due(now)
