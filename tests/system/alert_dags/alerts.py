"""DAGs for the tests of alerts: work that waits to be told how to end, and every callback that Airflow has."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import DAG, AsyncCallback, DeadlineAlert, DeadlineReference, SyncCallback, task
from airflow.sdk.exceptions import AirflowSkipException

from airflow_provider_omnimessage.deadman import DeadMansSwitch
from airflow_provider_omnimessage.heartbeat import HeartbeatOperator
from airflow_provider_omnimessage.notifications.omnimessage import OmnimessageNotifier


def wait_for(path: str) -> str:
    """Wait until a file is there, and tell what is in it."""
    Path(f"{path}.begun").touch()
    while not Path(path).exists():
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
        if wait_for(dag_run.conf["told_by"]) != "done":
            raise RuntimeError("as it was told")

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

with DAG("heartbeat", schedule=None, catchup=False, max_active_runs=1):
    HeartbeatOperator(task_id="beat", to="+37255556666", grace=timedelta(minutes=15))


def notifier(digits: str, **settings: object) -> OmnimessageNotifier:
    """Notify a number that tells which callback it was."""
    return OmnimessageNotifier(to=f"+3725555{digits}", **settings)


def deadline(kind: type, digits: str) -> DeadlineAlert:
    """Miss a deadline at once."""
    return DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=timedelta(seconds=1),
        callback=kind(OmnimessageNotifier, kwargs={"to": f"+3725555{digits}"}),
    )


with DAG(
    "tells_failure",
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
        wait_for(dag_run.conf["told_by"])
        raise ValueError("no such table")

    fails()

with DAG("tells_success", schedule=None, on_success_callback=notifier("1107")):

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
