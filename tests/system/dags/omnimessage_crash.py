"""A DAG whose workers are killed (SIGKILL) at a chosen point around the POST, and one whose Airflow is killed."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Param, task
from dying import die, die_at

from airflow_provider_omnimessage.api.messages import sms
from airflow_provider_omnimessage.operators.omnimessage import (
    CancelScheduledMessageOperator,
    ScheduleOmnimessageOperator,
    SendOmnimessageOperator,
)
from airflow_provider_omnimessage.sensors.omnimessage import OmnimessageDeliverySensor


class Dying(ScheduleOmnimessageOperator):
    """
    Schedules a message, and is killed at one point of its first try.

    :param point: where. (templated)
    :param with_worker: whether the executor's worker process dies as well, as it does with its machine. (templated)
    """

    template_fields = (*ScheduleOmnimessageOperator.template_fields, "point", "with_worker")

    def __init__(self, *, point: str, with_worker: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.point = point
        self.with_worker = with_worker

    def execute(self, context: Any) -> str:
        if context["ti"].try_number == 1:
            self.log.info("This try is killed: %s", self.point)
            POINTS[self.point](self)
        return super().execute(context)

    def die(self) -> None:
        if self.with_worker == "True":
            os.kill(os.getppid(), signal.SIGKILL)
        die()


def before(owner: Any, name: str) -> Callable[[Dying], None]:
    return lambda task: die_at(owner, name, after=False, kill=task.die)


def after(owner: Any, name: str) -> Callable[[Dying], None]:
    return lambda task: die_at(owner, name, after=True, kill=task.die)


def while_the_answer_is_awaited(task: Dying) -> None:
    def watch() -> None:
        while task.hook.unanswered_call is None:
            time.sleep(0.001)
        time.sleep(0.3)
        task.die()

    threading.Thread(target=watch, daemon=True).start()


def _points() -> dict[str, Callable[[Dying], None]]:
    import http.client

    import requests
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    from airflow_provider_omnimessage._compat import TaskMemory
    from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook
    from airflow_provider_omnimessage.hooks.requests_transport import RequestsTransport
    from airflow_provider_omnimessage.tasks import posting

    return {
        "at the start": Dying.die,
        "before the intent is stored": before(TaskMemory, "keep"),
        "after the intent is stored": after(TaskMemory, "keep"),
        "before the request": before(requests.adapters.HTTPAdapter, "send"),
        "in the middle of the request": after(http.client.HTTPConnection, "send"),
        "while the answer is awaited": while_the_answer_is_awaited,
        "before the body of the answer is read": before(RequestsTransport, "_content"),
        "after the answer": after(OmnimessageHook, "post"),
        "before the id is stored": before(posting, "remember"),
        "after the id is stored": after(posting, "remember"),
        "after the first XCom": after(RuntimeTaskInstance, "xcom_push"),
        "after the last XCom": after(Dying, "_report"),
        "after everything": after(Dying, "post_execute"),
    }


class _Points(dict[str, Any]):
    """Imported when a task uses it, so that parsing these DAGs stays fast."""

    def __missing__(self, point: str) -> Callable[[Dying], None]:
        self.update(_points())
        return self.get(point, Dying.die)


POINTS = _Points()

with DAG(
    "omnimessage_crash",
    schedule=None,
    params={"point": Param("at the start", type="string"), "with_worker": Param(False, type="boolean")},
    default_args={"retries": 4, "retry_delay": timedelta(0)},
    max_active_runs=100,
    max_active_tasks=100,
):
    for guarantee in ("at_most_once", "at_least_once"):
        Dying(
            task_id=guarantee,
            delivery_guarantee=guarantee,
            point="{{ params.point }}",
            with_worker="{{ params.with_worker }}",
            to="+37255555555",
            time_to_send="2099-01-01T09:00Z",
            messages=[sms("{{ run_id }} {{ task.task_id }} S3CRET")],
        )

with DAG(
    "omnimessage_outage",
    schedule=None,
    default_args={"retries": 3, "retry_delay": timedelta(seconds=1)},
    max_active_runs=100,
):
    schedule = ScheduleOmnimessageOperator(
        task_id="schedule",
        to="+37255555555",
        time_to_send=timedelta(days=9),
        messages=[sms("{{ run_id }} S3CRET")],
    )

    @task
    def work() -> None:
        time.sleep(3)

    schedule >> work() >> CancelScheduledMessageOperator(task_id="cancel", omnimessage_id=schedule.output)

    send = SendOmnimessageOperator(task_id="send", to="+37255555555", messages=[sms("{{ run_id }} is S3CRET, too")])
    OmnimessageDeliverySensor(
        task_id="wait",
        omnimessage_id=send.output,
        deferrable=True,
        poke_interval=2,
        timeout=timedelta(minutes=5),
    )
