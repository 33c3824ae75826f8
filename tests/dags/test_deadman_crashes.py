"""The dead man's switch if responses are lost or tasks are killed: two alerts are better than none."""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta

import pytest
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, task
from full_size import full_size

from airflow_provider_omnimessage import metrics
from airflow_provider_omnimessage._compat import TaskMemory
from airflow_provider_omnimessage.alerts import HeartbeatOperator
from airflow_provider_omnimessage.alerts.deadman import (
    ArmDeadMansSwitchOperator,
    DeadMansSwitch,
    DisarmDeadMansSwitchOperator,
)
from airflow_provider_omnimessage.alerts.known import KnownAlerts
from airflow_provider_omnimessage.api.messages import sms
from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook
from airflow_provider_omnimessage.notifications.omnimessage import OmnimessageNotifier
from airflow_provider_omnimessage.tasks import posting

pytestmark = [full_size, pytest.mark.usefixtures("each_try_has_a_process_of_its_own")]

TO = "+37255555555"
OTHER = "+37255555556"
SOON = timedelta(hours=1)
ALERT = {"to": TO, "text": "Late", "time_to_send": SOON}


@pytest.fixture
def die(monkeypatch):
    """Let the task be killed before or after it does one thing: once, or each time."""

    def dying(owner, name, *, after, always=False):
        whole = getattr(owner, name)
        deaths = []

        def method(*args, **kwargs):
            dies = always or not deaths
            if dies and not after:
                deaths.append(name)
                raise SystemExit("killed")
            result = whole(*args, **kwargs)
            if dies:
                deaths.append(name)
                raise SystemExit("killed")
            return result

        monkeypatch.setattr(owner, name, method)
        return deaths

    return dying


class Watched:
    """A switch around one task, which notes what was scheduled while it ran."""

    def __init__(self, sandbox, **settings):
        self._sandbox = sandbox
        self.fails = False
        with DeadMansSwitch("by_nine", **{**ALERT, **settings}) as self.switch:

            @task
            def work():
                self.scheduled = states(sandbox).count("scheduled")
                if self.fails:
                    raise RuntimeError("as it should")

            work()
        self.switch.arm.retry_delay = self.switch.disarm.retry_delay = timedelta(0)


def states(sandbox):
    return [message["state"] for message in sandbox.messages]


KILLS = [
    ((ArmDeadMansSwitchOperator, "_arm"), False, 1),
    ((TaskMemory, "keep"), False, 1),
    ((TaskMemory, "keep"), True, 1),
    ((OmnimessageHook, "post"), False, 1),
    ((OmnimessageHook, "post"), True, 2),
    # an interrupt, unlike SIGKILL, leaves time to store the id
    ((posting, "remember"), False, 1),
    ((posting, "remember"), True, 1),
    ((ArmDeadMansSwitchOperator, "_cancel_others"), True, 1),
]


@pytest.mark.parametrize(("where", "after", "alerts"), KILLS)
def test_arming_that_is_killed_leaves_an_alert_and_at_most_one_unknown_alert(
    dag, run_dag, sandbox, die, where, after, alerts
):
    watched = Watched(sandbox)
    deaths = die(*where, after=after)
    run = run_dag(dag)
    assert deaths
    assert run.tries["by_nine.arm"] == 2
    assert run.state == "success", run.tasks
    assert watched.scheduled == alerts
    assert sorted(states(sandbox)) == ["cancelled", "scheduled"][:alerts]
    if alerts == 2:
        assert "may have been scheduled at" in run.log
        assert "look for it in Messente's dashboard" in run.log


def test_arming_that_is_killed_and_work_that_fails_alerts_once(dag, run_dag, sandbox, die):
    watched = Watched(sandbox)
    watched.fails = True
    die(posting, "remember", after=True)
    run_dag(dag)
    assert states(sandbox) == ["scheduled"]


def test_a_retry_keeps_the_deadline_of_the_first_try(dag, run_dag, sandbox, die):
    when = "{{ macros.datetime.utcnow() + macros.timedelta(hours=ti.try_number) }}"
    Watched(sandbox, to=[TO, OTHER], time_to_send=when)
    die(KnownAlerts, "schedule", after=True)
    run = run_dag(dag)
    first, second = sandbox.messages
    assert first["time_to_send"] == second["time_to_send"] == run.xcom("by_nine.arm", "time_to_send")
    assert states(sandbox) == ["cancelled", "cancelled"]


class TestKilledAtEachTry:
    def test_the_work_runs_without_an_alert(self, dag, run_dag, sandbox, die):
        Watched(sandbox)
        deaths = die(ArmDeadMansSwitchOperator, "_arm", after=False, always=True)
        run = run_dag(dag)
        assert len(deaths) == 5
        assert {task: state for task, state in run.tasks.items() if state != "success"} == {"by_nine.arm": "failed"}
        assert "THE ALERT IS NOT SCHEDULED" in run.log
        assert "all tries but the last one were killed" in run.log

    def test_the_last_try_knows_what_earlier_tries_scheduled_and_it_is_cancelled(self, dag, run_dag, sandbox, die):
        Watched(sandbox)
        die(ArmDeadMansSwitchOperator, "_cancel_others", after=True, always=True)
        run = run_dag(dag)
        assert run.state == "success"
        assert "keeping the alert that one of them scheduled" in run.log
        assert states(sandbox) == ["cancelled"]

    def test_there_are_three_unknown_alerts_at_most(self, dag, run_dag, sandbox, die):
        watched = Watched(sandbox)
        die(OmnimessageHook, "post", after=True, always=True)
        run = run_dag(dag)
        assert watched.scheduled == 3
        assert run.state == "success"
        assert "earlier tries of this task have made 3 requests" in run.log

    def test_if_it_is_required_the_work_does_not_run(self, dag, run_dag, sandbox, die):
        Watched(sandbox, required=True)
        die(ArmDeadMansSwitchOperator, "_arm", after=False, always=True)
        run = run_dag(dag)
        assert run.tasks["by_nine.work"] == "upstream_failed"


class TestLostResponses:
    @pytest.mark.parametrize(("fault", "alerts"), [("cut", 1), ("server_error", 1), ("lost_answer", 2)])
    def test_another_alert_is_scheduled_and_what_is_known_is_cancelled(self, dag, run_dag, sandbox, fault, alerts):
        watched = Watched(sandbox)
        sandbox.add_fault(fault, call="send")
        run = run_dag(dag)
        assert watched.scheduled == alerts
        assert sorted(states(sandbox)) == ["cancelled", "scheduled"][:alerts]
        assert "scheduling another one, since two are better than none" in run.log
        assert "may have been scheduled at" in run.log

    def test_if_all_responses_are_lost_there_are_at_most_three_and_the_work_runs(self, dag, run_dag, sandbox):
        watched = Watched(sandbox)
        sandbox.add_fault("lost_answer", call="send", times="always")
        run = run_dag(dag)
        assert watched.scheduled == 3
        assert run.state == "success"
        assert "THE ALERT IS NOT SCHEDULED (as far as is known)" in run.log
        assert run.log.count("may have been scheduled at") == 3

    def test_an_unreadable_response_does_not_repeat_the_request(self, dag, run_dag, sandbox):
        Watched(sandbox)
        sandbox.add_fault("broken_json", call="send", times="always")
        run_dag(dag)
        assert len(sandbox.messages) == 1

    def test_a_required_alert_in_doubt_stops_the_work_at_once(self, dag, run_dag, sandbox):
        Watched(sandbox, required=True)
        sandbox.add_fault("lost_answer", call="send", times="always")
        run = run_dag(dag)
        assert (run.tasks["by_nine.arm"], run.tries["by_nine.arm"]) == ("failed", 1)
        assert len(sandbox.messages) == 3

    def test_failed_work_alerts_now_although_the_first_response_was_lost(self, dag, run_dag, sandbox):
        watched = Watched(sandbox, on_failure="send_now")
        watched.fails = True
        sandbox.add_fault("lost_answer", call="send", after=1)
        run_dag(dag)
        armed, *immediate = sandbox.messages
        assert armed["state"] == "scheduled"
        assert [message["sent_at"] is not None for message in immediate] == [True, True]

    def test_a_disarming_that_is_killed_in_the_middle_alerts_once(self, dag, run_dag, sandbox, die):
        watched = Watched(sandbox, on_failure="send_now")
        watched.fails = True
        die(DisarmDeadMansSwitchOperator, "_send", after=True)
        run = run_dag(dag)
        assert run.tries["by_nine.disarm"] == 2
        assert [message["sent_at"] is not None for message in sandbox.messages] == [False, True]


class TestCleared:
    def test_a_changed_alert_replaces_the_scheduled_one(self, dag, run_dag, clear_and_run, sandbox):
        watched = Watched(sandbox)
        watched.fails = True
        first = run_dag(dag)
        watched.switch.arm.messages = [sms("Later")]
        again = clear_and_run(dag, first)
        assert states(sandbox) == ["cancelled", "scheduled"]
        assert again.xcom("by_nine.arm") == [sandbox.messages[1]["omnimessage_id"]]

    def test_a_former_recipient_is_not_alerted(self, dag, run_dag, clear_and_run, sandbox):
        watched = Watched(sandbox, to=[TO, OTHER])
        watched.fails = True
        first = run_dag(dag)
        watched.switch.arm.to = [OTHER]
        clear_and_run(dag, first)
        assert [message["to"] for message in sandbox.messages if message["state"] == "scheduled"] == [OTHER]

    def test_an_alert_that_could_not_be_replaced_is_cancelled_by_disarm(self, dag, run_dag, clear_and_run, sandbox):
        watched = Watched(sandbox)
        watched.fails = True
        first = run_dag(dag)
        watched.fails = False
        watched.switch.arm.messages = [sms("Later")]
        sandbox.add_fault("unauthorized", call="cancel")
        again = clear_and_run(dag, first)
        assert "disarm tries again" in again.log
        assert states(sandbox) == ["cancelled", "cancelled"]

    @pytest.mark.parametrize("required", [False, True])
    def test_if_messente_is_down_the_earlier_alert_stays_and_is_known(
        self, dag, run_dag, clear_and_run, sandbox, required
    ):
        watched = Watched(sandbox, required=required)
        watched.fails = True
        first = run_dag(dag)
        watched.fails = False
        sandbox.add_fault("unauthorized", call="send", times="always")
        watched.switch.arm.messages = [sms("Later")]
        again = clear_and_run(dag, first)
        if required:
            assert again.tasks["by_nine.arm"] == "failed"
            assert states(sandbox) == ["scheduled"]
        else:
            assert again.tasks["by_nine.arm"] == "failed"
            assert "Not all alerts are scheduled" in again.log
            assert states(sandbox) == ["cancelled"]

    def test_if_its_outcome_is_unknown_another_is_scheduled(self, dag, run_dag, clear_and_run, sandbox):
        watched = Watched(sandbox, time_to_send="2099-01-01T09:00")
        watched.fails = True
        first = run_dag(dag)
        watched.fails = False
        sandbox.add_fault("unauthorized", call="status", times="always")
        clear_and_run(dag, first)
        assert states(sandbox) == ["cancelled", "cancelled"]


class TestSettingsOfTheWork:
    def test_it_does_not_reach_the_alert(self, dag, run_dag, sandbox):
        hurts = {
            "do_xcom_push": False,
            "execution_timeout": timedelta(microseconds=1),
            "retries": 0,
            "max_active_tis_per_dag": 0,
            "pool": "closed",
            "pre_execute": lambda _: 1 / 0,
        }
        with DeadMansSwitch("by_nine", default_args=hurts, **ALERT) as switch:
            EmptyOperator(task_id="a", pre_execute=None, execution_timeout=None, pool=None)
        assert switch.arm.pool == switch.disarm.pool == "default_pool"
        assert switch.arm.max_active_tis_per_dag is None
        run = run_dag(dag)
        assert set(run.tasks.values()) == {"success"}
        assert states(sandbox) == ["cancelled"]

    def test_native_rendering_keeps_phone_numbers(self, request, run_dag, sandbox):
        with DAG("native_objects", schedule=None, render_template_as_native_obj=True) as dag:
            Watched(sandbox)
        run_dag(dag)
        assert [(message["to"], message["state"]) for message in sandbox.messages] == [(TO, "cancelled")]


def test_an_outage_holds_the_work_up_for_a_bounded_time(dag, run_dag, sandbox, pauses, monkeypatch):
    """Recipients whose requests do not fit into the time limit get no alert, and the work runs."""
    nobody = json.dumps({**sandbox.connection, "host": "http://127.0.0.1:9"})
    monkeypatch.setenv("AIRFLOW_CONN_OMNIMESSAGE_DEFAULT", nobody)
    Watched(sandbox, to=[f"+3725555555{digit}" for digit in range(10)])
    run = run_dag(dag)
    assert run.state == "success"
    assert run.tasks["by_nine.arm"] == "failed"
    assert sum(pauses) < 120


def test_alerts_are_counted_as_other_messages_are(dag, run_dag, sandbox, monkeypatch):
    counted = []

    class Stats:
        incr = staticmethod(lambda name, tags: counted.append((name, tags["task_id"])))

    monkeypatch.setattr(metrics, "airflow_stats", lambda: Stats)
    Watched(sandbox)
    with dag:
        HeartbeatOperator(task_id="beat", to=TO, grace=SOON, on_success_callback=OmnimessageNotifier(to=TO))
    run_dag(dag)
    run_dag(dag)
    once = [("omnimessage.scheduled", "by_nine.arm"), ("omnimessage.cancelled", "by_nine.disarm")]
    beat = [("omnimessage.scheduled", "beat"), ("omnimessage.sent", "beat")]
    assert sorted(counted) == sorted([*once, *once, *beat, *beat, ("omnimessage.cancelled", "beat")])


def test_the_state_store_holds_no_text_and_nothing_that_a_number_could_be_guessed_from(dag, run_dag, sandbox):
    from airflow.models.task_state_store import TaskStateStoreModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    Watched(sandbox, text="S3CRET")
    run_dag(dag)
    with create_session() as session:
        kept = str([(row.key, row.value) for row in session.scalars(select(TaskStateStoreModel))])
    assert sandbox.messages[0]["omnimessage_id"] in kept
    for secret in (TO[1:], "S3CRET", hashlib.sha256(TO.encode()).hexdigest()[:16]):
        assert secret not in kept
