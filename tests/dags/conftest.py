"""
Runs DAGs on Airflow's own ``dag.test()``: its real database, execution API and task runner, in this process.

Airflow is imported by the fixtures: pytest's main process imports this file too, and runs no test.
"""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from faults_of_calls import CONNECTIONS, FAULTS
from lockstep import Lockstep

if TYPE_CHECKING:
    from datetime import datetime

    from airflow.sdk import DAG


class Run:
    """
    A run that has ended, as a user sees it.

    :param described: what :func:`describe` returns for it.
    :param log: everything that was logged.
    """

    def __init__(self, described: dict[str, Any], log: str) -> None:
        self.run_id = described["run_id"]
        self.state = described["state"]
        self.tasks: dict[str, str] = described["tasks"]
        self.tries: dict[str, int] = described["tries"]
        self._xcoms = described["xcoms"]
        self.log = log

    def xcom(self, task_id: str, key: str = "return_value", map_index: int = -1) -> Any:
        """Return one XCom; fail if there is none."""
        (value,) = self.xcoms(task_id, key, map_index)
        return value

    def xcoms(self, task_id: str, key: str = "return_value", map_index: int | None = None) -> list[Any]:
        """Return the XComs of all mapped instances of a task, in order."""
        rows = [row for row in self._xcoms if (row["task_id"], row["key"]) == (task_id, key)]
        if map_index is not None:
            rows = [row for row in rows if row["map_index"] == map_index]
        return [row["value"] for row in sorted(rows, key=lambda row: row["map_index"])]


@pytest.fixture(scope="session")
def _airflow() -> Callable[[Any], datetime]:
    """Prepare Airflow, and return how it computes when a task is due again."""
    from airflow import settings
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.db import initdb
    from sqlalchemy import event

    _serve_few_versions()
    event.listen(settings.engine, "connect", _do_not_wait_for_the_disk)
    settings.engine.dispose()
    initdb()
    DagBundlesManager().sync_bundles_to_db()
    # a retry is due at once; Airflow makes the shortest delay a second if it is exponential
    next_retry_datetime = TaskInstance.next_retry_datetime
    TaskInstance.next_retry_datetime = lambda self: self.end_date  # type: ignore[method-assign]
    _read_signatures_once()
    return next_retry_datetime


@pytest.fixture
def next_retry_datetime(_airflow: Callable[[Any], datetime]) -> Callable[[Any], datetime]:
    """Return Airflow's own function, which the tests replace."""
    return _airflow


def _serve_few_versions() -> None:
    """Leave out the execution API's older versions, whose routes take seconds to build."""
    from airflow.api_fastapi.execution_api import versions
    from cadwyn import HeadVersion, Version, VersionBundle

    # the oldest one that is left undoes nothing
    *newer, oldest = versions.bundle.versions[:3]
    for change in (change for version in newer for change in version.changes):
        change._bound_version_bundle = None
    versions.bundle = VersionBundle(HeadVersion(), *newer, Version(oldest.value))


def _read_signatures_once() -> None:
    """Cache what FastAPI computes for each request if a dependency is overridden, as in ``dag.test()``."""
    from fastapi.dependencies import utils

    known: dict[Any, Any] = {}
    read = utils.get_dependant

    def get_dependant(**arguments: Any) -> Any:
        key = tuple((name, repr(value) if isinstance(value, list) else value) for name, value in arguments.items())
        if key not in known:
            known[key] = read(**arguments)
        return known[key]

    utils.get_dependant = get_dependant


def _do_not_wait_for_the_disk(connection: Any, _: Any) -> None:
    """Turn off SQLite's syncing to disk: the database is temporary."""
    connection.execute("PRAGMA synchronous=OFF")


@pytest.fixture
def dag(request: pytest.FixtureRequest) -> Iterator[DAG]:
    """A DAG named after the test, in which its tasks are created."""
    from airflow.sdk import DAG

    with DAG(re.sub(r"\W+", "_", request.node.name), schedule=None) as dag:
        yield dag


def _shorter_pauses_of_dag_test(sleep: Callable[[float], None]) -> Callable[[float], None]:
    """Skip the second that ``dag.test()`` sleeps if no task is ready."""

    def shorter(seconds: float) -> None:
        caller = sys._getframe(1).f_globals["__name__"]
        sleep(0.05 if caller == "airflow.sdk.definitions.dag" else seconds)

    return shorter


@pytest.fixture
def run_dag(
    _airflow: None,
    sandbox: Any,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Run]:
    """Run a DAG to its end against the sandbox."""
    from _runs import describe
    from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db

    monkeypatch.setattr(time, "sleep", _shorter_pauses_of_dag_test(time.sleep))

    def run(dag: Any, **conf: Any) -> Run:
        dag.validate()
        bag = DagBag(tmp_path)
        bag.dags[dag.dag_id] = dag
        sync_bag_to_db(bag, "dags-folder", None)
        capfd.readouterr()
        ended = dag.test(run_conf=conf or None)
        return Run(describe(ended), "".join(capfd.readouterr()))

    return run


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the pauses before a failure is confirmed, a task is rescheduled, or a late trigger is given up."""
    from airflow_provider_omnimessage.api import delivery, waiting
    from airflow_provider_omnimessage.sensors import omnimessage as sensors
    from airflow_provider_omnimessage.triggers import omnimessage as triggers

    for module in (delivery, waiting):
        monkeypatch.setattr(module, "CONFIRM_FAILED_AFTER", 0.2)
    monkeypatch.setattr(sensors, "SHORTEST_ABSENCE", 0.1)
    monkeypatch.setattr(triggers, "LATE_START", 0.5)


@pytest.fixture
def first_try_fails_after_the_post(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the first try of a task that sends fail once its message is accepted and remembered."""
    from airflow_provider_omnimessage.operators.omnimessage import SendOmnimessageOperator

    report = SendOmnimessageOperator._report
    tries = []

    def fail_once(self: SendOmnimessageOperator, *args: Any) -> None:
        tries.append(1)
        if len(tries) == 1:
            raise RuntimeError("the first try")
        report(self, *args)

    monkeypatch.setattr(SendOmnimessageOperator, "_report", fail_once)


@pytest.fixture
def clear_and_run(_airflow: None, capfd: pytest.CaptureFixture[str]) -> Callable[..., Run]:
    """Clear the tasks of a run that has ended, as the UI does, and run them again."""
    from _runs import describe
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import clear_task_instances
    from airflow.utils.session import create_session
    from sqlalchemy import select

    def again(dag: Any, before: Run) -> Run:
        with create_session() as session:
            run = session.scalars(select(DagRun).where(DagRun.run_id == before.run_id)).one()
            tasks = list(run.get_task_instances(session=session))
            clear_task_instances(tasks, session)
            session.commit()
        capfd.readouterr()
        ended = Lockstep.of(dag, before.run_id).resume().dag_run()
        return Run(describe(ended), "".join(capfd.readouterr()))

    return again


@pytest.fixture
def each_try_has_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the pause after a 429 between the tries of a task, which on a worker are different processes."""
    from airflow.sdk.definitions import dag as dag_module

    from airflow_provider_omnimessage.hooks import pacing

    whole = dag_module._run_task

    def run_task(**kwargs: Any) -> Any:
        pacing.reset_paces()
        return whole(**kwargs)

    monkeypatch.setattr(dag_module, "_run_task", run_task)


@pytest.fixture
def sent(sandbox):
    """Send, and let it be delivered."""
    from delivery_sensor import TO

    from airflow_provider_omnimessage.api.messages import sms, viber
    from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook

    sandbox.freeze()

    def send(to=TO, seconds=60, **when):
        id_ = OmnimessageHook().send(to, [viber("a"), sms("a")], **when).omnimessage_id
        sandbox.advance(seconds)
        return id_

    return send


@pytest.fixture
def later(sandbox):
    """Move the sandbox's clock after a number of report requests."""
    from delivery_sensor import status_requests

    threads = []

    def when_asked(times, seconds):
        def watch():
            while len(status_requests(sandbox)) < times and not over.wait(0.01):
                pass
            sandbox.advance(seconds)

        over = threading.Event()
        threads.append((threading.Thread(target=watch), over))
        threads[-1][0].start()

    yield when_asked
    for thread, over in threads:
        over.set()
        thread.join()


class Died(Exception):
    """Simulates the death of a worker: no code of the operator runs after it."""


@pytest.fixture
def die(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let the worker die once: before or after it does one thing."""
    from airflow_provider_omnimessage._compat import TaskMemory
    from airflow_provider_omnimessage.tasks import sending

    dead: list[Died] = []
    keep, fail = TaskMemory.keep, sending.DurableMessage.fail

    def keep_if_alive(self: Any, value: Any) -> None:
        if dead:
            raise dead[0]
        keep(self, value)

    def fail_if_alive(self: Any, error: BaseException) -> None:
        if dead:
            raise dead.pop()
        fail(self, error)

    monkeypatch.setattr(TaskMemory, "keep", keep_if_alive)
    monkeypatch.setattr(sending.DurableMessage, "fail", fail_if_alive)

    def died() -> Died:
        dead.append(Died())
        return dead[0]

    def once(owner: Any, name: str, *, after: bool) -> None:
        whole = getattr(owner, name)
        deaths = iter([True])

        def dying(*args: Any, **kwargs: Any) -> Any:
            dies = next(deaths, False)
            if dies and not after:
                raise died()
            result = whole(*args, **kwargs)
            if dies:
                raise died()
            return result

        monkeypatch.setattr(owner, name, dying)

    return once


@pytest.fixture
def strike(sandbox: Any, untrusted_server: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Bring a fault about, for one kind of call."""

    def bring(name: str, call: str, times: int = 1) -> None:
        change = CONNECTIONS.get(name)
        if change is not None:
            connection = {**sandbox.connection, **change(sandbox, untrusted_server)}
            monkeypatch.setenv("AIRFLOW_CONN_OMNIMESSAGE_DEFAULT", json.dumps(connection))
        if FAULTS[name]:
            sandbox.add_fault(**{"call": call, "times": times, **FAULTS[name]})

    return bring


@pytest.fixture
def die_instead_of_post(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """End the process, as a kill would, in place of one request that sends a message."""
    from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook

    post = OmnimessageHook.post

    def at(number: int) -> None:
        posts: list[Any] = []

        def dying(hook: Any, body: Any) -> Any:
            posts.append(body)
            if len(posts) == number:
                raise SystemExit("as a kill would end it")
            return post(hook, body)

        monkeypatch.setattr(OmnimessageHook, "post", dying)

    return at
