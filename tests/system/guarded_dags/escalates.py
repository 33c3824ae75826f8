"""Work with an escalation: it waits until a file is there, and arming may be killed between two steps."""

from __future__ import annotations

import os
import signal
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, task

from airflow_provider_omnimessage.alerts import DeadMansSwitch, Step


def dies_between_steps(context: Any) -> None:
    """Let the first try of arming be killed after the second request."""
    from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook

    if not context["dag_run"].conf["kill"] or context["ti"].try_number > 1:
        return
    post, posts = OmnimessageHook.post, []

    def dying(hook: Any, body: Any) -> Any:
        if len(posts) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        posts.append(body)
        return post(hook, body)

    OmnimessageHook.post = dying


with (
    DAG("escalates", schedule=None, max_active_runs=8),
    DeadMansSwitch(
        "by_nine",
        to="{{ dag_run.conf['to'] }}",
        text="Late: {{ run_id }}",
        time_to_send=timedelta(hours=1),
        escalate=[Step(after=timedelta(minutes=15)), Step(after=timedelta(minutes=30), text="Call: {{ run_id }}")],
    ) as switch,
):

    @task
    def work(dag_run=None) -> None:
        """Wait for the file, but not longer than Airflow lives."""
        supervisor = os.getppid()
        while not Path(dag_run.conf["done"]).exists() and os.getppid() == supervisor:
            time.sleep(0.1)

    work()
switch.arm.retry_delay = timedelta(0)
switch.arm._pre_execute_hook = dies_between_steps
