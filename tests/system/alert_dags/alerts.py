"""DAGs for the tests of alerts: work that ends as a file says, and every callback that Airflow has."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import DAG, AsyncCallback, DeadlineAlert, DeadlineReference, SyncCallback, task
from airflow.sdk.exceptions import AirflowSkipException

from airflow_provider_omnimessage.alerts import DeadMansSwitch, HeartbeatOperator
from airflow_provider_omnimessage.notifications.omnimessage import OmnimessageNotifier


def wait_for(path: str) -> str:
    """Wait for a file, and return its content; give up if Airflow has been killed."""
    supervisor = os.getppid()
    Path(f"{path}.begun").touch()
    while not Path(path).exists():
        if os.getppid() != supervisor:
            raise SystemExit("Airflow is no more")
        time.sleep(0.1)
    return Path(path).read_text()


with (
    DAG("guarded", schedule=None, max_active_runs=8),
    DeadMansSwitch(
        "by_nine",
        to="{{ dag_run.conf['to'] }}",
        text="Late: {{ dag.dag_id }} {{ run_id }}",
        time_to_send=timedelta(hours=1),
    ),
):

    @task
    def extract() -> None:
        """Stand before the work."""

    @task
    def work(dag_run=None) -> None:
        """End as the file says."""
        if wait_for(dag_run.conf["instructions"]) != "done":
            raise RuntimeError("as instructed")

    extract() >> work()

with (
    DAG(
        "catches_up",
        schedule="0 0 * * *",
        start_date=datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=3),
        catchup=True,
    ),
    DeadMansSwitch(
        "by_nine",
        to="+37255557777",
        text="Late: {{ run_id }}",
        time_to_send="{{ dag_run.run_after + macros.timedelta(seconds=1) }}",
    ),
):

    @task
    def short() -> None:
        """Be done at once."""

    short()


def dies(*, with_supervisor: bool = False) -> None:
    """Be killed alone, as by the kernel when memory is short, or together with the supervisor."""
    if with_supervisor:
        os.kill(os.getppid(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def _after(owner: Any, name: str) -> Callable[[], None]:
    def patch() -> None:
        whole = getattr(owner, name)

        def dying(*args: Any, **kwargs: Any) -> None:
            whole(*args, **kwargs)
            dies()

        setattr(owner, name, dying)

    return patch


def killed(context: Any) -> None:
    """Kill the task arm at the point in the run's parameters: in its first try, or in each."""
    from airflow_provider_omnimessage._compat import TaskMemory
    from airflow_provider_omnimessage.alerts.arming import ArmDeadMansSwitchOperator
    from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook
    from airflow_provider_omnimessage.tasks import posting

    point = context["dag_run"].conf["point"]
    if point == "each try":
        ArmDeadMansSwitchOperator._arm = lambda *_: dies()
    elif context["ti"].try_number == 1:
        {
            "after the intent is stored": _after(TaskMemory, "keep"),
            "after the answer": _after(OmnimessageHook, "post"),
            "after the id is stored": _after(posting, "remember"),
        }[point]()


with (
    DAG("arming_is_killed", schedule=None, max_active_runs=8),
    DeadMansSwitch(
        "by_nine", to="{{ dag_run.conf['to'] }}", text="Late: {{ run_id }}", time_to_send="2099-01-01T09:00Z"
    ) as switch,
):

    @task
    def guarded_work() -> None:
        """Be done at once."""

    guarded_work()
switch.arm.retry_delay = timedelta(0)
switch.arm._pre_execute_hook = killed

with DAG("heartbeat", schedule=None, catchup=False, max_active_runs=1):
    HeartbeatOperator(task_id="beat", to="+37255556666", grace=timedelta(minutes=15))


def notifier(digits: str, **settings: object) -> OmnimessageNotifier:
    """Notify a different number for each callback."""
    return OmnimessageNotifier(to=f"+3725555{digits}", **settings)


def deadline(kind: type, digits: str) -> DeadlineAlert:
    """Miss a deadline at once."""
    return DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=timedelta(seconds=1),
        callback=kind(OmnimessageNotifier, kwargs={"to": f"+3725555{digits}"}),
    )


with DAG(
    "failing_work",
    schedule=None,
    on_failure_callback=notifier("1101"),
    deadline=[deadline(AsyncCallback, "1102"), deadline(SyncCallback, "1103")],
):

    @task(
        retries=1,
        retry_delay=timedelta(0),
        on_retry_callback=notifier("1104"),
        on_failure_callback=[notifier("1105"), notifier("1106", text="{{ task.task_id }} of {{ dag.dag_id }}")],
    )
    def fails(dag_run=None) -> None:
        """Fail, when the deadlines have been missed."""
        wait_for(dag_run.conf["instructions"])
        raise ValueError("no such table")

    fails()

with DAG("successful_work", schedule=None, on_success_callback=notifier("1107")):

    @task(on_success_callback=notifier("1108"), on_execute_callback=notifier("1109"))
    def succeeds() -> None:
        """Succeed."""

    @task(on_skipped_callback=notifier("1110"))
    def skips() -> None:
        """Skip itself."""
        raise AirflowSkipException

    HITLOperator(
        task_id="asks",
        subject="Deploy?",
        options=["Yes", "No"],
        defaults=["Yes"],
        response_timeout=timedelta(seconds=1),
        notifiers=[notifier("1111")],
    )
    succeeds() >> skips()

with DAG("killed_tasks", schedule=None, on_failure_callback=notifier("1201")):

    @task(on_failure_callback=notifier("1202"))
    def dies_with_its_supervisor() -> None:
        """Die with the supervisor: the scheduler notices, and the DAG processor calls the callback."""
        dies(with_supervisor=True)

    @task(retries=1, retry_delay=timedelta(0), on_retry_callback=notifier("1203"))
    def dies_once_with_its_supervisor(ti=None) -> None:
        """Die with the supervisor in the first try, and succeed in the second."""
        if ti.try_number == 1:
            dies(with_supervisor=True)

    @task(on_failure_callback=notifier("1204"))
    def dies_alone() -> None:
        """Die alone: the supervisor notices."""
        dies()

    dies_with_its_supervisor()
    dies_once_with_its_supervisor()
    dies_alone()
