"""
Copies a deferred wait to all other instances of its mapped task, in Airflow's database.

Starting 2,000 tasks takes workers most of an hour on two cores. The tests of the receiver need a triggerer with that
many waits, however they were deferred. Runs with the environment of the Airflow.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from airflow.models.taskinstance import TaskInstance
from airflow.models.trigger import Trigger
from airflow.utils.session import create_session
from airflow.utils.state import TaskInstanceState

COPIED = ("next_method", "next_kwargs", "trigger_timeout", "start_date", "queued_dttm", "try_number", "hostname", "pid")


def copy_waits(run_id: str, ids: list[str]) -> None:
    """Defer every instance that no worker has started.

    :param ids: the message of each map index.
    """
    with create_session() as session:
        instances = session.query(TaskInstance).filter_by(run_id=run_id, task_id="wait").all()
        (first,) = [instance for instance in instances if instance.state == TaskInstanceState.DEFERRED]
        pattern = session.get(Trigger, first.trigger_id)
        assert pattern is not None
        for instance in instances:
            if instance is first:
                continue
            assert instance.state in (None, TaskInstanceState.SCHEDULED), instance.state
            trigger = Trigger(pattern.classpath, _for_message(pattern.kwargs, ids[instance.map_index]))
            session.add(trigger)
            session.flush()
            for name in COPIED:
                setattr(instance, name, getattr(first, name))
            instance.trigger_id = trigger.id
            instance.state = TaskInstanceState.DEFERRED


def _for_message(kwargs: dict[str, Any], omnimessage_id: str) -> dict[str, Any]:
    (message,) = kwargs["messages"]
    return {**kwargs, "messages": [[omnimessage_id, *message[1:]]]}


if __name__ == "__main__":
    copy_waits(sys.argv[1], json.load(sys.stdin))
