"""On a whole Airflow with LocalExecutor: workers and Airflow's own processes are killed, and no promise is broken."""

from __future__ import annotations

import base64
import json
import os
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from _airflow import Airflow, AirflowHome, RunningAirflow
from whole_airflow import DETECTS_DEAD_WORKERS

from airflow_provider_omnimessage.sandbox import SandboxClient

CRASH = "omnimessage_crash"
OUTAGE = "omnimessage_outage"
BULK = "omnimessage_bulk_crash"
GUARANTEES = ("at_most_once", "at_least_once")
DOUBT = "Look for it in Messente's dashboard"
PASSWORD = "p4ss/w:rd ü"

#: Where the worker is killed, and how many messages at_most_once and at_least_once then leave.
POINTS = {
    "at the start": (1, 1),
    "before the intent is stored": (1, 1),
    "after the intent is stored": (0, 1),
    "before the request": (0, 1),
    "in the middle of the request": (0, 1),
    "while the answer is awaited": (1, 2),
    "before the body of the answer is read": (1, 2),
    "after the answer": (1, 2),
    "before the id is stored": (1, 2),
    "after the id is stored": (1, 1),
    "after the first XCom": (1, 1),
    "after the last XCom": (1, 1),
    "after everything": (1, 1),
}
#: How often each point is passed in a soak; 0 leaves it at once.
SOAK = int(os.environ.get("OMNIMESSAGE_SOAK", "0"))


@pytest.fixture(scope="module")
def sandbox_password() -> str:
    return PASSWORD


@pytest.fixture(scope="module")
def processes(start_airflow: Callable[..., RunningAirflow]) -> RunningAirflow:
    settings = {
        **DETECTS_DEAD_WORKERS,
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "12",
        "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "5",
    }
    return start_airflow(Path(__file__).parent / "dags", settings)


@pytest.fixture(scope="module")
def airflow(processes: RunningAirflow) -> Airflow:
    running = Airflow(processes.home)
    running.await_dag(CRASH)
    running.await_dag(OUTAGE)
    return running


def await_end(airflow: Airflow, dag_id: str, run_ids: list[str], patience: float) -> None:
    """Wait until all runs have ended; repeat the request while the API server is down."""
    deadline = time.monotonic() + patience
    waiting = set(run_ids)
    while waiting:
        assert time.monotonic() < deadline, {run_id: airflow.tasks(dag_id, run_id) for run_id in waiting}
        time.sleep(1)
        try:
            runs = airflow.call("GET", f"/api/v2/dags/{dag_id}/dagRuns?limit=1000&order_by=-id")["dag_runs"]
        except OSError:  # a refused connection, or an error response
            continue
        waiting -= {run["dag_run_id"] for run in runs if run["state"] in ("success", "failed")}


def live(sandbox: SandboxClient, mark: str) -> list[str]:
    """The messages whose text begins with a mark, and that are not cancelled."""
    return [
        message["omnimessage_id"]
        for message in sandbox.messages
        if message["body"]["messages"][0]["text"].startswith(f"{mark} ") and message["state"] != "cancelled"
    ]


def log_of(airflow: Airflow, run_id: str, task_id: str) -> str:
    logs = airflow.home.folder / "logs"
    paths = [path for path in sorted(logs.rglob("*.log")) if f"run_id={run_id}/task_id={task_id}/" in str(path)]
    return "".join(path.read_text() for path in paths)


def tries(airflow: Airflow, run_id: str, task_id: str) -> int:
    path = f"/api/v2/dags/{CRASH}/dagRuns/{run_id}/taskInstances/{task_id}"
    return int(airflow.call("GET", path)["try_number"])


def judge(airflow: Airflow, sandbox: SandboxClient, run_id: str, point: str) -> None:
    """Check that one run keeps its guarantee, wherever its workers were killed."""
    states = airflow.tasks(CRASH, run_id)
    for guarantee, expected in zip(GUARANTEES, POINTS[point], strict=True):
        messages = live(sandbox, f"{run_id} {guarantee}")
        log = log_of(airflow, run_id, guarantee)
        where = (point, guarantee, states[guarantee], len(messages), log)
        assert f"This try is killed: {point}" in log, where
        # a point that the code does not pass any more would kill nothing
        assert tries(airflow, run_id, guarantee) > 1, where
        assert len(messages) == expected, where
        assert len(messages) <= 1 or guarantee == "at_least_once", where
        assert len(messages) >= 1 or guarantee == "at_most_once", where
        if states[guarantee] == "success":
            assert airflow.xcom(CRASH, run_id, guarantee) in messages, where
        else:
            assert (guarantee, states[guarantee]) == ("at_most_once", "failed"), where
            assert DOUBT in log, where
        if len(messages) == 2:
            assert "posting another one, because delivery_guarantee='at_least_once'" in log, where


def test_a_worker_that_is_killed_around_the_post_breaks_no_promise(airflow, sandbox):
    sandbox.reset()
    # for the one that is killed while it waits: the message is accepted, and its response is slow
    sandbox.add_fault("slow", call="send", seconds=0.6, processed=True, times="always")
    for turn in range(SOAK or 1):
        runs = {
            airflow.trigger(CRASH, point=point, with_worker=number % 4 == turn % 4 if SOAK else number == 9): point
            for number, point in enumerate(POINTS)
        }
        await_end(airflow, CRASH, list(runs), 240)
        for run_id, point in runs.items():
            judge(airflow, sandbox, run_id, point)
    sandbox.clear_faults()


def sent_in(sandbox: SandboxClient, run_id: str) -> list[str]:
    """The messages that a run of the outage has sent to wait for them."""
    text = f"{run_id} is S3CRET, too"
    return [each["omnimessage_id"] for each in sandbox.messages if each["body"]["messages"][0]["text"] == text]


def await_trigger(home: AirflowHome, sandbox: SandboxClient, run_ids: list[str]) -> tuple[str, str]:
    """Wait until a triggerer runs the trigger of one of the runs; return its row in the database."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        sent = [omnimessage_id for run_id in run_ids for omnimessage_id in sent_in(sandbox, run_id)]
        with sqlite3.connect(f"file:{home.folder / 'airflow.db'}?mode=ro", uri=True) as connection:
            rows = connection.execute("SELECT classpath, kwargs FROM trigger WHERE triggerer_id IS NOT NULL").fetchall()
        for classpath, kwargs in rows:
            if any(omnimessage_id in kwargs for omnimessage_id in sent):
                return classpath, kwargs
        time.sleep(0.2)
    raise AssertionError((run_ids, rows))


@pytest.mark.parametrize(
    ("point", "at_most_once", "at_least_once"),
    [
        ("before the third batch is stored", 500, 500),
        ("after the third batch is stored", 450, 500),
        ("before the ids of the third batch are stored", 500, 550),
        ("after the ids of the third batch are stored", 500, 500),
        ("after everything", 500, 500),
    ],
)
def test_a_bulk_send_goes_on_where_its_worker_was_killed(airflow, sandbox, point, at_most_once, at_least_once):
    sandbox.reset()
    airflow.await_dag(BULK)
    run_id = airflow.trigger(BULK, point=point)
    await_end(airflow, BULK, [run_id], 240)
    states = airflow.tasks(BULK, run_id)
    for guarantee, expected in zip(GUARANTEES, (at_most_once, at_least_once), strict=True):
        mark = f"{run_id} {guarantee} "
        reached = Counter(
            message["to"] for message in sandbox.messages if message["body"]["messages"][0]["text"].startswith(mark)
        )
        log = log_of(airflow, run_id, guarantee)
        where = (point, guarantee, states[guarantee], sum(reached.values()), log)
        assert f"This try is killed: {point}" in log, where
        assert sum(reached.values()) == expected, where
        if guarantee == "at_most_once":
            assert max(reached.values()) == 1, where
        else:
            assert len(reached) == 500, where
        in_doubt = "third batch" in point and at_most_once != at_least_once
        assert states[guarantee] == ("failed" if in_doubt and guarantee == "at_most_once" else "success"), where
        counts = airflow.xcom(BULK, run_id, guarantee)
        assert (counts["accepted"], counts["unknown"]) == ((450, 50) if states[guarantee] == "failed" else (500, 0)), (
            where
        )


@pytest.mark.parametrize("component", ["scheduler", "api-server", "triggerer"])
def test_an_airflow_process_that_is_killed_ends_every_run_and_doubles_nothing(airflow, processes, sandbox, component):
    sandbox.reset()
    sandbox.freeze()
    runs = [airflow.trigger(OUTAGE) for _ in range(3)]
    await_trigger(processes.home, sandbox, runs)
    processes.kill([component])
    sandbox.advance(60)
    sandbox.resume()
    processes.start([component])
    await_end(airflow, OUTAGE, runs, 150)
    for run_id in runs:
        log = airflow.log(run_id)
        posted = [each for each in sandbox.messages if each["body"]["messages"][0]["text"] == f"{run_id} S3CRET"]
        assert len(posted) <= 1, log
        state = airflow.tasks(OUTAGE, run_id)
        if state["schedule"] == state["work"] == state["cancel"] == "success":
            assert [message["state"] for message in posted] == ["cancelled"], log
        else:
            assert DOUBT in log, (state, log)
        sent = sent_in(sandbox, run_id)
        assert len(sent) <= 1, log
        if state["send"] == "success":
            assert state["wait"] == "success", log
            assert airflow.xcom(OUTAGE, run_id, "wait")["omnimessage_id"] == sent[0]
            assert f"{sent[0]}: delivered (" in log, log
        else:
            assert DOUBT in log, (state, log)


def test_nothing_of_a_whole_run_leaks(airflow, processes, sandbox):
    """Search all rows of the database and all logs for secrets, numbers and texts."""
    sandbox.reset()
    sandbox.freeze()
    run_id = airflow.trigger(OUTAGE)
    crashed = airflow.trigger(CRASH, point="after the answer")
    classpath, kwargs = await_trigger(processes.home, sandbox, [run_id])
    sandbox.resume()
    await_end(airflow, OUTAGE, [run_id], 90)
    await_end(airflow, CRASH, [crashed], 90)
    tables = dump(processes.home.folder / "airflow.db")
    logs = "".join(path.read_text(errors="replace") for path in processes.home.folder.rglob("*.log"))

    header = base64.b64encode(f"sandbox:{PASSWORD}".encode()).decode()
    assert classpath == "airflow_provider_omnimessage.triggers.omnimessage.OmnimessageDeliveryTrigger"
    for hidden in (PASSWORD, json.dumps(PASSWORD)[1:-1], header, "Authorization", "S3CRET", "37255555555"):
        assert hidden not in kwargs
    for secret in (PASSWORD, json.dumps(PASSWORD)[1:-1], header, "Authorization"):
        assert secret not in logs
        assert [name for name, content in tables.items() if secret in content and name != "connection"] == []
    assert "+37255•••55" in logs
    for private in ("S3CRET", "37255555555"):
        assert private not in logs
        for name in ("trigger", "task_state_store", "log", "job", "callback_request"):
            assert private not in tables.get(name, ""), name
    assert run_id in tables["task_state_store"]
    assert "S3CRET" not in tables["xcom"], "XComs hold ids, the recipient and the time: never a text"
    assert "S3CRET" in tables["rendered_task_instance_fields"], "rendered templates contain the text"


def dump(database: Path) -> dict[str, str]:
    """Write all rows of all tables as text."""
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: "\n".join(map(str, connection.execute(f'SELECT * FROM "{name}"'))) for name in names}
