"""Escalations: all steps are scheduled together with the alert, and cancelled together with it."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from time import sleep

import pytest
from airflow.sdk import DAG, task
from full_size import first, full_size

from airflow_provider_omnimessage.alerts import DeadMansSwitch, HeartbeatOperator, Step, planning
from airflow_provider_omnimessage.cli.alerts import known_alerts
from airflow_provider_omnimessage.notifications import event_store
from airflow_provider_omnimessage.notifications.omnimessage import OmnimessageNotifier

TO, OTHER, REJECTED = "+37255555555", "+37255555556", "+37255550005"
STEPS = [
    Step(after=timedelta(minutes=15), to="{{ '+37255555556' }}"),
    Step(after=timedelta(minutes=30), to=[TO, OTHER], text="Call somebody: {{ run_id }}"),
]
PLANNED = [(TO, 0), (OTHER, 15), (TO, 30), (OTHER, 30)]


def states(sandbox):
    return [message["state"] for message in sandbox.messages]


def plan(messages):
    """Return the recipient of each message, and its minutes after the first."""
    times = [datetime.fromisoformat(message["time_to_send"]) for message in messages]
    return [
        (message["to"], (time - times[0]) / timedelta(minutes=1)) for message, time in zip(messages, times, strict=True)
    ]


def texts(sandbox):
    return [message["body"]["messages"][0]["text"] for message in sandbox.messages]


@pytest.fixture
def guarded(dag):
    """A switch around one task that fails until the test changes that."""
    fails = [True]

    def guard(**settings):
        alert = {"to": TO, "text": "Late: {{ run_id }}", "time_to_send": timedelta(hours=1), "escalate": STEPS}
        with dag, DeadMansSwitch("by_nine", **{**alert, **settings}) as switch:

            @task
            def work():
                if fails[0]:
                    raise RuntimeError("as it should")

            work()
        switch.arm.retry_delay = switch.disarm.retry_delay = timedelta(0)
        return switch

    guard.fails = fails
    return guard


def test_the_steps_stay_scheduled_if_the_work_fails_and_a_repaired_run_cancels_all(
    guarded, dag, run_dag, clear_and_run, sandbox
):
    guarded()
    run = run_dag(dag)
    assert plan(sandbox.messages) == PLANNED
    assert (
        texts(sandbox)
        == [f"Late: {run.run_id}", f"2nd notice: Late: {run.run_id}"] + [f"Call somebody: {run.run_id}"] * 2
    )
    assert states(sandbox) == ["scheduled"] * 4
    listed = [alert.time_to_send for alert in known_alerts() if alert.run_id == run.run_id]
    assert sorted(listed) == sorted(message["time_to_send"] for message in sandbox.messages)
    guarded.fails[0] = False
    clear_and_run(dag, run)
    assert states(sandbox) == ["cancelled"] * len(sandbox.messages)


@full_size
def test_a_step_that_cannot_be_scheduled_is_named_and_the_others_stay_scheduled(guarded, dag, run_dag, sandbox):
    escalate = [Step(after=timedelta(minutes=5), to=REJECTED), Step(after=timedelta(minutes=6), to=lambda _: "nobody")]
    guarded(escalate=[*escalate, Step(after=timedelta(minutes=30), to=OTHER)])
    run = run_dag(dag)
    assert run.state == "failed", "as the work has failed"
    assert run.tasks["by_nine.arm"] == "failed"
    assert "No 2nd notice for +37255•••05: " in run.log
    assert "No recipient for the 3rd notice: to: " in run.log
    assert plan(sandbox.messages) == [(TO, 0), (OTHER, 30)]
    assert states(sandbox) == ["scheduled"] * 2


def rota_that_breaks_off(when):
    yield OTHER
    raise RuntimeError("rota down")


def test_a_step_whose_template_or_function_fails_costs_neither_the_alert_nor_the_other_steps(
    guarded, dag, run_dag, sandbox
):
    minute = timedelta(minutes=1)
    escalate = [
        Step(after=5 * minute, text="Secret {{ no.such.thing }}"),
        Step(after=6 * minute, to="{{ no.such }}"),
        Step(after=7 * minute, to=rota_that_breaks_off),
        Step(after=8 * minute, to=lambda _: {}["ann"]),
        Step(after=30 * minute, to=OTHER),
    ]
    guarded(escalate=escalate)
    run = run_dag(dag)
    assert (run.tasks["by_nine.arm"], run.tasks["by_nine.disarm"]) == ("failed", "failed")
    undefined = "its template cannot be rendered (UndefinedError: 'no' is undefined); correct it"
    for line in (
        f"No recipient for the 2nd notice: messages: {undefined}",
        f"No recipient for the 3rd notice: to: {undefined}",
        "No 4th notice for one recipient: to: <function test_escalation_in_dags.rota_that_breaks_off> failed for ",
        "(KeyError: 'ann')",
        "Not all alerts are scheduled: ",
        "The alert is sent at its time: the work is not done",
    ):
        assert line in run.log
    assert "Secret" not in run.log
    assert plan(sandbox.messages) == [(TO, 0), (OTHER, 7), (OTHER, 30)]
    assert states(sandbox) == ["scheduled"] * 3


@full_size
@pytest.mark.parametrize("broken", ["planning", "time"])
def test_a_step_that_fails_in_an_unexpected_way_costs_the_others_nothing(
    guarded, dag, run_dag, sandbox, monkeypatch, broken
):
    escalate = [Step(after=timedelta(minutes=15), to=OTHER), Step(after=timedelta(minutes=30))]
    real = planning.later if broken == "planning" else planning.Planner._time

    def fails_for_the_step(*args):
        if timedelta(minutes=15) in args:
            raise OverflowError("date value out of range")
        return real(*args)

    if broken == "planning":
        monkeypatch.setattr(planning, "later", fails_for_the_step)
    else:
        monkeypatch.setattr(planning.Planner, "_time", fails_for_the_step)
    guarded(escalate=escalate)
    run = run_dag(dag)
    assert run.tasks["by_nine.arm"] == "failed"
    assert "escalate: failed (OverflowError: date value out of range); correct this step" in run.log
    assert plan(sandbox.messages) == [(TO, 0), (TO, 30)]


@full_size
@pytest.mark.parametrize("kill_after", [1, 3])
@pytest.mark.usefixtures("each_try_has_a_process_of_its_own")
def test_arming_that_is_killed_between_steps_knows_and_cancels_what_it_has_armed(
    guarded, dag, run_dag, sandbox, die_instead_of_post, kill_after
):
    guarded()
    guarded.fails[0] = False
    die_instead_of_post(kill_after + 1)
    run = run_dag(dag)
    assert run.tries["by_nine.arm"] == 2
    assert plan(sandbox.messages) == PLANNED, "none twice: what was armed is known"
    assert states(sandbox) == ["cancelled"] * 4


@full_size
def test_sent_now_the_steps_count_from_now_and_a_repaired_run_cancels_them(
    guarded, dag, run_dag, clear_and_run, sandbox
):
    guarded(on_failure="send_now", escalate=STEPS[:1])
    run = run_dag(dag)
    planned, sent, step = sandbox.messages[:2], sandbox.messages[2], sandbox.messages[3]
    assert plan(planned) == PLANNED[:2]
    assert (sent["time_to_send"], sent["to"], step["to"]) == (None, TO, OTHER)
    ahead = datetime.fromisoformat(step["time_to_send"]) - datetime.fromisoformat(sent["accepted_at"])
    assert abs(ahead - timedelta(minutes=15)) < timedelta(seconds=30)
    guarded.fails[0] = False
    clear_and_run(dag, run)
    assert "scheduled" not in states(sandbox)


def steps_from_now(sandbox):
    """List the steps of the alert that was sent now, which are due within the hour, before the deadline."""
    latest = datetime.now(timezone.utc) + timedelta(minutes=50)
    return [
        (message["to"], message["body"]["messages"][0]["text"].partition(":")[0])
        for message in sandbox.messages
        if message["state"] == "scheduled" and datetime.fromisoformat(message["time_to_send"]) < latest
    ]


def sent_now(sandbox):
    return [message for message in sandbox.messages if message["time_to_send"] is None]


@full_size
@pytest.mark.parametrize("others", first(1, [[], [Step(after=timedelta(minutes=31), to=REJECTED)]]))
def test_each_failure_after_a_clear_is_sent_and_its_steps_replace_those_of_the_last_one(
    guarded, dag, run_dag, clear_and_run, sandbox, others
):
    guarded(on_failure="send_now", escalate=[*STEPS, *others])
    run = run_dag(dag)
    steps = [(OTHER, "2nd notice"), (TO, "Call somebody"), (OTHER, "Call somebody")]
    assert steps_from_now(sandbox) == steps
    for number in (2, 3):
        clear_and_run(dag, run)
        assert len(sent_now(sandbox)) == number, "a new failure is news"
        assert steps_from_now(sandbox) == steps
        assert states(sandbox)[-3:] == ["scheduled"] * 3, "the newest ones, which count from the new failure"
    guarded.fails[0] = False
    clear_and_run(dag, run)
    assert "scheduled" not in states(sandbox)


@full_size
def test_steps_whose_successors_cannot_be_scheduled_stay(guarded, dag, run_dag, clear_and_run, sandbox):
    guarded(on_failure="send_now")
    run = run_dag(dag)
    # arm replaces its four messages; then the alert goes out, and nothing after it is accepted
    sandbox.add_fault("unauthorized", call="send", after=5, times="always")
    clear_and_run(dag, run)
    assert len(sent_now(sandbox)) == 2
    assert steps_from_now(sandbox) == [(OTHER, "2nd notice"), (TO, "Call somebody"), (OTHER, "Call somebody")]


@full_size
def test_steps_that_cannot_be_cancelled_are_known_and_cancelled_once_the_run_is_repaired(
    guarded, dag, run_dag, clear_and_run, sandbox
):
    guarded(on_failure="send_now", escalate=STEPS[:1])
    run = run_dag(dag)
    sandbox.add_fault("unauthorized", call="cancel", times="always")
    run = clear_and_run(dag, run)
    assert "The alert that was replaced is still scheduled; disarm tries again: " in run.log
    assert steps_from_now(sandbox) == [(OTHER, "2nd notice")] * 2
    sandbox.clear_faults()
    guarded.fails[0] = False
    clear_and_run(dag, run)
    assert "scheduled" not in states(sandbox)


@full_size
class TestARunThatStartsAfterItsDeadline:
    LATE = "{{ (dag_run.run_after - macros.timedelta(minutes=10)).isoformat() }}"
    STEPS = tuple(Step(after=timedelta(minutes=minutes)) for minutes in (5, 15, 30))

    def test_escalates_from_the_time_of_its_alert(self, guarded, dag, run_dag, clear_and_run, sandbox):
        """Also a step that is due in the future when it counts from the deadline: it would come before earlier ones."""
        guarded(time_to_send=self.LATE, escalate=self.STEPS)
        run = run_dag(dag)
        assert sandbox.messages[0]["time_to_send"] is None
        sent_at = datetime.fromisoformat(sandbox.messages[0]["accepted_at"])
        spans = [datetime.fromisoformat(step["time_to_send"]) - sent_at for step in sandbox.messages[1:]]
        assert [round(span / timedelta(minutes=1)) for span in spans] == [5, 15, 30]
        clear_and_run(dag, run)
        assert len(sandbox.messages) == 4, "the repaired run keeps them"

    def test_alerts_nobody_else_if_it_is_cleared_after_a_handover(self, guarded, dag, run_dag, clear_and_run, sandbox):
        handover = [datetime.max.replace(tzinfo=timezone.utc)]
        guarded(
            to=lambda when: TO if when < handover[0] else OTHER,
            time_to_send=self.LATE,
            escalate=[Step(after=timedelta(minutes=5), to=REJECTED)],
        )
        run = run_dag(dag)
        sleep(1)
        handover[0] = datetime.now(timezone.utc)
        clear_and_run(dag, run)
        assert [message["to"] for message in sandbox.messages] == [TO]


@full_size
def test_each_beat_moves_the_whole_escalation(dag, run_dag, sandbox):
    with dag:
        HeartbeatOperator(
            task_id="beat", to=TO, grace=timedelta(hours=1), escalate=[*STEPS, Step(timedelta(5), REJECTED)]
        )
    for _ in range(2):
        run = run_dag(dag)
    assert run.state == "success"
    assert "No 4th notice for +37255•••05: " in run.log
    assert states(sandbox) == ["cancelled"] * 4 + ["scheduled"] * 4
    assert plan(sandbox.messages[4:]) == PLANNED
    assert texts(sandbox)[5].startswith("2nd notice: Airflow may be down: no heartbeat from ")


@full_size
def test_the_notifier_escalates_until_something_succeeds(run_dag, sandbox):
    """The steps are scheduled even if the first message is lost."""
    alerts = OmnimessageNotifier.callbacks(
        to=TO, text="{{ run_id }}", dedup_key="{{ dag.dag_id }}.work", escalate=STEPS
    )
    with DAG("notifies", schedule=None) as dag:

        @task(**alerts)
        def work(params):
            if params["fails"]:
                raise RuntimeError("as it should")

        work()
    dag.params["fails"] = True
    run = run_dag(dag, fails=True)
    assert [message["to"] for message in sandbox.messages] == [to for to, _ in PLANNED]
    assert texts(sandbox)[:2] == [run.run_id, f"2nd notice: {run.run_id}"]
    assert states(sandbox)[1:] == ["scheduled"] * 3
    run_dag(dag, fails=True)
    assert states(sandbox)[1:4] == ["scheduled"] * 3
    run_dag(dag, fails=False)
    # the digest stays, and nothing is sent about the success
    assert states(sandbox)[1:] == ["cancelled"] * 3 + ["scheduled"]
    assert event_store.variable_of("notifies.work") == "omnimessage_events__notifies.work"
