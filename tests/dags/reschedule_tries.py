"""The tries of a task that reschedules, each of which may be a process that is killed (SIGKILL) between its two calls.

As a program, it runs first tries that are killed: a list of the arguments of :func:`first_try_that_is_killed`, as JSON.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from airflow_provider_omnimessage._compat import AirflowFailException
from airflow_provider_omnimessage.api.messages import sms
from airflow_provider_omnimessage.operators.omnimessage import RescheduleOmnimessageOperator

TO, LATER = "+37255555555", "2098-11-24T09:00Z"


class FileStore:
    """What a task's ``task_state_store`` is: it outlives the process."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)

    def get(self, key: str) -> Any:
        return self._read().get(key)

    def set(self, key: str, value: Any, *, retention: Any = None) -> None:
        self._path.write_text(json.dumps({**self._read(), key: value}))

    def delete(self, key: str) -> None:
        self._path.write_text(json.dumps({name: value for name, value in self._read().items() if name != key}))

    def _read(self) -> dict[str, Any]:
        return json.loads(self._path.read_text()) if self._path.exists() else {}


def one_try(order: Any, old: str, store: str, number: int) -> str | None:
    """Run one try of the task, and return what it returns."""
    task = RescheduleOmnimessageOperator(
        task_id="later", omnimessage_id=old, order=order, to=TO, messages=[sms("new")], time_to_send=LATER
    )
    ti = SimpleNamespace(
        dag_id="dag", task_id="later", try_number=number, max_tries=2, xcom_push=lambda key, value: None
    )
    context: Any = {"ti": ti, "task_state_store": FileStore(store)}
    return task.execute(context)


def all_tries(order: Any, old: str, store: str, after_the_first: Any) -> str | None:
    """Run the task as Airflow does, with two retries; return what it returns, or raise what fails it."""
    for number in (1, 2, 3):
        try:
            return one_try(order, old, store, number)
        except AirflowFailException:
            raise
        except Exception:
            if number == 3:
                raise
        finally:
            after_the_first()
    return None


def first_try_that_is_killed(order: str, old: str, store: str, owner: str, name: str) -> int:
    """Run the first try in a process that kills itself after the first call of a function; return its signal."""
    child = os.fork()
    if not child:
        try:
            module, _, class_name = owner.partition(":")
            holder = importlib.import_module(module)
            holder = getattr(holder, class_name) if class_name else holder
            whole = getattr(holder, name)

            def dying(*args: Any, **kwargs: Any) -> None:
                whole(*args, **kwargs)
                os.kill(os.getpid(), signal.SIGKILL)

            setattr(holder, name, dying)
            one_try(order, old, store, 1)
        finally:
            os._exit(1)
    return os.WTERMSIG(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    sys.stdout.write(json.dumps([first_try_that_is_killed(*kill) for kill in json.loads(sys.argv[1])]))
