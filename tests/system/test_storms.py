"""Deduplicated notifications on a whole Airflow, whose Variables many tasks write at the same time."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from _airflow import Airflow
from waiting import eventually

DAGS = Path(__file__).parent / "storm_dags"
TO = "+37255558888"


@pytest.fixture(scope="module")
def airflow(start_airflow):
    airflow = Airflow(start_airflow(DAGS, {"AIRFLOW__CORE__PARALLELISM": "4"}).home)
    airflow.await_dag("storm")
    return airflow


def run_to_its_end(airflow, **conf):
    run_id = airflow.trigger("storm", **conf)
    return airflow.await_end("storm", run_id, seconds=600), run_id


def texts(sandbox, state=None):
    return [
        message["body"]["messages"][0]["text"]
        for message in sandbox.messages
        if message["to"] == TO and (state is None or message["state"] == state)
    ]


def test_a_hundred_failures_at_once_on_four_workers_cost_three_messages_at_most_and_none_is_lost(airflow, sandbox):
    state, run_id = run_to_its_end(airflow, tasks=100, fails=True)
    assert state == "failed"
    first = [text for text in texts(sandbox) if "failed" in text]
    digests = texts(sandbox, "scheduled")
    requests = len(sandbox.requests)
    log = airflow.log(run_id)
    counted = len(set(re.findall(r"Counted: event (\d+)", log)))
    figures = f"{len(first)} first messages, digest {digests}, {requests} requests, {counted} counts in the logs"
    sys.stdout.write(figures + "\n")
    assert 1 <= len(first) <= 2
    (digest,) = digests
    assert int(re.search(r"at least (\d+) more failures of storm: load", digest)[1]) >= 64
    assert requests <= 20
    assert "cannot be used" not in log
    assert "keep overwriting" not in log

    assert run_to_its_end(airflow, tasks=1, fails=False)[0] == "success"
    (text,) = eventually(lambda: [text for text in texts(sandbox) if "recovered" in text], "a report of the recovery")
    sys.stdout.write(text + "\n")
    assert re.match(r"storm recovered after .*, 100 failures \(", text)
    # the report first, then the cancels
    eventually(lambda: texts(sandbox, "scheduled") == [], "the digest is cancelled")
