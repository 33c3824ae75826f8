"""Alerts with a window: they wait for it in their order, and are known, kept and cancelled as any other alert."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone

import pytest
from airflow.sdk import DAG, task
from full_size import full_size
from hypothesis import given
from hypothesis import strategies as st
from windows_by_hand import is_open_by_hand

from airflow_provider_omnimessage.alerts import DeadMansSwitch, HeartbeatOperator, Step
from airflow_provider_omnimessage.alerts import planning as planning_module
from airflow_provider_omnimessage.alerts.planning import Planner
from airflow_provider_omnimessage.alerts.steps import Notice
from airflow_provider_omnimessage.api.errors import InvalidInputError
from airflow_provider_omnimessage.api.timing import resolve, resolve_zone
from airflow_provider_omnimessage.api.windows import SendWindow
from airflow_provider_omnimessage.cli.alerts import known_alerts
from airflow_provider_omnimessage.hooks import choosing
from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook
from airflow_provider_omnimessage.notifications.omnimessage import OmnimessageNotifier

pytestmark = full_size

TO, OTHER, AMERICAN, WITHOUT_COUNTRY = "+37255555555", "+37255555556", "+12025550142", "+80012345678"
STEPS = [Step(after=timedelta(minutes=15), to=OTHER), Step(after=timedelta(minutes=30), to=[TO, OTHER])]
UTC = timezone.utc


class Closed:
    """A window of two hours that opens next in more than 20 hours."""

    def __init__(self) -> None:
        self.opens = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(hours=21)
        self.text = f"{self.opens:%H:%M}-{self.opens + timedelta(hours=2):%H:%M}; timezone=UTC"


@pytest.fixture
def closed():
    return Closed()


def plan(messages):
    return [(message["to"], datetime.fromisoformat(message["time_to_send"])) for message in messages]


def planned(opens):
    minutes = [(TO, 0), (OTHER, 15), (TO, 30), (OTHER, 30)]
    return [(to, opens + timedelta(minutes=after)) for to, after in minutes]


def states(sandbox):
    return {message["state"] for message in sandbox.messages}


@pytest.fixture
def guarded(dag, closed):
    """A switch with a window around one task that fails until it is told otherwise."""
    fails = [True]

    def guard(**settings):
        alert = {"to": TO, "text": "Late", "within": timedelta(hours=1), "escalate": STEPS, "window": closed.text}
        with dag, DeadMansSwitch("by_nine", **{**alert, **settings}) as switch:

            @task
            def work():
                if fails[0]:
                    raise RuntimeError("as it should")

            work()
        switch.arm.retry_delay = switch.disarm.retry_delay = timedelta(0)

    guard.fails = fails
    return guard


def test_an_alert_and_its_steps_wait_for_the_window_and_a_repaired_run_cancels_all(
    guarded, dag, run_dag, clear_and_run, sandbox, closed
):
    guarded()
    run = run_dag(dag)
    assert plan(sandbox.messages) == planned(closed.opens)
    assert states(sandbox) == {"scheduled"}
    choice = run.xcom("by_nine.arm", "time_choice")
    reason = f"outside the window '{closed.text}' (UTC)"
    deadline = run.xcom("by_nine.arm", "time_to_send")
    assert choice == {"wanted": deadline, "chosen": closed.opens.isoformat(), "reason": reason}
    assert f"Chosen: {closed.opens:%Y-%m-%d %H:%M:%S} UTC: {reason}" in run.log
    listed = [alert.time_to_send for alert in known_alerts() if alert.run_id == run.run_id]
    assert sorted(listed) == sorted(message["time_to_send"] for message in sandbox.messages)
    guarded.fails[0] = False
    clear_and_run(dag, run)
    assert states(sandbox) == {"cancelled"}
    assert len(sandbox.messages) == 4, "the cleared run keeps what is scheduled"


@pytest.mark.parametrize("kill_after", [3, 1])
@pytest.mark.usefixtures("each_try_has_a_process_of_its_own")
def test_arming_that_is_killed_keeps_what_waits_for_the_window(
    guarded, dag, run_dag, sandbox, die_instead_of_post, closed, kill_after
):
    guarded()
    guarded.fails[0] = False
    die_instead_of_post(kill_after + 1)
    run = run_dag(dag)
    assert run.tries["by_nine.arm"] == 2
    assert plan(sandbox.messages) == planned(closed.opens), "none twice: what was armed is known"
    deadline = datetime.fromisoformat(run.xcom("by_nine.arm", "time_to_send"))
    assert deadline < closed.opens - timedelta(hours=12), "the deadline stays that of the work"
    assert states(sandbox) == {"cancelled"}


def test_sent_now_means_once_in_the_window(guarded, dag, run_dag, clear_and_run, sandbox, closed):
    guarded(on_failure="send_now")
    run = run_dag(dag)
    assert plan(sandbox.messages) == planned(closed.opens)
    assert "The window is closed: the alert to +37255•••55 is sent at" in run.log
    guarded.fails[0] = False
    clear_and_run(dag, run)
    assert states(sandbox) == {"cancelled"}


def test_sent_now_goes_out_in_an_earlier_window_and_a_repaired_run_cancels_it(
    guarded, dag, run_dag, clear_and_run, sandbox, closed
):
    guarded(on_failure="send_now", within=timedelta(days=2), escalate=None)
    run = run_dag(dag)
    assert plan(sandbox.messages) == [(TO, closed.opens + timedelta(days=2)), (TO, closed.opens)]
    guarded.fails[0] = False
    clear_and_run(dag, run)
    assert states(sandbox) == {"cancelled"}


def test_a_run_that_starts_after_its_deadline_waits_for_the_window_too(
    guarded, dag, run_dag, clear_and_run, sandbox, closed
):
    late = "{{ (dag_run.run_after - macros.timedelta(hours=1)).isoformat() }}"
    guarded(within=None, time_to_send=late, on_failure="send_now")
    run = run_dag(dag)
    assert plan(sandbox.messages) == planned(closed.opens)
    assert "The window is closed: the alert to +37255•••55 is sent at" in run.log
    guarded.fails[0] = False
    clear_and_run(dag, run)
    assert states(sandbox) == {"cancelled"}


def test_sent_now_does_not_repeat_an_alert_to_those_whose_window_was_open(
    guarded, dag, run_dag, clear_and_run, sandbox
):
    # open in Tallinn, and some hours later in America
    opened = datetime.now(resolve_zone("Europe/Tallinn")).replace(second=0, microsecond=0) - timedelta(hours=1)
    window = f"{opened:%H:%M}-{opened + timedelta(hours=3):%H:%M}; timezone=recipient"
    late = "{{ (dag_run.run_after - macros.timedelta(hours=1)).isoformat() }}"
    guarded(to=[TO, AMERICAN], within=None, time_to_send=late, on_failure="send_now", escalate=None, window=window)
    run = run_dag(dag)
    assert [message["to"] for message in sandbox.messages] == [TO, AMERICAN]
    assert "The alert to +37255•••55 was already sent" in run.log
    guarded.fails[0] = False
    clear_and_run(dag, run)
    assert len(sandbox.messages) == 2
    assert sandbox.messages[1]["state"] == "cancelled"


def test_a_late_run_that_alerts_nobody_schedules_no_step_either(guarded, dag, run_dag, sandbox):
    guarded(within=None, time_to_send="{{ (dag_run.run_after - macros.timedelta(hours=48)).isoformat() }}")
    run = run_dag(dag)
    assert run.xcom("by_nine.arm", "silent") == "that is more than 24 hours ago"
    assert sandbox.messages == []


def test_each_beat_moves_the_messages_within_the_window(dag, run_dag, sandbox, closed):
    with dag:
        HeartbeatOperator(task_id="beat", to=TO, grace=timedelta(hours=1), escalate=STEPS, window=closed.text)
    for _ in range(2):
        run = run_dag(dag)
    assert [message["state"] for message in sandbox.messages] == ["cancelled"] * 4 + ["scheduled"] * 4
    assert plan(sandbox.messages) == planned(closed.opens) * 2
    assert run.xcom("beat", "time_choice")["chosen"] == closed.opens.isoformat()
    assert f"The message goes out at {closed.opens:%Y-%m-%d %H:%M:%S} UTC" in run.log


def test_the_window_of_the_connection_holds_for_alerts_that_ask_for_it_and_for_the_next_run(
    dag, run_dag, sandbox, monkeypatch, closed
):
    connection = {**sandbox.connection, "extra": {"window": closed.text}}
    monkeypatch.setenv("AIRFLOW_CONN_OMNIMESSAGE_DEFAULT", json.dumps(connection))
    alert = {"to": TO, "text": "late", "within": timedelta(minutes=15), "window": "connection"}
    with DeadMansSwitch("switch", next_run_within=timedelta(hours=1), **alert):

        @task
        def work(): ...

        work()
    run = run_dag(dag)
    assert plan(sandbox.messages) == [(TO, closed.opens)] * 2
    assert [message["state"] for message in sandbox.messages] == ["cancelled", "scheduled"]
    assert run.xcom("switch.next_run", "time_choice")["chosen"] == closed.opens.isoformat()


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize(
    "window",
    ["{{ params.no_such_window }}", SendWindow("09:00-20:00", holidays="{{ var.value.no_such_holidays }}")],
    ids=["undefined", "variable"],
)
def test_a_window_that_cannot_be_rendered_does_not_hold_an_alert_back(request, run_dag, sandbox, window, native):
    name = request.node.callspec.id.replace("-", "_")
    with DAG(f"unrendered_window_{name}", schedule=None, render_template_as_native_obj=native) as dag:
        HeartbeatOperator(task_id="beat", to=TO, grace=timedelta(hours=1), window=window)
        with DeadMansSwitch(
            "switch", to=TO, text="late", within=timedelta(hours=1), window=window, next_run_within=timedelta(hours=1)
        ):

            @task(on_failure_callback=OmnimessageNotifier(to=TO, text="the text", window=window))
            def work():
                raise RuntimeError("as it should")

            work()
    run = run_dag(dag)
    assert (run.tasks["beat"], run.tasks["switch.arm"], run.tasks["switch.next_run"]) == ("success",) * 3
    texts = {message["body"]["messages"][0]["text"].split(":")[0] for message in sandbox.messages}
    assert texts == {"Airflow may be down", "late", "the text", f"{dag.dag_id} (switch)"}
    assert "The window of this alert is ignored: window: its template cannot be rendered" in run.log


def planner(window, monkeypatch, now):
    for module, name in ((planning_module, "_now"), (choosing, "current_time")):
        monkeypatch.setattr(module, name, lambda: now)
    return Planner(OmnimessageHook(), OmnimessageHook().log, window)


def test_a_window_that_cannot_be_applied_does_not_hold_an_alert_back(sandbox, monkeypatch):
    now = datetime(2026, 11, 24, 1, tzinfo=UTC)
    notice = Notice(0, timedelta(0), [TO, WITHOUT_COUNTRY], [])
    found, problems = planner("09:00-20:00; timezone=recipient", monkeypatch, now).plan(
        [notice], resolve("2026-11-24T02:00Z", now=now)
    )
    assert [each.time.chosen.utc.hour for each in found] == [7, 2]
    assert problems == []


spans = st.builds(
    lambda start, length: (
        f"{start // 60:02}:{start % 60:02}-{(start + length) % 1440 // 60:02}:{(start + length) % 60:02}"
    ),
    st.integers(0, 1439),
    st.integers(1, 1439),
)


@given(
    hours=spans,
    own_zones=st.booleans(),
    begin=st.integers(-72 * 60, 72 * 60),
    gaps=st.lists(st.integers(1, 600), max_size=3),
    recipients=st.lists(st.sampled_from([TO, AMERICAN]), min_size=4, max_size=4),
)
def test_steps_keep_their_order_and_their_distance_in_any_window(hours, own_zones, begin, gaps, recipients):
    now = datetime(2026, 10, 24, 21, 0, tzinfo=UTC)  # a clock change is near
    window = SendWindow(hours, timezone="recipient" if own_zones else "UTC")
    afters = [sum(gaps[:count]) for count in range(len(gaps) + 1)]
    notices = [
        Notice(number, timedelta(minutes=after), to, [])
        for number, (after, to) in enumerate(zip(afters, recipients, strict=False))
    ]
    due = resolve(now + timedelta(minutes=begin), now=now)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv(
            "AIRFLOW_CONN_OMNIMESSAGE_DEFAULT", '{"conn_type": "omnimessage", "login": "a", "password": "b"}'
        )
        found, _ = planner(window, monkeypatch, now).plan(notices, due)
    times = [each.time.chosen.utc if each.time.chosen else now for each in found]
    zones = {TO: "Europe/Tallinn", AMERICAN: "America/New_York"}
    for each, time in zip(found, times, strict=True):
        zone = zones[each.to] if own_zones else "UTC"
        assert is_open_by_hand(window, time, [resolve_zone(zone)])
        assert time >= max(now, due.utc + each.notice.after)
    # a step of a late alert counts from the deadline, as it does without a window
    counted = [each.time.chosen.utc if each.time.chosen else due.utc for each in found]
    assert times == sorted(times)
    assert all(
        after - before >= timedelta(minutes=gap) for before, after, gap in zip(counted, counted[1:], gaps, strict=False)
    )


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"window": "9-20"}, "window.hours: '9-20' is not a span"),
        ({"window": "09:00-20:00", "to": lambda _: TO}, "window: cannot be combined with recipients that depend"),
        (
            {"window": "09:00-20:00", "escalate": [Step(timedelta(1), lambda _: TO)]},
            "window: cannot be combined with recipients that depend",
        ),
        (
            {"timezone": "recipient"},
            "timezone: 'recipient' is not accepted: this alert has one time for all recipients",
        ),
    ],
)
def test_what_cannot_be_is_rejected_while_the_dag_is_parsed(dag, settings, words):
    settings = {"to": TO, **settings}
    with pytest.raises(InvalidInputError) as caught, dag:
        DeadMansSwitch("switch", text="late", within=timedelta(hours=1), **settings)
    assert words in str(caught.value)
    with pytest.raises(InvalidInputError) as caught, dag:
        HeartbeatOperator(task_id="beat", grace=timedelta(hours=1), **settings)
    assert words in str(caught.value)
