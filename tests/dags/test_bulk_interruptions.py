"""
A bulk send interrupted at any line from its first request to the end of its task: nobody gets two messages.

By default, at every 24th line and the last; at each of them with ``scripts/test --full-size``.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

import pytest
from bulk_sends import NEW_YEAR, bulk_calls, live, number, people, sending
from full_size import IS_FULL_SIZE, first

import airflow_provider_omnimessage
from airflow_provider_omnimessage._compat import AirflowFailException, AirflowTaskTimeout
from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook

PACKAGE = str(Path(airflow_provider_omnimessage.__file__).parent)
WALKED = tuple(f"{PACKAGE}{os.sep}{name}" for name in ("bulk", "operators/bulk", "hooks/omnimessage", "tasks/failures"))

WAITING = ("start", "set", "join", "_wait_for_tstate_lock")

Point = tuple[str, int, str]

#: Every how many lines to interrupt.
STEP = 1 if IS_FULL_SIZE else 24


class Store:
    """A ``task_state_store`` that survives the tries of a task, as Airflow's does."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def get(self, key: str) -> Any:
        return self.values.get(key)

    def set(self, key: str, value: Any, **_: Any) -> None:
        self.values[key] = value

    def delete(self, key: str) -> None:
        self.values.pop(key, None)


class Interruption:
    """
    Raises Airflow's timeout in the main thread when any thread reaches one line for the first time.

    :param point: the line; ``None``: only record the lines.
    """

    def __init__(self, point: Point | None = None) -> None:
        self.points: dict[Point, None] = {}
        self.is_raised = False
        self._point = point
        self._has_begun = False
        self._handled = threading.Event()

    def begin(self) -> None:
        """Note that the first request is about to be made."""
        self._has_begun = True

    @contextmanager
    def armed(self) -> Iterator[None]:
        before = signal.signal(signal.SIGALRM, self._raise)
        trace = sys.gettrace()
        threading.settrace(self._trace)
        sys.settrace(self._trace)
        try:
            yield
        finally:
            sys.settrace(trace)
            threading.settrace(None)
            signal.signal(signal.SIGALRM, before)

    def _trace(self, frame: FrameType, event: str, _: Any) -> Any:
        code = frame.f_code
        if code.co_filename == threading.__file__:
            # the main thread waits there
            is_walked = code.co_name in WAITING and threading.current_thread() is threading.main_thread()
        else:
            is_walked = code.co_filename.startswith(WALKED)
        return self._line if is_walked else None

    def _line(self, frame: FrameType, event: str, _: Any) -> Any:
        if not self._has_begun:
            return self._line
        is_main = threading.current_thread() is threading.main_thread()
        point = (Path(frame.f_code.co_filename).name, frame.f_lineno, "main" if is_main else "worker")
        if event == "line" and point not in self.points:
            self.points[point] = None
            if point == self._point and not self.is_raised:
                self._interrupt(is_main=is_main)
        return self._line

    def _interrupt(self, *, is_main: bool) -> None:
        if is_main:
            self.is_raised = True
            raise AirflowTaskTimeout("Timeout")
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGALRM)
        self._handled.wait(5)

    def _raise(self, *_: Any) -> None:
        self.is_raised = True
        self._handled.set()
        raise AirflowTaskTimeout("Timeout")


class Task:
    """
    The tries of one task: Airflow's part is to retry after any exception but ``AirflowFailException``.

    :param make: returns the operator of a try.
    :param store: the task's memory; ``None``: this Airflow has none.
    """

    def __init__(self, make: Callable[[], Any], store: Store | None) -> None:
        self._make = make
        self.xcom: dict[str, Any] = {}
        self.tries = 0
        self.max_tries = 2
        self.context = {
            "ti": SimpleNamespace(max_tries=self.max_tries, dag_id="d", task_id="send", xcom_push=self._push)
        }
        if store is not None:
            self.context["task_state_store"] = store

    def _push(self, key: str, value: Any) -> None:
        assert key == "return_value"
        self.xcom = value

    def run(self, interruption: Interruption) -> bool:
        """Run it until it ends, and return whether it succeeded. The first try is interrupted."""
        while self.tries <= self.max_tries:
            self.tries += 1
            self.xcom = {}
            operator = self._make()
            try:
                if self.tries == 1:
                    with interruption.armed():
                        self.xcom = operator.execute(self.context)
                else:
                    self.xcom = operator.execute(self.context)
            except AirflowFailException:
                return False
            except AirflowTaskTimeout:
                continue  # Airflow retries the task
            else:
                return True
        return False


@pytest.fixture
def interrupted(sandbox, monkeypatch, tmp_path):
    """Run a task that is interrupted at one point, and return it with its interruption."""
    monkeypatch.setenv("AIRFLOW_CONN_OMNIMESSAGE_DEFAULT", sandbox.airflow_conn)
    post = OmnimessageHook.post_bulk

    def run(point: Point | None, *, durable: bool, in_a_file: bool) -> tuple[Task, Interruption, bool]:
        interruption = Interruption(point)
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.jsonl" if in_a_file else None

        def posting(self: OmnimessageHook, bodies: Any) -> Any:
            interruption.begin()
            return post(self, bodies)

        monkeypatch.setattr(OmnimessageHook, "post_bulk", posting)

        def make() -> Any:
            return sending(
                recipients=people(3),
                batch_size=2,
                parallel=2,
                time_to_send=NEW_YEAR,
                durable=durable,
                results_path=str(path) if path else None,
            )

        sandbox.reset()
        task = Task(make, Store() if durable else None)
        succeeded = task.run(interruption)
        return task, interruption, succeeded

    return run


def accepted(xcom: dict[str, Any]) -> set[str]:
    from airflow_provider_omnimessage.bulk.results import accepted_in

    return {omnimessage_id for omnimessage_id, _ in accepted_in(xcom)} if xcom else set()


#: Whether the task remembers what it sent, and whether its results are a file.
VARIANTS = first(2, [(True, False), (False, True), (True, True), (False, False)])


@pytest.mark.parametrize(("durable", "in_a_file"), VARIANTS)
def test_an_interruption_at_any_line_sends_nobody_two_messages(sandbox, interrupted, durable, in_a_file):
    task, dry_run, succeeded = interrupted(None, durable=durable, in_a_file=in_a_file)
    assert succeeded
    assert len(bulk_calls(sandbox)) == 2
    assert {where for _, _, where in dry_run.points} == {"main", "worker"}
    assert len(dry_run.points) > 100
    reached = 0
    points = dict.fromkeys([*list(dry_run.points)[::STEP], list(dry_run.points)[-1]])
    for point in points:
        task, interruption, succeeded = interrupted(point, durable=durable, in_a_file=in_a_file)
        reached += interruption.is_raised
        received = live(sandbox)
        ids = {message["omnimessage_id"] for message in sandbox.messages}
        assert max(received.values(), default=0) <= 1, point
        assert accepted(task.xcom) == ids, f"{point}: an accepted message is missing in the XCom"
        if durable:
            assert succeeded, point
            assert set(received) == {number(index) for index in range(3)}, point
        else:
            assert task.tries == 1 or not accepted(task.xcom) or succeeded, point
    assert reached > 0.8 * len(points), "most lines are reached in each run"
