"""
Waiting on a whole Airflow: in every mode, many at once, through refused credentials and the death of triggerers.

``OMNIMESSAGE_WAITS`` says how many wait on one triggerer at a time; ``scripts/test --soak`` makes it 500.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import re
import socket
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from _airflow import Airflow, AirflowHome, RunningAirflow, free_port, running_airflow

from airflow_provider_omnimessage.api.messages import sms, viber
from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook
from airflow_provider_omnimessage.sandbox import SandboxClient
from airflow_provider_omnimessage.triggers.polling import IN_FLIGHT

MANY = int(os.environ.get("OMNIMESSAGE_WAITS", "12"))
PATIENCE = 120 + 3 * MANY
TO, UNDELIVERABLE, STUCK = "+37255555555", "+37255550001", "+37255550004"
CHANGING = "omnimessage_changing"


class Waits(Airflow):
    """A running Airflow with triggerers that can be killed."""

    def __init__(self, home: AirflowHome, processes: RunningAirflow, sandbox: SandboxClient) -> None:
        super().__init__(home)
        self.processes = processes
        self.sandbox = sandbox
        self.metrics: list[bytes] = []

    def counted(self, name: str) -> int:
        """How often a metric has reached the StatsD that this Airflow reports to."""
        return sum(packet.decode().startswith(f"airflow.{name}:") for packet in list(self.metrics))

    def send(self, to: str = TO) -> str:
        return OmnimessageHook().send(to, [viber("a"), sms("a")]).omnimessage_id

    def instances(self, dag_id: str, run_id: str) -> list[dict]:
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances?limit=100"
        found: list[dict] = []
        while True:
            page = self.call("GET", f"{path}&offset={len(found)}")
            found += page["task_instances"]
            if len(found) >= page["total_entries"] or not page["task_instances"]:
                return found

    def await_states(self, dag_id: str, run_id: str, wanted: Callable[[Counter, list[dict]], bool]) -> list[dict]:
        instances: list[dict] = []
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            # Airflow responds with 500 while its SQLite is locked
            with contextlib.suppress(OSError):
                instances = self.instances(dag_id, run_id)
                if wanted(Counter(instance["state"] for instance in instances), instances):
                    return instances
            self.processes.check()
            time.sleep(1)
        raise AssertionError(
            f"still: {Counter(instance['state'] for instance in instances)}\n{self.log(run_id)[-6000:]}"
        )

    def report_requests(self) -> list[dict]:
        """All requests for delivery reports."""
        return [request for request in self.sandbox.requests if request["call"] == "status"]

    def await_requests(self, wanted: Callable[[list[dict]], bool]) -> list[dict]:
        """Wait until the requests for delivery reports meet a condition."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            requests = self.report_requests()
            if wanted(requests):
                return requests
            time.sleep(0.2)
        raise AssertionError(requests)

    def status_requests(self, omnimessage_id: str) -> int:
        return sum(1 for request in self.sandbox.requests if omnimessage_id in request["path"])

    def reports(self, run_id: str, count: int) -> list[dict]:
        path = f"/api/v2/dags/many_waits/dagRuns/{run_id}/taskInstances/wait/xcomEntries/return_value"
        return [self.call("GET", f"{path}?map_index={index}&deserialize=true")["value"] for index in range(count)]

    def worker_starts(self, run_id: str, task_id: str) -> int:
        """How often a worker has taken a task up, its mapped instances counted together."""
        paths = (self.home.folder / "logs").rglob("attempt=*.log")
        mine = [path for path in paths if f"run_id={run_id}/task_id={task_id}/" in str(path)]
        return sum(path.read_text().count("::group::Pre Execute") for path in mine)

    def trigger_log(self, run_id: str) -> str:
        """
        All lines about a run's triggers.

        Airflow closes the log of a trigger that has fired while lines of it may still be on their way from the process
        that runs all triggers: of many that fire at once, some end in that process's own log.
        """
        tasks = "".join(
            path.read_text()
            for path in (self.home.folder / "logs").rglob("*.trigger.*.log")
            if f"run_id={run_id}/" in str(path)
        )
        process = (self.home.folder / "processes" / "triggerer.log").read_text().splitlines()
        return tasks + "\n".join(line for line in process if run_id in line)

    def held(self) -> dict[int | None, int]:
        """How many waits each triggerer holds, by its id, as Airflow's database has it."""
        query = "SELECT triggerer_id, COUNT(*) FROM trigger GROUP BY triggerer_id"
        with sqlite3.connect(f"file:{self.home.folder / 'airflow.db'}?mode=ro", uri=True) as database:
            return dict(database.execute(query).fetchall())


def collect(statsd: socket.socket, metrics: list[bytes]) -> None:
    with contextlib.suppress(OSError):
        while True:
            packet = statsd.recv(65536)
            if b"omnimessage" in packet:
                metrics.append(packet)


@pytest.fixture(scope="module")
def waits(tmp_path_factory: pytest.TempPathFactory, sandbox: SandboxClient) -> Iterator[Waits]:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as statsd,
        pytest.MonkeyPatch.context() as patch,
    ):
        statsd.bind(("127.0.0.1", 0))
        patch.setenv("AIRFLOW_CONN_OMNIMESSAGE_DEFAULT", sandbox.airflow_conn)
        home = AirflowHome(
            tmp_path_factory.mktemp("airflow"),
            dags=Path(__file__).parent / "dags",
            connections={"omnimessage_default": json.dumps(sandbox.connection)},
            extra={
                "AIRFLOW__CORE__PARALLELISM": "6",
                "AIRFLOW__METRICS__STATSD_ON": "True",
                "AIRFLOW__METRICS__STATSD_HOST": "127.0.0.1",
                "AIRFLOW__METRICS__STATSD_PORT": str(statsd.getsockname()[1]),
                "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "1000",
                "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
                "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "6",
                "AIRFLOW__SCHEDULER__TRIGGER_TIMEOUT_CHECK_INTERVAL": "3",
            },
        )
        with running_airflow(home) as processes:
            running = Waits(home, processes, sandbox)
            threading.Thread(target=collect, args=(statsd, running.metrics), daemon=True).start()
            running.await_dag("many_waits")
            running.await_dag("every_mode")
            sandbox.freeze()
            yield running


def a_triggerer(waits: Waits, capacity: int) -> RunningAirflow:
    """One more triggerer, which holds at most so many waits."""
    home = copy.copy(waits.home)
    home.environment = {
        **waits.home.environment,
        "AIRFLOW__TRIGGERER__CAPACITY": str(capacity),
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_port()),
    }
    processes = RunningAirflow(home)
    processes.start(("triggerer",))
    return processes


def demand_that_each_resumed_once(waits: Waits, run_id: str, ids: list[str], instances: list[dict]) -> None:
    assert {instance["try_number"] for instance in instances} == {1}
    assert [report["omnimessage_id"] for report in waits.reports(run_id, len(ids))] == ids
    log = waits.trigger_log(run_id)
    for id_ in ids:
        assert len(re.findall(rf"{id_}: delivered", log)) == 1
    assert log.count("Trigger fired event") == len(ids)
    assert waits.worker_starts(run_id, "wait") == len(ids), "a success ends in the triggerer"


def statuses_of(requests: list[dict]) -> list[int | None]:
    return [request["status"] for request in requests]


def all_in(state: str, count: int) -> Callable[[Mapping[str, int], object], bool]:
    return lambda states, _: states[state] == count


def test_every_mode_continues_on_delivery_even_if_the_triggerer_is_killed(waits):
    ids = {mode: waits.send() for mode in ("poke", "reschedule", "deferred")}
    run_id = waits.trigger("every_mode", ids=ids)

    def all_wait(states, instances):
        by_task = {instance["task_id"]: instance["state"] for instance in instances}
        return by_task.get("deferred") == "deferred" and all(waits.status_requests(id_) >= 2 for id_ in ids.values())

    waits.await_states("every_mode", run_id, all_wait)
    waits.processes.kill(("triggerer",))
    waits.sandbox.advance(60)
    try:
        waits.await_states("every_mode", run_id, all_in("success", 4))
        requests = waits.status_requests(ids["deferred"])
    finally:
        waits.processes.start(("triggerer",))
    waits.await_states("every_mode", run_id, all_in("success", 6))
    assert waits.status_requests(ids["deferred"]) == requests + 1
    for mode, id_ in ids.items():
        report = waits.xcom("every_mode", run_id, mode)
        assert (report["omnimessage_id"], report["outcome"], report["delivered_by"]) == (id_, "delivered", "viber")
        assert waits.xcom("every_mode", run_id, f"read_{mode}") == "delivered by viber"
    assert waits.worker_starts(run_id, "deferred") == 1, "a success ends in the triggerer"
    assert waits.counted("omnimessage.delivered") == 3, "by two workers and the triggerer"


def test_a_failure_is_reported_by_a_worker_in_every_mode(waits):
    ids = {mode: waits.send(UNDELIVERABLE) for mode in ("poke", "reschedule", "deferred")}
    waits.sandbox.advance(60)
    run_id = waits.trigger("every_mode", ids=ids)
    instances = waits.await_states("every_mode", run_id, all_in("failed", 3))
    assert {instance["try_number"] for instance in instances if instance["state"] == "failed"} == {1}
    log = waits.log(run_id)
    for id_ in ids.values():
        assert f"{id_} failed (viber: UNDELIV (Delivery failure); sms: UNDELIV (Delivery failure))" in log
    assert waits.worker_starts(run_id, "deferred") == 2, "a failure goes back to a worker"


def test_many_waits_on_one_triggerer_all_resume_and_none_twice(waits):
    ids = [waits.send() for _ in range(MANY)]
    run_id = waits.trigger("many_waits", ids=ids)
    waits.await_states("many_waits", run_id, all_in("deferred", MANY))
    deadline = time.monotonic() + PATIENCE
    while None in waits.held():
        assert time.monotonic() < deadline, waits.held()
        time.sleep(0.2)
    assert list(waits.held().values()) == [MANY], "one triggerer holds all of them"
    waits.sandbox.advance(60)
    instances = waits.await_states("many_waits", run_id, all_in("success", MANY + 1))
    demand_that_each_resumed_once(waits, run_id, ids, instances)


def test_after_a_401_the_triggerer_reads_the_connection_again_and_a_second_one_ends_all_waits(waits):
    connection = {**waits.sandbox.connection, "connection_id": CHANGING}
    connection.pop("extra", None)
    waits.call("POST", "/api/v2/connections", connection)
    later = (datetime.now(timezone.utc) + timedelta(hours=9)).isoformat()
    ids = [waits.send(STUCK) for _ in range(4)]
    waits.sandbox.advance(60)
    before = len(waits.report_requests())
    asking = waits.trigger("many_waits", ids=ids, conn_id=CHANGING)
    sleeping = waits.trigger("many_waits", ids=ids, conn_id=CHANGING, time_to_send=later)
    for run_id in (asking, sleeping):
        waits.await_states("many_waits", run_id, all_in("deferred", 4))
    # the polls on the workers, and then the triggerer's first ones
    waits.await_requests(lambda requests: len(requests) >= before + 8)

    waits.call("PATCH", f"/api/v2/connections/{CHANGING}", {**connection, "extra": '{"sender": "ACME"}'})
    waits.sandbox.add_fault("unauthorized", call="status", times=1)
    statuses = statuses_of(waits.await_requests(lambda requests: 401 in statuses_of(requests[:-4])))
    assert set(statuses[statuses.index(401) + 1 :]) <= {200, None}, "the connection has changed: all go on"

    waits.sandbox.add_fault("unauthorized", call="status", times="always")
    for run_id in (asking, sleeping):
        instances = waits.await_states("many_waits", run_id, all_in("failed", 4))
        assert {each["try_number"] for each in instances} == {1}, "refused credentials burn no retries"
        assert waits.trigger_log(run_id).count("Trigger fired event") == 4
        assert "check the connection's login and password" in waits.log(run_id)
    assert statuses_of(waits.report_requests()).count(401) - 1 <= IN_FLIGHT, "one rejection ends all waits"
    waits.sandbox.clear_faults()


def test_of_two_triggerers_both_hold_waits_and_one_takes_over_when_the_other_is_killed(waits):
    waits.processes.kill(("triggerer",))
    before = set(waits.held())
    one, other = (a_triggerer(waits, capacity=8) for _ in range(2))
    try:
        ids = [waits.send() for _ in range(12)]
        run_id = waits.trigger("many_waits", ids=ids)
        waits.await_states("many_waits", run_id, all_in("deferred", 12))
        deadline = time.monotonic() + PATIENCE
        while set(waits.held()) - before == set() or None in waits.held():
            assert time.monotonic() < deadline, waits.held()
            time.sleep(0.2)
        held = waits.held()
        assert len(held) == 2, held
        assert min(held.values()) >= 4, held
        other.kill()
        waits.sandbox.advance(60)
        instances = waits.await_states("many_waits", run_id, all_in("success", 13))
        demand_that_each_resumed_once(waits, run_id, ids, instances)
    finally:
        one.stop()
        other.stop()
