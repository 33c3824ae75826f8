"""The delivery sensor's limits: one timeout for the whole task, whatever Messente does, and its arguments."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import (
    AirflowFailException,
    AirflowRescheduleException,
    AirflowSensorTimeout,
    TaskDeferred,
)
from delivery_sensor import (
    DEFERRED,
    POKE,
    RESCHEDULE,
    STUCK,
    UNKNOWN,
    a_sensor,
    in_every_mode,
    status_requests,
)
from full_size import full_size

from airflow_provider_omnimessage._compat import SHORTEST_ABSENCE, TaskMemory
from airflow_provider_omnimessage.api.awaited_message import AwaitedMessage
from airflow_provider_omnimessage.api.errors import InvalidInputError
from airflow_provider_omnimessage.api.waiting import Wait
from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook
from airflow_provider_omnimessage.sensors import omnimessage as sensors
from airflow_provider_omnimessage.sensors.polling import WorkerPoller

pytestmark = pytest.mark.usefixtures("short_waits")


@full_size
class TestOneLimitForTheWholeTask:
    @in_every_mode
    @pytest.mark.parametrize("count", [8, 12])
    def test_slow_responses_to_many_ids_do_not_exceed_the_timeout(self, dag, run_dag, sandbox, sent, mode, count):
        """Each of them alone would take longer than the timeout."""
        timeouts = []
        within = OmnimessageHook.within

        def note(self, seconds):
            timeouts.append(seconds)
            return within(self, seconds)

        a_sensor(omnimessage_id=[sent(STUCK) for _ in range(count)], timeout=1, **mode)
        sandbox.add_fault("slow", call="status", seconds=20, times="always")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(OmnimessageHook, "within", note)
            run = run_dag(dag)
        assert run.tasks == {"wait": "failed"}
        assert "Not delivered within the timeout" in run.log
        assert timeouts
        assert max(timeouts) <= 1
        assert len(status_requests(sandbox)) <= 3, "the first alone, and no more once the time is over"

    @in_every_mode
    def test_rejected_credentials_of_many_ids_are_one_request(self, dag, run_dag, sandbox, sent, mode):
        a_sensor(omnimessage_id=[sent() for _ in range(30)], **mode)
        sandbox.add_fault("unauthorized", call="status", times="always")
        run = run_dag(dag)
        assert run.tasks == {"wait": "failed"}
        assert len(status_requests(sandbox)) == 1

    @pytest.mark.parametrize("mode", [POKE, RESCHEDULE], ids=["poke", "reschedule"])
    def test_after_a_429_no_message_is_polled_until_the_pause_is_over(self, dag, run_dag, sandbox, sent, mode):
        a_sensor(omnimessage_id=[sent() for _ in range(20)], timeout=2, **mode)
        sandbox.add_fault("rate_limited", call="status", retry_after=30)
        run = run_dag(dag)
        assert run.tasks["wait"] in ("failed", "up_for_reschedule")
        assert len(status_requests(sandbox)) == 1

    def test_a_few_failures_of_the_same_kind_stop_a_round(self, sandbox):
        now = datetime.now(timezone.utc)
        messages = [AwaitedMessage(f"m-{number}") for number in range(60)]
        wait = Wait(messages, since=now, deadline=now + timedelta(hours=1), poke_interval=60.0)
        wait.start(now, poll_first=True)
        sandbox.add_fault("server_error", call="status", times="always")
        hook = OmnimessageHook()
        WorkerPoller(hook, wait, hook.log).poll(wait.due(now), seconds=30)
        assert len(status_requests(sandbox)) < 60 / 2, "those in flight, and no more"
        assert wait.next_poll > now, "the others are polled at their next time"

    @pytest.mark.parametrize("soft_fail", [False, True])
    def test_execution_timeout_during_the_first_poll_of_a_deferred_task(self, dag, run_dag, sandbox, sent, soft_fail):
        limit = timedelta(seconds=1)
        a_sensor(omnimessage_id=sent(STUCK), execution_timeout=limit, soft_fail=soft_fail, **DEFERRED)
        sandbox.add_fault("slow", call="status", seconds=20, times="always")
        run = run_dag(dag)
        assert run.tasks == {"wait": "skipped" if soft_fail else "failed"}
        assert "Not delivered within the execution_timeout of 0:00:01" in run.log

    def test_a_triggerer_that_does_not_respond_costs_a_last_poll_and_no_report(self, dag, sent):
        """Airflow itself would fail the task, and skip its report."""
        pushed = []
        context = {
            "ti": SimpleNamespace(dag_id="d", task_id="wait", xcom_push=lambda key, value: pushed.append((key, value)))
        }
        gone = {"error": "Trigger timeout"}
        delivered = a_sensor(omnimessage_id=sent(), deferrable=True)
        assert delivered.resume_execution("__fail__", gone, context)["outcome"] == "delivered"
        stuck = a_sensor(task_id="stuck", omnimessage_id=sent(STUCK), on_timeout="return", deferrable=True)
        assert stuck.resume_execution("__fail__", gone, context)["outcome"] == "in_progress"
        fails = a_sensor(task_id="fails", omnimessage_id=sent(STUCK), deferrable=True)
        with pytest.raises(AirflowSensorTimeout, match="viber: ACCEPTD"):
            fails.resume_execution("__fail__", gone, context)
        assert pushed[0][1]["outcome"] == "in_progress"


class Slept(Exception):
    """The sensor waits in its own process."""


class TestWhereItWaits:
    """A task that leaves its worker stays away for ten seconds at least."""

    @pytest.fixture(autouse=True)
    def _as_it_is_by_default(self, short_waits, monkeypatch):
        def sleep(seconds):
            raise Slept

        monkeypatch.setattr(sensors, "SHORTEST_ABSENCE", SHORTEST_ABSENCE)
        monkeypatch.setattr(sensors, "time", SimpleNamespace(sleep=sleep))

    @pytest.mark.parametrize(("mode", "leaves"), [(DEFERRED, TaskDeferred), (RESCHEDULE, AirflowRescheduleException)])
    @pytest.mark.parametrize("timeout", [10, 12])
    def test_a_wait_of_at_most_ten_seconds_stays_on_the_worker(self, dag, sent, mode, leaves, timeout):
        wait = a_sensor(omnimessage_id=sent(STUCK), timeout=timeout, **mode)
        with pytest.raises(Slept if timeout == 10 else leaves):
            wait.execute(just_begun())

    def test_a_rescheduled_task_that_comes_back_after_the_deadline_polls_once_more(
        self, dag, run_dag, sandbox, sent, monkeypatch
    ):
        an_hour_ago = datetime.now(timezone.utc) - timedelta(hours=1)
        monkeypatch.setattr(sensors, "first_started_at", lambda context: an_hour_ago)
        a_sensor(omnimessage_id=sent(), timeout=1800, **RESCHEDULE)
        run = run_dag(dag)
        assert run.tasks == {"wait": "success"}
        assert len(status_requests(sandbox)) == 1

    def test_a_rescheduled_task_that_comes_back_at_the_last_moment_has_time_for_a_poll(
        self, dag, run_dag, sandbox, sent, monkeypatch
    ):
        begun = datetime.now(timezone.utc) - timedelta(seconds=1799)
        monkeypatch.setattr(sensors, "first_started_at", lambda context: begun)
        sandbox.add_fault("slow", call="status", seconds=1.5)
        a_sensor(omnimessage_id=sent(), timeout=1800, **RESCHEDULE)
        assert run_dag(dag).tasks == {"wait": "success"}

    def test_a_rescheduled_task_comes_back_after_ten_seconds_at_the_earliest(self, dag, sent):
        began = datetime.now(timezone.utc)
        with pytest.raises(AirflowRescheduleException) as step:
            a_sensor(omnimessage_id=sent(STUCK), **RESCHEDULE).execute(just_begun())
        assert step.value.reschedule_date >= began + timedelta(seconds=10)

    @pytest.mark.parametrize(("is_bulk", "kept"), [(False, True), (True, False)])
    def test_of_a_bulk_send_nothing_is_kept_between_two_processes(self, dag, sent, monkeypatch, is_bulk, kept):
        id_, stored = sent(STUCK), []
        monkeypatch.setattr(TaskMemory, "keep", lambda self, value: stored.append(value))
        output = {"accepted": 1, "omnimessage_id": [id_], "time_to_send": None}
        with pytest.raises(AirflowRescheduleException):
            a_sensor(omnimessage_id=output if is_bulk else id_, **RESCHEDULE).execute(
                just_begun(task_state_store=object())
            )
        assert bool(stored) == kept


def just_begun(**context):
    ti = SimpleNamespace(dag_id="d", task_id="wait", get_first_reschedule_date=lambda context: None)
    return {"ti": ti, **context}


def test_an_event_that_the_trigger_does_not_send_fails_by_name(dag):
    with pytest.raises(AirflowFailException, match=r"^event: NoneType is not what the delivery trigger sends"):
        a_sensor(omnimessage_id=UNKNOWN).execute_complete({}, None)


class TestWhileTheDagIsParsed:
    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("wait_for", "read"),
            ("require", "some"),
            ("on_cancelled", "ignore"),
            ("on_failed", "branch"),
            ("on_timeout", None),
            ("poke_interval", 0),
            ("time_to_send", timedelta(hours=1)),
        ],
    )
    def test_an_invalid_choice_is_rejected_by_name(self, dag, field, value):
        with pytest.raises(InvalidInputError, match=f"^{field}: "):
            a_sensor(omnimessage_id=UNKNOWN, **{field: value})

    @pytest.mark.parametrize("default", ["True", "False"])
    def test_deferrable_follows_airflows_default(self, dag, monkeypatch, default):
        monkeypatch.setenv("AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE", default)
        assert a_sensor(omnimessage_id=UNKNOWN).deferrable is (default == "True")
        assert a_sensor(task_id="said", omnimessage_id=UNKNOWN, deferrable=True).deferrable is True
