"""
An exception at any line between the POST and the return of ``execute`` never makes a retry send twice.

By default, at every 32nd line and the last; at each of them with ``scripts/test --full-size``.
"""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowTaskTimeout
from full_size import IS_FULL_SIZE, first

import airflow_provider_omnimessage
from airflow_provider_omnimessage._compat import TaskMemory
from airflow_provider_omnimessage.api.messages import sms
from airflow_provider_omnimessage.hooks.pacing import reset_paces
from airflow_provider_omnimessage.operators.omnimessage import ScheduleOmnimessageOperator

PACKAGE = str(Path(airflow_provider_omnimessage.__file__).parent)
#: At every how many lines to raise.
STEP = 1 if IS_FULL_SIZE else 32


class Store(dict[str, Any]):
    """A task state store in memory."""

    def keep(self, key: str, value: Any) -> None:
        self[key] = value


@pytest.fixture
def context(monkeypatch: pytest.MonkeyPatch) -> Any:
    store = Store()
    monkeypatch.setattr(TaskMemory, "recall", lambda self: store.get(self._key))
    monkeypatch.setattr(TaskMemory, "keep", lambda self, value: store.keep(self._key, value))
    monkeypatch.setattr(TaskMemory, "forget", lambda self: store.pop(self._key, None))
    ti = SimpleNamespace(dag_id="d", task_id="t", max_tries=2, try_number=1, xcom_push=lambda key, value: None)
    return {"ti": ti, "dag_run": SimpleNamespace(clear_number=0), "task_state_store": store}


def run_with_exception_at(operator: Any, context: Any, sandbox: Any, line: int | None) -> tuple[Any, int]:
    """Run the operator, and raise at the n-th line that is executed after the message was accepted."""
    reset_paces()  # each try has a process of its own, and so locks of its own
    lines = 0
    is_executing, is_accepted = True, False

    def trace(frame: Any, event: str, _: Any) -> Any:
        nonlocal lines, is_accepted
        name = frame.f_code.co_filename
        if not (is_executing and name.startswith(PACKAGE)):
            return None
        if not is_accepted and name.endswith("hooks/requests_transport.py"):  # checking at every line would be slow
            is_accepted = bool(sandbox.messages)
        if event == "line" and is_accepted:
            lines += 1
            if lines == line:
                raise AirflowTaskTimeout("injected")
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        result: Any = operator.execute(context)
    except BaseException as error:
        result = error
    finally:
        is_executing = False
        sys.settrace(before)
    return result, lines


@pytest.mark.parametrize("durable", first(1, [True, False]))
def test_a_retry_never_sends_twice(sandbox, context, durable):
    operator = ScheduleOmnimessageOperator(
        task_id="t", to="+37255555555", messages=[sms("a")], time_to_send=timedelta(days=1), durable=durable
    )
    _, points = run_with_exception_at(operator, context, sandbox, None)
    assert points > 15
    for line in {*range(1, points + 1, STEP), points}:
        sandbox.reset()
        context["task_state_store"].clear()
        context["ti"].try_number = 1
        result, _ = run_with_exception_at(operator, context, sandbox, line)
        (message,) = sandbox.messages
        if isinstance(result, AirflowFailException):
            continue  # Airflow does not retry it
        assert isinstance(result, AirflowTaskTimeout), line
        assert durable, "without a memory, a retry would send again"
        context["ti"].try_number = 2
        reset_paces()
        assert operator.execute(context) == message["omnimessage_id"]
        assert len(sandbox.messages) == 1


@pytest.mark.parametrize("guarantee", ["at_most_once", "at_least_once"])
def test_what_was_accepted_is_not_sent_again_with_either_guarantee(sandbox, context, monkeypatch, guarantee):
    def interrupt(key, value):
        raise AirflowTaskTimeout("injected")

    monkeypatch.setattr(context["ti"], "xcom_push", interrupt)
    operator = ScheduleOmnimessageOperator(
        task_id="t",
        to="+37255555555",
        messages=[sms("a")],
        time_to_send=timedelta(days=1),
        durable=False,
        delivery_guarantee=guarantee,
    )
    with pytest.raises(AirflowFailException) as error:
        operator.execute(context)
    assert sandbox.messages[0]["omnimessage_id"] in str(error.value)
