"""Alerts on a whole Airflow: what goes out when it lives, when a run is repaired, and when all of it is killed."""

from __future__ import annotations

import time
import uuid
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from _airflow import Airflow
from waiting import eventually
from whole_airflow import DETECTS_DEAD_WORKERS

from airflow_provider_omnimessage.sandbox import SandboxClient

DAGS = Path(__file__).parent / "alert_dags"


@pytest.fixture(scope="module")
def processes(start_airflow):
    return start_airflow(DAGS, {"AIRFLOW__CORE__PARALLELISM": "16", **DETECTS_DEAD_WORKERS})


@pytest.fixture(scope="module")
def airflow(processes):
    running = Airflow(processes.home)
    running.await_dag("guarded")
    return running


#: Where arming is killed: what becomes of the alerts, and what the log says.
KILLED_ARMING = {
    "after the intent is stored": (["cancelled"], "An alert whose id is unknown may have been scheduled at"),
    "after the answer": (["cancelled", "scheduled"], "An alert whose id is unknown may have been scheduled at"),
    "after the id is stored": (["cancelled"], "is scheduled already"),
    "each try": ([], "all tries but the last one were killed"),
}


@pytest.fixture(scope="module")
def deaths(airflow):
    """Runs in which something is killed. They take a while, so they start first and are checked later."""
    return {
        "killed_tasks": airflow.trigger("killed_tasks"),
        **{
            point: airflow.trigger("arming_is_killed", point=point, to=f"+372555577{number:02}")
            for number, point in enumerate(KILLED_ARMING)
        },
    }


@pytest.fixture(autouse=True)
def _begin(deaths):
    """Begin them with the first test."""


@pytest.fixture(autouse=True)
def _now(sandbox):
    sandbox.set_time(datetime.now(timezone.utc))


@pytest.fixture
def guarded(airflow, sandbox, tmp_path):
    return lambda: Guarded(airflow, sandbox, tmp_path / uuid.uuid4().hex)


class Guarded:
    """
    A run of the DAG ``guarded``, whose work waits for a file that says how to end.

    :param instructions: the file.
    """

    def __init__(self, airflow: Airflow, sandbox: SandboxClient, instructions: Path) -> None:
        self._airflow, self._sandbox, self._instructions = airflow, sandbox, instructions
        self._to = f"+3725556{uuid.uuid4().int % 8000 + 1000}"
        self.run_id = airflow.trigger("guarded", instructions=str(instructions), to=self._to)

    def has_begun(self) -> Guarded:
        eventually(lambda: Path(f"{self._instructions}.begun").exists(), "the work begins")
        return self

    def is_to_end(self, how: str) -> None:
        self._instructions.write_text(how)

    def ends(self, how: str) -> None:
        self.is_to_end(how)
        self.comes_to("success" if how == "done" else "failed")

    def comes_to(self, state: str) -> None:
        path = f"/api/v2/dags/guarded/dagRuns/{self.run_id}"
        eventually(lambda: self._airflow.call("GET", path)["state"] == state, f"the run comes to {state}", self)
        eventually(lambda: self.tasks["by_nine.disarm"] in ("success", "failed"), "disarming ends", self)

    def is_cleared(self, **which: object) -> None:
        Path(f"{self._instructions}.begun").unlink()
        self._instructions.unlink()
        body = {"dry_run": False, "dag_run_id": self.run_id, **which}
        self._airflow.call("POST", "/api/v2/dags/guarded/clearTaskInstances", body)

    @property
    def tasks(self) -> dict[str, str]:
        return self._airflow.tasks("guarded", self.run_id)

    @property
    def alerts(self) -> list[dict]:
        return [message for message in self._sandbox.messages if message["to"] == self._to]

    @property
    def states(self) -> list[str]:
        return [message["state"] for message in self.alerts]

    def __str__(self) -> str:
        return f"{self.tasks}\n{self._airflow.log(self.run_id)[-3000:]}"


class Details:
    """Details that are collected only if a wait fails."""

    def __init__(self, airflow, ask, run_id=None):
        self._airflow, self._ask, self._run_id = airflow, ask, run_id

    def __str__(self):
        logs = "".join(
            path.read_text(errors="replace")[-2500:] for path in (self._airflow.home.folder / "processes").glob("*.log")
        )
        return f"{self._ask()}\n{self._airflow.log(self._run_id)[-4000:] if self._run_id else ''}\n{logs}"


def test_of_overlapping_runs_only_the_one_that_fails_alerts(guarded, sandbox):
    good, bad = guarded(), guarded()
    good.has_begun()
    bad.has_begun()
    assert (good.states, bad.states) == (["scheduled"], ["scheduled"])
    bad.ends("failed")
    good.ends("done")
    assert (good.states, bad.states) == (["cancelled"], ["scheduled"])
    sandbox.advance(timedelta(hours=2))
    assert (good.states, bad.states) == (["cancelled"], ["delivered"])
    assert bad.alerts[0]["body"]["messages"][0]["text"] == f"Late: guarded {bad.run_id}"


def test_a_run_that_is_repaired_before_its_alert_goes_out_does_not_alert(guarded, sandbox):
    ways = [{"only_failed": True}, {"only_failed": False, "task_ids": ["by_nine.work"]}, {"only_failed": False}]
    runs = [guarded() for _ in ways]
    for run in runs:
        run.has_begun()
        run.is_to_end("failed")
    for run in runs:
        run.comes_to("failed")
        assert run.states == ["scheduled"]
    for run, way in zip(runs, ways, strict=True):
        run.is_cleared(**way)
    for run in runs:
        run.has_begun()
        assert run.states.count("scheduled") == 1
        run.is_to_end("done")
    for run in runs:
        run.comes_to("success")
        assert set(run.states) == {"cancelled"}
    sandbox.advance(timedelta(hours=2))
    assert {state for run in runs for state in run.states} == {"cancelled"}


def test_a_run_that_was_on_time_is_guarded_again_when_it_is_cleared(guarded, sandbox):
    run = guarded().has_begun()
    run.ends("done")
    run.is_cleared(only_failed=False)
    run.has_begun()
    assert run.states == ["cancelled", "scheduled"]
    run.ends("done")
    assert run.states == ["cancelled", "cancelled"]


def test_late_work_alerts_and_ends_well(guarded, sandbox, airflow):
    run = guarded().has_begun()
    sandbox.advance(timedelta(hours=2))
    run.ends("done")
    assert run.states == ["delivered"]
    assert "Done, but late" in airflow.log(run.run_id)


def test_a_run_that_somebody_marks_as_failed_alerts(guarded, airflow, sandbox):
    run = guarded().has_begun()
    airflow.call("PATCH", f"/api/v2/dags/guarded/dagRuns/{run.run_id}", {"state": "failed"})
    run.comes_to("failed")
    assert run.states == ["scheduled"]
    sandbox.advance(timedelta(hours=2))
    assert run.states == ["delivered"]


def test_of_the_runs_that_are_caught_up_with_only_the_one_that_is_due_alerts(airflow, sandbox):
    def ended():
        runs = airflow.call("GET", "/api/v2/dags/catches_up/dagRuns")["dag_runs"]
        return len(runs) >= 3 and {run["state"] for run in runs} == {"success"}

    eventually(ended, "the runs of the past days end")
    sent_texts = [
        message["body"]["messages"][0]["text"] for message in sandbox.messages if message["to"] == "+37255557777"
    ]
    assert sent_texts == [f"Late: scheduled__{datetime.now(timezone.utc):%Y-%m-%d}T00:00:00+00:00"]
    today = datetime.now(timezone.utc)
    airflow.call(
        "POST",
        "/api/v2/backfills",
        {
            "dag_id": "catches_up",
            "from_date": (today - timedelta(days=9)).isoformat(),
            "to_date": (today - timedelta(days=7)).isoformat(),
        },
    )
    eventually(lambda: "backfill" in str(airflow.call("GET", "/api/v2/dags/catches_up/dagRuns")), "the backfill begins")
    eventually(ended, "the backfill ends")
    assert len([message for message in sandbox.messages if message["to"] == "+37255557777"]) == 1


def test_the_notifier_sends_from_every_kind_of_callback(airflow, sandbox, tmp_path):
    def sent_texts():
        return {
            message["to"].removeprefix("+3725555"): message["body"]["messages"][0]["text"]
            for message in sandbox.messages
            if message["to"].startswith("+372555511")
        }

    failing = airflow.trigger("failing_work", instructions=str(tmp_path / "instructions"))
    succeeding = airflow.trigger("successful_work")
    # after a callback of a DAG, Airflow parses its file, and another callback of it waits for the next parse
    eventually(lambda: {"1102", "1103", "1107"} <= set(sent_texts()), "the deadlines are missed", sent_texts)
    (tmp_path / "instructions").touch()
    eventually(lambda: len(sent_texts()) >= 11, "all callbacks are called", sent_texts)
    texts = sent_texts()
    for digits in ("1102", "1103"):
        assert texts.pop(digits).startswith(f"failing_work ({failing}) missed its deadline of 20")
    assert texts == {
        "1101": f"failing_work ({failing}) failed: task failure",
        "1104": f"failing_work.fails ({failing}) failed and will be retried, after try 1: ValueError: no such table",
        "1105": f"failing_work.fails ({failing}) failed: ValueError: no such table",
        "1106": "fails of failing_work",
        "1107": f"successful_work ({succeeding}) succeeded",
        "1108": f"successful_work.succeeds ({succeeding}) succeeded",
        "1109": f"successful_work.succeeds ({succeeding}) has started",
        "1110": f"successful_work.skips ({succeeding}) was skipped",
        "1111": f"successful_work.asks ({succeeding}) is waiting for an answer: Deploy?",
    }


def test_the_notifier_sends_if_the_tasks_process_was_killed(airflow, deaths, sandbox):
    """The DAG processor calls these callbacks, because no process of the task is left."""

    def sent_texts():
        return {
            message["to"].removeprefix("+3725555"): message["body"]["messages"][0]["text"]
            for message in sandbox.messages
            if message["to"].startswith("+372555512")
        }

    run_id = deaths["killed_tasks"]
    eventually(
        lambda: {"1201", "1202", "1203"} <= set(sent_texts()), "the callbacks are called", Details(airflow, sent_texts)
    )
    texts = sent_texts()
    assert texts["1201"] == f"killed_tasks ({run_id}) failed: task failure"
    assert texts["1202"] == f"killed_tasks.dies_with_its_supervisor ({run_id}) failed"
    assert texts["1203"] == (
        f"killed_tasks.dies_once_with_its_supervisor ({run_id}) failed and will be retried, after try 1"
    )
    assert "1204" not in texts, (
        "Airflow calls it where the task alone was killed: docs/howto/notifier.md says otherwise"
    )


@pytest.mark.parametrize("point", KILLED_ARMING)
def test_arming_that_is_killed_lets_the_work_run_and_what_is_known_is_cancelled(airflow, deaths, sandbox, point):
    run_id = deaths[point]
    to = f"+372555577{list(KILLED_ARMING).index(point):02}"
    expected, said = KILLED_ARMING[point]

    def tasks():
        return airflow.tasks("arming_is_killed", run_id)

    # if the alert is not scheduled, arm is shown as failed, and the run succeeds
    ended = {"success", "failed"} if point == "each try" else {"success"}
    eventually(lambda: set(tasks().values()) == ended, "the run ends well", Details(airflow, tasks, run_id))
    assert sorted(message["state"] for message in sandbox.messages if message["to"] == to) == expected
    assert said in airflow.log(run_id)
    tries = airflow.call("GET", f"/api/v2/dags/arming_is_killed/dagRuns/{run_id}/taskInstances/by_nine.arm")
    assert tries["try_number"] == (6 if point == "each try" else 2)


def test_a_missed_deadline_waits_for_the_scheduler_and_an_async_callback_for_the_triggerer(
    airflow, processes, sandbox, tmp_path
):
    def sent_texts(run_id):
        return {
            message["to"].removeprefix("+3725555")
            for message in sandbox.messages
            if f"({run_id}) missed" in message["body"]["messages"][0]["text"]
        }

    processes.kill(["scheduler", "triggerer"])
    run_id = airflow.trigger("failing_work", instructions=str(tmp_path / "instructions"))
    missed = time.monotonic() + 3
    eventually(lambda: time.monotonic() > missed, "the deadline of one second has passed")
    assert sent_texts(run_id) == set()
    processes.start(["scheduler"])
    eventually(
        lambda: "1103" in sent_texts(run_id), "the SyncCallback is called", Details(airflow, lambda: sent_texts(run_id))
    )
    assert sent_texts(run_id) == {"1103"}
    processes.start(["triggerer"])
    eventually(
        lambda: "1102" in sent_texts(run_id),
        "the AsyncCallback is called",
        Details(airflow, lambda: sent_texts(run_id)),
    )
    (tmp_path / "instructions").touch()


def test_with_all_of_airflow_killed_the_alert_and_the_heartbeat_go_out(guarded, airflow, processes, sandbox):
    other, run = guarded(), guarded()
    airflow.run("heartbeat")
    airflow.run("heartbeat")
    other.has_begun().ends("done")
    run.has_begun()
    assert (run.states, other.states) == (["scheduled"], ["cancelled"])
    processes.kill()
    sandbox.advance(timedelta(minutes=30))
    beats = [message for message in sandbox.messages if message["to"] == "+37255556666"]
    assert [beat["state"] for beat in beats] == ["cancelled", "delivered"]
    assert "no heartbeat from heartbeat since " in beats[1]["body"]["messages"][0]["text"]
    assert run.states == ["scheduled"]
    sandbox.advance(timedelta(hours=1))
    assert (run.states, other.states) == (["delivered"], ["cancelled"])
    assert run.alerts[0]["sent_at"] == run.alerts[0]["time_to_send"]
    # except the one of an arm that was killed before it stored the id
    left = [message["to"] for message in sandbox.messages if message["state"] == "scheduled"]
    assert left == [f"+372555577{list(KILLED_ARMING).index('after the answer'):02}"]
