"""What is run on every supported Airflow: small DAGs, each of one thing that a user relies on. Each runs by itself."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

try:
    from airflow.sdk import DAG, task
except ImportError:  # Airflow 2
    from airflow.decorators import task
    from airflow.models.dag import DAG
try:
    from airflow.sdk import AsyncCallback, DeadlineAlert, DeadlineReference
except ImportError:
    try:
        from airflow.sdk.definitions.deadline import AsyncCallback, DeadlineAlert, DeadlineReference
    except ImportError:  # Airflow 3.0 and older
        DeadlineAlert = None

from airflow_provider_omnimessage.alerts import DeadMansSwitch, HeartbeatOperator
from airflow_provider_omnimessage.api.messages import sms, viber
from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook
from airflow_provider_omnimessage.notifications.omnimessage import OmnimessageNotifier
from airflow_provider_omnimessage.operators.omnimessage import (
    CancelScheduledMessageOperator,
    ScheduleOmnimessageOperator,
    SendOmnimessageOperator,
)
from airflow_provider_omnimessage.sensors.omnimessage import OmnimessageDeliverySensor

TODAY = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
#: A busy scheduler that has not noticed yet that a task has gone takes it for lost when it is back, and spends a retry.
PATIENT = {"retries": 2, "retry_delay": timedelta(seconds=1)}
ONCE = {"schedule": "@once", "start_date": datetime(2026, 1, 1, tzinfo=timezone.utc)}


def number(digits: str) -> str:
    """Return a different recipient for each task and callback, which shows where a message comes from."""
    return f"+3725555{digits}"


with DAG("matrix_schedule_and_cancel", **ONCE):
    schedule = ScheduleOmnimessageOperator(
        task_id="schedule",
        to=number("1001"),
        time_to_send=timedelta(minutes=30),
        messages=[viber(text="{{ dag.dag_id }} is late", ttl=600), sms(text="{{ dag.dag_id }} is late")],
    )

    @task(**PATIENT)
    def work() -> None:
        """Stand in for the work."""

    cancel = CancelScheduledMessageOperator(task_id="cancel", omnimessage_id=schedule.output)
    schedule >> work() >> cancel

with DAG("matrix_work_fails", **ONCE):
    schedule = ScheduleOmnimessageOperator(
        task_id="schedule",
        to=number("1102"),
        time_to_send="2099-01-01T09:00",
        timezone="Europe/Tallinn",
        messages=[sms("late")],
    )

    @task
    def failing_work() -> None:
        """Fail, so that nobody cancels."""
        raise RuntimeError("as planned")

    cancel = CancelScheduledMessageOperator(task_id="cancel", omnimessage_id=schedule.output)
    schedule >> failing_work() >> cancel

with DAG("matrix_mapped_sends", **ONCE):

    @task(**PATIENT)
    def recipients() -> list[str]:
        """Return the recipients."""
        return [number("1203"), number("1204")]

    SendOmnimessageOperator.partial(task_id="send", messages=[sms("a")]).expand(to=recipients())

with DAG("matrix_past_is_skipped", **ONCE):
    ScheduleOmnimessageOperator(
        task_id="schedule", to=number("1303"), time_to_send="2020-01-01T09:00", on_past="skip", messages=[sms("a")]
    )

with DAG("matrix_bad_input_fails", **ONCE):
    SendOmnimessageOperator(
        task_id="send", to="{{ 'nobody' }}", messages=[sms("a")], retries=3, retry_delay=timedelta(hours=1)
    )

with DAG("matrix_waits", **ONCE):
    send = SendOmnimessageOperator(task_id="send", to=number("1403"), messages=[sms("a")])
    awaited = {"omnimessage_id": send.output, "poke_interval": 1, "timeout": 600, **PATIENT}

    @task(**PATIENT)
    def read(report: dict) -> str:
        """Take the report as tasks do."""
        return report["outcome"]

    deferred = OmnimessageDeliverySensor(task_id="deferred", deferrable=True, **awaited)
    read(deferred.output)
    send >> [
        deferred,
        OmnimessageDeliverySensor(task_id="poke", deferrable=False, **awaited),
        OmnimessageDeliverySensor(task_id="reschedule", deferrable=False, mode="reschedule", **awaited),
        # what has a callback is ended by a worker
        OmnimessageDeliverySensor(
            task_id="deferred_with_callback",
            deferrable=True,
            on_success_callback=OmnimessageNotifier(to=number("1408"), text="{{ task.task_id }}"),
            **awaited,
        ),
    ]

with DAG("matrix_pushed", **ONCE):
    # scheduled ahead, so that only a report can end the wait
    pushed = {"omnimessage_conn_id": "omnimessage_pushed"}
    schedule = ScheduleOmnimessageOperator(
        task_id="schedule", to=number("1413"), time_to_send=timedelta(hours=1), messages=[sms("a")], **pushed
    )
    OmnimessageDeliverySensor(
        task_id="wait",
        omnimessage_id=schedule.output,
        time_to_send=schedule.output["time_to_send"],
        timeout=7200,
        deferrable=True,
        **pushed,
        **PATIENT,
    )

with DAG("matrix_waits_in_vain", **ONCE):

    @task(multiple_outputs=False)
    def sent() -> dict[str, str]:
        """Send what is never delivered, with the hook."""
        with OmnimessageHook() as hook:
            return {digits: hook.send(number(digits), [sms("a")]).omnimessage_id for digits in ("0001", "0004")}

    def in_vain(task_id: str, digits: str, **settings: object) -> OmnimessageDeliverySensor:
        """Wait for what is never delivered."""
        return OmnimessageDeliverySensor(
            task_id=task_id,
            omnimessage_id=f"{{{{ ti.xcom_pull('sent')['{digits}'] }}}}",
            poke_interval=1,
            **settings,
        )

    sent() >> [
        in_vain("deferred_failure", "0001", deferrable=True, **PATIENT),
        in_vain("deferred_timeout", "0004", deferrable=True, timeout=15, **PATIENT),
        in_vain("deferred_skip", "0004", deferrable=True, timeout=15, soft_fail=True, **PATIENT),
        in_vain("deferred_execution_timeout", "0004", deferrable=True, execution_timeout=timedelta(seconds=15)),
        in_vain("reschedule_timeout", "0004", deferrable=False, mode="reschedule", timeout=15, **PATIENT),
        # a retry would last longer than anybody waits for this DAG
        in_vain("poke_timeout", "0004", deferrable=False, timeout=3, retries=3, retry_delay=timedelta(hours=1)),
    ]


def deadline() -> dict[str, object]:
    """Miss a deadline at once, where there are deadlines."""
    if DeadlineAlert is None:
        return {}
    callback = AsyncCallback(OmnimessageNotifier, kwargs={"to": number("1507")})
    return {
        "deadline": DeadlineAlert(
            reference=DeadlineReference.DAGRUN_QUEUED_AT, interval=timedelta(seconds=1), callback=callback
        )
    }


with DAG("matrix_notifies_failure", on_failure_callback=OmnimessageNotifier(to=number("1508")), **ONCE, **deadline()):

    @task(
        retries=1,
        retry_delay=timedelta(seconds=2),
        on_retry_callback=OmnimessageNotifier(to=number("1509")),
        on_failure_callback=OmnimessageNotifier(to=[number("1510"), number("1511")], text="{{ ti.task_id }} failed"),
    )
    def fails() -> None:
        """Fail."""
        raise ValueError("no such table")

    fails()

with (
    DAG("matrix_dead_mans_switch", **ONCE),
    DeadMansSwitch("by_nine", to=number("1608"), text="Late: {{ run_id }}", time_to_send=timedelta(hours=1)),
):

    @task(**PATIENT)
    def work_in_time() -> None:
        """Stand in for the work."""

    work_in_time()

with (
    DAG("matrix_dead_mans_switch_stands", **ONCE),
    DeadMansSwitch("by_nine", to=number("1609"), text="Late: {{ run_id }}", time_to_send=timedelta(hours=1)),
):

    @task
    def guarded_work() -> None:
        """Fail, so that the alert stays scheduled."""
        raise RuntimeError("as planned")

    guarded_work()

with DAG("matrix_dead_mans_switch_waits", **ONCE):
    send = SendOmnimessageOperator(task_id="send", to=number("1611"), messages=[sms("a")])

    with DeadMansSwitch("in_time", to=number("1612"), text="Late: {{ run_id }}", time_to_send=timedelta(hours=1)):
        # disarm is not directly downstream of a task whose success the next run waits for. Before Airflow 3.2 it starts
        # while this waits, and comes back; since then, a teardown waits for all tasks between it and its setup
        delivered = OmnimessageDeliverySensor(
            task_id="delivered",
            omnimessage_id=send.output,
            poke_interval=1,
            timeout=600,
            deferrable=True,
            wait_for_downstream=True,
            **PATIENT,
        )

        @task(trigger_rule="always", **PATIENT)
        def quick_work() -> None:
            """Be done before the wait is."""

        delivered >> quick_work()

with (
    DAG("matrix_dead_mans_switch_catches_up", schedule="0 0 * * *", start_date=TODAY - timedelta(days=2), catchup=True),
    DeadMansSwitch(
        "by_midnight",
        to=number("1610"),
        text="Late: {{ run_id }}",
        within=timedelta(seconds=1),
    ),
):

    @task(**PATIENT)
    def late_work() -> None:
        """Be late, for a run of days ago as for that of today, of which alone somebody wants to know."""

    late_work()

with DAG("matrix_heartbeat", **ONCE):
    beats = {"to": number("1708"), "grace": timedelta(minutes=15), "variable": "beats"}
    HeartbeatOperator(task_id="beat", **beats) >> HeartbeatOperator(task_id="beat_again", **beats)

# run by hand, with dag.test(), which needs no other process
with DAG("matrix_by_hand", schedule=None):
    send = SendOmnimessageOperator(task_id="send", to=number("1803"), messages=[sms("a")])
    OmnimessageDeliverySensor(task_id="wait", omnimessage_id=send.output, poke_interval=1, deferrable=True)
