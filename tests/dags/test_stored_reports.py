"""A sensor on a worker reads the reports that the receiver has stored before it polls Messente."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG
from receivers import CONN_ID, RunningReceiver

from airflow_provider_omnimessage.api.messages import sms
from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook
from airflow_provider_omnimessage.sandbox import Sandbox
from airflow_provider_omnimessage.sensors.omnimessage import OmnimessageDeliverySensor


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
    end = time.monotonic() + 20
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
