"""
Waiting on a whole Airflow: in every mode, through the death of a triggerer, with two of them, and many at once.

Only with ``scripts/test --soak``; ``OMNIMESSAGE_WAITS`` says how many wait at a time, 500 unless told.
"""

from __future__ import annotations

import copy
import json
import os
import re
import time
from collections import Counter
from pathlib import Path

import pytest
from _airflow import Airflow, AirflowHome, RunningAirflow, free_port, running_sandbox

from airflow_provider_omnimessage.api.messages import sms, viber
from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook
from airflow_provider_omnimessage.sandbox import SandboxClient

pytestmark = pytest.mark.skipif("OMNIMESSAGE_WAITS" not in os.environ, reason="takes scripts/test --soak")

MANY = int(os.environ.get("OMNIMESSAGE_WAITS", "500"))
PATIENCE = 120 + 3 * MANY
TO, UNDELIVERABLE = "+37255555555", "+37255550001"


class Waits(Airflow):
    """A running Airflow with triggerers that can be killed."""

    def __init__(self, home: AirflowHome, processes: RunningAirflow, sandbox: SandboxClient) -> None:
        super().__init__(home)
        self.processes = processes
        self.sandbox = sandbox

    def send(self, to: str = TO) -> str:
        return OmnimessageHook().send(to, [viber("a"), sms("a")]).omnimessage_id

    def begin(self, dag_id: str, **conf: object) -> str:
        body = {"conf": conf, "logical_date": None}
        return self.call("POST", f"/api/v2/dags/{dag_id}/dagRuns", body)["dag_run_id"]

    def instances(self, dag_id: str, run_id: str) -> list[dict]:
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances?limit=100"
        found: list[dict] = []
        while True:
            page = self.call("GET", f"{path}&offset={len(found)}")
            found += page["task_instances"]
            if len(found) >= page["total_entries"] or not page["task_instances"]:
                return found

    def await_states(self, dag_id: str, run_id: str, wanted) -> list[dict]:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            instances = self.instances(dag_id, run_id)
            if wanted(Counter(instance["state"] for instance in instances), instances):
                return instances
            self.processes.check()
            time.sleep(1)
        raise AssertionError(
            f"still: {Counter(instance['state'] for instance in instances)}\n{self.log(run_id)[-6000:]}"
        )

    def status_requests(self, omnimessage_id: str) -> int:
        return sum(1 for request in self.sandbox.requests if omnimessage_id in request["path"])


@pytest.fixture(scope="module")
def waits(tmp_path_factory):
    folder: Path = tmp_path_factory.mktemp("waits")
    with running_sandbox(folder / "sandbox", "--port", "0") as announced:
        sandbox = SandboxClient(announced["url"])
        os.environ["AIRFLOW_CONN_OMNIMESSAGE_DEFAULT"] = sandbox.airflow_conn
        home = AirflowHome(
            folder / "airflow",
            dags=Path(__file__).parent / "dags",
            connections={"omnimessage_default": json.dumps(sandbox.connection)},
            extra={
                "AIRFLOW__CORE__PARALLELISM": "6",
                "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "1000",
                "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
                "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "6",
                "AIRFLOW__SCHEDULER__TRIGGER_TIMEOUT_CHECK_INTERVAL": "3",
            },
        )
        home.prepare()
        processes = RunningAirflow(home)
        try:
            processes.start()
            running = Waits(home, processes, sandbox)
            running.await_dag("many_waits")
            running.await_dag("every_mode")
            sandbox.freeze()
            yield running
        finally:
            processes.stop()
            del os.environ["AIRFLOW_CONN_OMNIMESSAGE_DEFAULT"]


@pytest.fixture
def second_triggerer(waits):
    home = copy.copy(waits.home)
    home.environment = {
        **waits.home.environment,
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_port()),
    }
    processes = RunningAirflow(home)
    processes.start(("triggerer",))
    yield processes
    processes.stop()


def test_every_mode_goes_on_when_the_message_is_delivered_though_the_triggerer_is_killed(waits):
    ids = {mode: waits.send() for mode in ("poke", "reschedule", "deferred")}
    run_id = waits.begin("every_mode", ids=ids)

    def all_wait(states, instances):
        by_task = {instance["task_id"]: instance["state"] for instance in instances}
        return by_task.get("deferred") == "deferred" and all(waits.status_requests(id_) >= 2 for id_ in ids.values())

    waits.await_states("every_mode", run_id, all_wait)
    waits.processes.kill(("triggerer",))
    waits.sandbox.advance(60)
    try:
        waits.await_states("every_mode", run_id, lambda states, _: states["success"] == 2)
        asked = waits.status_requests(ids["deferred"])
    finally:
        waits.processes.start(("triggerer",))
    waits.await_states("every_mode", run_id, lambda states, _: states["success"] == 3)
    assert waits.status_requests(ids["deferred"]) == asked + 1
    for mode, id_ in ids.items():
        report = waits.xcom("every_mode", run_id, mode)
        assert (report["omnimessage_id"], report["outcome"], report["delivered_by"]) == (id_, "delivered", "viber")


def test_a_failure_is_told_by_a_worker_in_every_mode(waits):
    ids = {mode: waits.send(UNDELIVERABLE) for mode in ("poke", "reschedule", "deferred")}
    waits.sandbox.advance(60)
    run_id = waits.begin("every_mode", ids=ids)
    instances = waits.await_states("every_mode", run_id, lambda states, _: states["failed"] == 3)
    assert {instance["try_number"] for instance in instances} == {1}
    log = waits.log(run_id)
    for id_ in ids.values():
        assert f"{id_} failed (viber: UNDELIV (Delivery failure); sms: UNDELIV (Delivery failure))" in log


def test_many_deferred_waits_with_two_triggerers_all_resume_and_none_twice(waits, second_triggerer):
    ids = [waits.send() for _ in range(MANY)]
    run_id = waits.begin("many_waits", ids=ids)
    waits.await_states("many_waits", run_id, lambda states, _: states["deferred"] == MANY)
    waits.sandbox.advance(60)
    instances = waits.await_states("many_waits", run_id, lambda states, _: states["success"] == MANY + 1)
    assert {instance["try_number"] for instance in instances} == {1}
    reports = [
        waits.call(
            "GET",
            f"/api/v2/dags/many_waits/dagRuns/{run_id}/taskInstances/wait/xcomEntries/return_value"
            f"?map_index={index}&deserialize=true",
        )["value"]
        for index in range(MANY)
    ]
    assert [report["omnimessage_id"] for report in reports] == ids
    log = waits.log(run_id)
    for id_ in ids:
        assert len(re.findall(rf"{id_}: delivered", log)) == 1
    assert log.count("Trigger fired event") == MANY
