"""The receiver on PostgreSQL, in processes that are killed: its own, and Airflow's API servers."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from _airflow import ROOT, Airflow, AirflowHome, RunningAirflow
from postgres import Postgres
from receivers import CONN_ID, PASSWORD, Client, report
from sqlalchemy import text
from waiting import eventually

from airflow_provider_omnimessage.api.messages import sms
from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook
from airflow_provider_omnimessage.receiver.database import open_url
from airflow_provider_omnimessage.sandbox import Sandbox

CONNECTION = json.dumps({"conn_type": "omnimessage", "login": "user", "password": PASSWORD})


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with Postgres("max_connections=100") as running:
        yield running


class Process:
    """A receiver in a process of its own."""

    def __init__(self, folder: Path, database: str, name: str = "receiver") -> None:
        self.output = folder / f"{name}.log"
        announced = folder / f"{name}.json"
        command = [sys.executable, "-m", "airflow_provider_omnimessage", "receiver", "--port", "0"]
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [*command, "--database", database, "--announce", str(announced), "--verbose"],
                env={**os.environ, f"AIRFLOW_CONN_{CONN_ID.upper()}": CONNECTION},
                cwd=folder,
                stdout=output,
                stderr=output,
            )
        self._announced = announced

    def client(self) -> Client:
        eventually(lambda: self._announced.exists() or self.process.poll() is not None, "it listens", seconds=240)
        assert self.process.poll() is None, self.output.read_text()
        url = urlsplit(json.loads(self._announced.read_text())["url"])
        assert url.port
        return Client("127.0.0.1", url.port)

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        if self.process.poll() is None:
            self.process.send_signal(number)
            self.process.wait(30)


@contextlib.contextmanager
def receiver(folder: Path, database: str) -> Iterator[tuple[Process, Client]]:
    process = Process(folder, database)
    try:
        yield process, process.client()
    finally:
        process.end()


def stored(database: str) -> Counter[str]:
    engine = open_url(database)
    with engine.connect() as connection:
        found = Counter(row[0] for row in connection.execute(text("SELECT subject_id FROM omnimessage_event")))
    engine.dispose()
    return found


def post_under_load(
    clients: list[Client], many: int, disturb: Callable[[], None], *, at: int
) -> tuple[set[str], Counter[int]]:
    """Post reports from many threads, to clients in turn, and disturb after so many.

    :return: the ids of those that got their 200, and how often which status came.
    """
    accepted: set[str] = set()
    statuses: Counter[int] = Counter()
    lock, disturbed = threading.Lock(), threading.Event()

    def post(number: int) -> None:
        id_ = f"m{number}"
        try:
            status = clients[number % len(clients)].post(report(id_)).status
        except (OSError, HTTPException):  # killed before, or in the middle of, its response
            status = 0
        with lock:
            statuses[status] += 1
            if status == 200:
                accepted.add(id_)
            is_time = len(accepted) >= at and not disturbed.is_set()
            if is_time:
                disturbed.set()
        if is_time:
            disturb()

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(post, range(many)))
    assert disturbed.is_set()
    return accepted, statuses


def test_receivers_that_start_at_once_on_an_empty_database(postgres: Postgres, tmp_path: Path) -> None:
    database = postgres.create("at_once")
    processes = [Process(tmp_path, database, f"receiver{number}") for number in range(3)]
    try:
        for number, process in enumerate(processes):
            assert process.client().post(report(f"m{number}")).status == 200
        assert stored(database) == Counter(["m0", "m1", "m2"])
    finally:
        for process in processes:
            process.end()


def test_a_report_that_got_its_200_survives_a_killed_receiver(postgres: Postgres, tmp_path: Path) -> None:
    database = postgres.create("killed")
    with receiver(tmp_path, database) as (process, client):
        accepted, _ = post_under_load([client], 600, lambda: process.end(signal.SIGKILL), at=200)
    found = stored(database)
    assert 200 <= len(accepted) < 600
    assert accepted <= set(found)
    assert set(found.values()) == {1}


def test_a_database_that_restarts_makes_503_and_loses_nothing(postgres: Postgres, tmp_path: Path) -> None:
    database = postgres.create("restarted")
    with receiver(tmp_path, database) as (_, client):

        def restart() -> None:
            postgres.stop()
            time.sleep(0.5)
            postgres.start()

        accepted, statuses = post_under_load([client], 600, restart, at=200)
        assert set(statuses) <= {200, 503}
        eventually(lambda: client.post(report("last")).status == 200, "reports are accepted again", seconds=30)
    found = stored(database)
    assert accepted | {"last"} <= set(found)
    assert set(found.values()) == {1}


def test_a_database_that_does_not_respond_makes_503_until_it_does(postgres: Postgres, tmp_path: Path) -> None:
    database = postgres.create("paused")
    with receiver(tmp_path, database) as (_, client):
        assert client.post(report("before")).status == 200
        postgres.pause()
        try:
            with ThreadPoolExecutor(8) as pool:
                during = list(pool.map(lambda number: client.post(report(f"during{number}")).status, range(8)))
            assert set(during) == {503}
            assert client.request("GET", "/health").status == 503
        finally:
            postgres.go_on()
        eventually(lambda: client.post(report("after")).status == 200, "reports are accepted again", seconds=60)
    assert {"before", "after"} <= set(stored(database))


def test_a_thousand_forged_malformed_and_oversized_requests_leave_nothing(postgres: Postgres, tmp_path: Path) -> None:
    database = postgres.create("forged")
    marker = "FORGED-CONTENT"
    with receiver(tmp_path, database) as (process, client):
        genuine = json.dumps(report("genuine")).encode()

        def attack(number: int) -> tuple[int, int]:
            kind = number % 5
            if kind == 0:
                return 403, client.post(report(f"{marker}{number}", text=marker), password="guess").status
            if kind == 1:
                return 403, client.post(report(marker), conn_id=f"{marker}-{random.random()}").status
            if kind == 2:
                return 400, client.post(f'{{"{marker}": '.encode()).status
            if kind == 3:
                return 413, client.post(marker.encode() * 5000).status
            return 200, client.post(genuine).status  # replayed

        with ThreadPoolExecutor(32) as pool:
            outcomes = list(pool.map(attack, range(1000)))
        assert [got for _, got in outcomes] == [expected for expected, _ in outcomes]
        assert stored(database) == Counter(["genuine"])
    assert marker not in process.output.read_text()
    assert "Traceback" not in process.output.read_text()


@pytest.fixture
def api_servers(postgres: Postgres, tmp_path: Path) -> Iterator[tuple[list[RunningAirflow], list[Client], str]]:
    """Two API servers on one database of Airflow, with an empty one for the receiver, started at once."""
    (tmp_path / "dags").mkdir()
    airflow, receivers = postgres.create("airflow"), postgres.create("receivers")
    homes = [
        AirflowHome(
            tmp_path / f"server{number}",
            dags=tmp_path / "dags",
            connections={CONN_ID: CONNECTION},
            extra={
                "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": airflow,
                "AIRFLOW__OMNIMESSAGE__RECEIVER": "True",
                "AIRFLOW__OMNIMESSAGE__RECEIVER_DATABASE": receivers,
            },
        )
        for number in range(2)
    ]
    for home in homes:
        home.prepare()
    servers = [RunningAirflow(home) for home in homes]
    try:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda server: server.start(["api-server"]), servers))
        clients = [Client("127.0.0.1", home.port, "/omnimessage") for home in homes]
        for client in clients:
            eventually(lambda client=client: client.request("GET", "/health").status == 200, "healthy", seconds=60)
        yield servers, clients, receivers
    finally:
        for server in servers:
            server.stop()


def test_no_report_is_lost_when_one_of_two_api_servers_is_killed(
    api_servers: tuple[list[RunningAirflow], list[Client], str],
) -> None:
    servers, clients, database = api_servers
    accepted, statuses = post_under_load(clients, 600, lambda: servers[0].kill(["api-server"]), at=150)
    found = stored(database)
    assert accepted <= set(found)
    assert set(found.values()) == {1}
    assert set(statuses) == {0, 200}, "the killed one does not respond, the other one accepts everything"
    # and a client of the other one gets all of them
    seen: set[str] = set()
    position = 0
    while True:
        page = clients[1].events(after=position).body
        if not page["events"]:
            break
        seen |= {event["omnimessage_id"] for event in page["events"]}
        position = page["position"]
    assert accepted <= seen


def test_airflow_itself_makes_the_tables_if_they_are_in_its_database(postgres: Postgres, tmp_path: Path) -> None:
    (tmp_path / "dags").mkdir()
    extra = {
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": postgres.create("migrated"),
        "AIRFLOW__OMNIMESSAGE__RECEIVER": "True",
    }
    home = AirflowHome(tmp_path / "on", dags=tmp_path / "dags", connections={}, extra=extra)
    home.prepare()
    assert stored(extra["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]) == Counter()
    home.run("db", "check-migrations", "--migration-wait-timeout", "10")


def test_airflow_makes_no_tables_while_the_receiver_is_off(postgres: Postgres, tmp_path: Path) -> None:
    (tmp_path / "dags").mkdir()
    database = postgres.create("off")
    extra = {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database}
    home = AirflowHome(tmp_path / "off", dags=tmp_path / "dags", connections={}, extra=extra)
    home.prepare()
    home.run("db", "check-migrations", "--migration-wait-timeout", "10")
    engine = open_url(database)
    with engine.connect() as connection:
        tables = connection.execute(text("SELECT count(*) FROM pg_tables WHERE tablename LIKE 'omnimessage%'"))
        assert tables.scalar() == 0
    engine.dispose()


@pytest.fixture
def pushed_airflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Airflow, RunningAirflow, Sandbox]]:
    """A whole Airflow with the plugin on, and a sandbox that posts reports to it."""
    dags = tmp_path / "dags"
    dags.mkdir()
    for source in (ROOT / "tests/system/push_dags/pushed.py", ROOT / "example_dags/omnimessage_outcomes.py"):
        shutil.copy(source, dags)
    with Sandbox() as sandbox:
        home = AirflowHome(
            tmp_path / "airflow",
            dags=dags,
            connections={},
            extra={
                "AIRFLOW__OMNIMESSAGE__RECEIVER": "True",
                "AIRFLOW__OMNIMESSAGE__RECEIVER_DATABASE": f"sqlite:///{tmp_path}/receiver.db",
                "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
                "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "10",
            },
        )
        connection = json.dumps({**sandbox.connection, "extra": {"push_url": f"{home.url}/omnimessage"}})
        home.environment[f"AIRFLOW_CONN_{CONN_ID.upper()}"] = connection
        monkeypatch.setenv(f"AIRFLOW_CONN_{CONN_ID.upper()}", connection)
        home.prepare()
        running = RunningAirflow(home)
        try:
            running.start()
            yield Airflow(home), running, sandbox
        finally:
            running.stop()


def test_reports_wake_waits_and_start_dags_on_a_whole_airflow(
    pushed_airflow: tuple[Airflow, RunningAirflow, Sandbox],
) -> None:
    airflow, running, sandbox = pushed_airflow
    sandbox.freeze()
    hook = OmnimessageHook(CONN_ID)
    ids = [hook.send(f"+3725551{number:04}", [sms("a")]).omnimessage_id for number in range(2000, 2008)]
    for dag_id in ("pushed", "omnimessage_outcomes"):
        airflow.await_dag(dag_id)
    run = airflow.trigger("pushed", ids=ids)

    def instances() -> list[dict[str, Any]]:
        path = f"/api/v2/dags/pushed/dagRuns/{run}/taskInstances"
        return [each for each in airflow.call("GET", path)["task_instances"] if each["task_id"] == "wait"]

    eventually(lambda: [each["state"] for each in instances()] == ["deferred"] * 8, "all wait", instances, seconds=240)
    # the watcher's trigger is there, and has its place in the log
    eventually(lambda: consumers(running.home.folder.parent / "receiver.db"), "a triggerer listens", seconds=120)
    # messages that are scheduled ahead test that nothing is polled; on a slow machine, one of these may be
    sandbox.advance(30)
    eventually(lambda: {each["state"] for each in instances()} == {"success"}, "all end", instances, seconds=120)

    def payloads() -> list[dict[str, Any]]:
        events = airflow.call("GET", "/api/v2/assets/events?limit=100")["asset_events"]
        return [event["extra"]["payload"] for event in events]

    def fired() -> set[str]:
        return {payload["id"] for payload in payloads()}

    def runs() -> list[str]:
        found = airflow.call("GET", "/api/v2/dags/omnimessage_outcomes/dagRuns")["dag_runs"]
        return [each["run_type"] for each in found if each["state"] == "success"]

    def deliver_another_while_the_triggerer_is_dead() -> str:
        running.kill(["triggerer"])
        another = hook.send("+37255512345", [sms(f"message {len(ids)}")]).omnimessage_id
        sandbox.advance(30)
        running.start(["triggerer"])
        eventually(lambda: another in fired(), "the first event is fired", seconds=240)
        return another

    eventually(lambda: fired() == set(ids), "all events are fired", fired)
    # killed before it has acknowledged anything: what it has fired may come again, and is the same
    ids.append(deliver_another_while_the_triggerer_is_dead())
    assert fired() == set(ids)
    for id_ in ids:
        same = [payload for payload in payloads() if payload["id"] == id_]
        assert len(same) <= 2
        assert all(payload == same[0] for payload in same)
    # Airflow decides how many of the events one run takes
    eventually(lambda: "asset_triggered" in runs(), "the asset starts a run", runs, seconds=120)
    # killed after it has acknowledged everything: nothing comes again
    time.sleep(15)
    before = len(payloads())
    ids.append(deliver_another_while_the_triggerer_is_dead())
    assert fired() == set(ids)
    assert len(payloads()) == before + 1


def consumers(database: Path) -> int:
    engine = open_url(f"sqlite:///{database}")
    with engine.connect() as connection:
        count: int = connection.execute(text("SELECT count(*) FROM omnimessage_consumer")).scalar_one()
    engine.dispose()
    return count
