"""
Waits that reports wake, on a whole Airflow with PostgreSQL whose API server is the receiver.

``OMNIMESSAGE_PUSHED_WAITS`` says how many wait on one triggerer at a time; ``scripts/test --soak`` makes it 2,000.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone

import pytest
from _airflow import ROOT, Airflow, AirflowHome, RunningAirflow
from postgres import Postgres
from sqlalchemy import text
from sqlalchemy.engine import Row
from waiting import copy_deferred_wait, eventually

from airflow_provider_omnimessage.api.messages import sms, viber
from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook
from airflow_provider_omnimessage.receiver.database import open_url
from airflow_provider_omnimessage.sandbox import Sandbox

MANY = int(os.environ.get("OMNIMESSAGE_PUSHED_WAITS", "200"))
PATIENCE = 120 + 0.5 * MANY
CONN_ID = "omnimessage_default"
RARELY, OFTEN = "pushed_rarely_polled", "pushed_often_polled"
log = logging.getLogger(__name__)

FALLS_BACK, UNDELIVERABLE = "+37255550002", "+37255550001"


class PushedWaits(Airflow):
    """A running Airflow, its database, and a sandbox that posts reports to its API server."""

    def __init__(self, home: AirflowHome, processes: RunningAirflow, sandbox: Sandbox, database: str) -> None:
        super().__init__(home)
        self.processes = processes
        self.sandbox = sandbox
        self._engine = open_url(database)

    def rows(self, query: str, **values: object) -> list[Row]:
        with self._engine.connect() as connection:
            return list(connection.execute(text(query), values))

    def send(self, count: int, *, ahead: bool = False, to: str | None = None) -> list[str]:
        """Post messages: now, or scheduled an hour ahead."""
        hook = OmnimessageHook(CONN_ID)
        when = {"time_to_send": self.sandbox.now + timedelta(hours=1)} if ahead else {}
        # no number of these ends like those that the sandbox treats in a special way
        recipients = (to or f"+3725{number:06}9" for number in range(count))
        return [hook.send(recipient, [viber("a"), sms("a")], **when).omnimessage_id for recipient in recipients]

    def start_waits(self, dag_id: str, ids: list[str], **conf: object) -> str:
        """Start a run with a deferred wait for each message, and return its id once a triggerer has all of them."""
        run_id = self.trigger(dag_id, ids=ids, **conf)
        self.until(lambda: self.states(run_id)["deferred"] == 1)
        copy_deferred_wait(self.home, run_id, ids)
        self.until(lambda: self.states(run_id)["deferred"] == len(ids))
        self.until(lambda: not self.rows("SELECT id FROM trigger WHERE triggerer_id IS NULL LIMIT 1"))
        return run_id

    def states(self, run_id: str) -> Counter[str]:
        query = "SELECT state, count(*) FROM task_instance WHERE run_id = :run AND task_id = 'wait' GROUP BY state"
        return Counter({str(state): count for state, count in self.rows(query, run=run_id)})

    def reports(self, run_id: str) -> dict[int, dict]:
        """Return what each wait returned, by its map index."""
        query = "SELECT map_index, value FROM xcom WHERE run_id = :run AND task_id = 'wait' AND key = 'return_value'"
        return {
            index: json.loads(value) if isinstance(value, str) else value
            for index, value in self.rows(query, run=run_id)
        }

    def polled(self) -> Counter[str]:
        """Return the number of status requests for each message."""
        return Counter(
            request["path"].split("/")[-2] for request in self.sandbox.requests if request["call"] == "status"
        )

    def delivered(self) -> set[str]:
        """Return the messages of which the receiver has a report of delivery."""
        found = self.rows("SELECT subject_id FROM omnimessage_event WHERE status = 'DELIVRD'")
        return {row.subject_id for row in found}

    def fired(self, run_id: str) -> int:
        """Count the triggers of a run that have fired: the last lines of some are in the triggerer's own log."""
        logs = [path for path in (self.home.folder / "logs").rglob("*.trigger.*.log") if run_id in str(path)]
        process = (self.home.folder / "processes" / "triggerer.log").read_text().splitlines()
        lines = "".join(path.read_text() for path in logs) + "\n".join(line for line in process if run_id in line)
        return lines.count("Trigger fired event")

    def until(self, condition: Callable[[], object]) -> None:
        def holds() -> object:
            self.processes.check()
            return condition()

        eventually(holds, "it did not happen in time", seconds=PATIENCE)

    def kill_triggerer(self) -> None:
        self.processes.kill(["triggerer"])

    def start_triggerer(self) -> None:
        self.processes.start(["triggerer"])


@pytest.fixture(scope="module")
def waits(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PushedWaits]:
    folder = tmp_path_factory.mktemp("pushed")
    dags = folder / "dags"
    dags.mkdir()
    (dags / "many.py").write_text((ROOT / "tests/system/push_dags/many.py").read_text())
    with Postgres("max_connections=200") as postgres, Sandbox() as sandbox, pytest.MonkeyPatch.context() as patch:
        sandbox.freeze()
        database = postgres.create("airflow")
        home = AirflowHome(
            folder / "airflow",
            dags=dags,
            connections={},
            extra={
                "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database,
                "AIRFLOW__OMNIMESSAGE__RECEIVER": "True",
                "AIRFLOW__CORE__MAX_MAP_LENGTH": "4096",
                "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "4096",
                "AIRFLOW__TRIGGERER__CAPACITY": "4096",
                "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
                "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "10",
            },
        )
        connection = json.dumps({**sandbox.connection, "extra": {"push_url": f"{home.url}/omnimessage"}})
        home.environment[f"AIRFLOW_CONN_{CONN_ID.upper()}"] = connection
        patch.setenv(f"AIRFLOW_CONN_{CONN_ID.upper()}", connection)
        home.prepare()
        home.run("pools", "set", "one_at_a_time", "1", "a deferred wait keeps its slot", "--include-deferred")
        processes = RunningAirflow(home)
        try:
            processes.start()
            running = PushedWaits(home, processes, sandbox, database)
            for dag_id in (RARELY, OFTEN):
                running.await_dag(dag_id)
            yield running
        finally:
            processes.stop()


def an_hour_ahead() -> str:
    return (datetime.now(timezone.utc) + timedelta(hours=1)).isoformat()


def test_reports_end_many_waits_on_one_triggerer_each_once_and_without_a_request_to_messente(
    waits: PushedWaits,
) -> None:
    ids = waits.send(MANY, ahead=True)
    run_id = waits.start_waits(RARELY, ids, time_to_send=an_hour_ahead())
    polled = waits.polled()
    started = time.monotonic()
    waits.sandbox.advance(3600 + 30)
    waits.until(lambda: waits.delivered() >= set(ids))
    stored = time.monotonic()
    waits.until(lambda: waits.states(run_id)["success"] == MANY)
    ended = time.monotonic()
    log.info("%d reports stored in %.1f s, all tasks ended after %.1f s", MANY, stored - started, ended - started)
    assert [waits.reports(run_id)[index]["omnimessage_id"] for index in range(MANY)] == ids
    assert waits.fired(run_id) == MANY, "none twice"
    assert waits.polled() == polled, "no request to Messente after the waits have begun"


def test_a_triggerer_that_is_killed_twice_loses_no_report(waits: PushedWaits) -> None:
    ids = waits.send(60, ahead=True)
    run_id = waits.start_waits(RARELY, ids, time_to_send=an_hour_ahead())
    polled = waits.polled()
    waits.kill_triggerer()
    waits.sandbox.advance(3600 + 30)
    waits.until(lambda: waits.delivered() >= set(ids))
    waits.start_triggerer()
    waits.until(lambda: waits.states(run_id)["success"] > 0)
    waits.kill_triggerer()
    waits.start_triggerer()
    waits.until(lambda: waits.states(run_id)["success"] == len(ids))
    assert [waits.reports(run_id)[index]["omnimessage_id"] for index in range(len(ids))] == ids
    assert waits.polled() == polled, "the stored reports make polling unnecessary"


def test_every_wait_ends_right_though_reports_are_lost_doubled_reordered_late_and_badly_signed(
    waits: PushedWaits,
) -> None:
    sandbox = waits.sandbox
    for fault, every, more in (
        ("dropped", 10, {}),
        ("doubled", 4, {}),
        ("reordered", 4, {}),
        ("delayed", 6, {"seconds": 3600}),
        ("old_password", 6, {"password": "the one before"}),
    ):
        sandbox.add_report_fault(fault, every=every, times="always", **more)
    ids = [*waits.send(50), *waits.send(6, to=FALLS_BACK), *waits.send(4, to=UNDELIVERABLE)]
    run_id = waits.start_waits(OFTEN, ids)
    for _ in range(30):
        sandbox.advance(1)
    waits.until(lambda: waits.states(run_id) == Counter(success=56, failed=4))

    assert [waits.reports(run_id)[index]["omnimessage_id"] for index in range(56)] == ids[:56]
    channels = [waits.reports(run_id)[index]["delivered_by"] for index in range(56)]
    assert channels == ["viber"] * 50 + ["sms"] * 6
    assert {fault["fault"] for fault in sandbox.report_faults if fault["hits"]} == {
        "dropped", "doubled", "reordered", "delayed", "old_password",
    }  # fmt: skip
    lost = set(ids[:56]) - waits.delivered()
    assert len(lost) >= 5
    assert lost <= set(waits.polled()), "polling found what no report brought"
    # an hour later, the late reports arrive: they change nothing
    stored = waits.delivered()
    sandbox.advance(3600)
    waits.until(lambda: waits.delivered() > stored)
    assert waits.states(run_id) == Counter(success=56, failed=4)
    sandbox.clear_faults()
