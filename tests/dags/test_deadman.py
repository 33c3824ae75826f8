"""
The dead man's switch on real runs: a table of DAG shapes, and what becomes of the alert of each.

The invariant of every row: never silent when the work is not done, never an alert when it is, never a stray message.
"""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.operators.python import ShortCircuitOperator
from airflow.sdk import DAG, TaskGroup, setup, task, task_group, teardown

from airflow_provider_omnimessage.alerts import DeadMansSwitch
from airflow_provider_omnimessage.api.errors import InvalidInputError
from airflow_provider_omnimessage.api.messages import sms, viber

TO = "+37255555555"
SOON = timedelta(hours=1)
ALERT = {"to": TO, "text": "Late: {{ dag.dag_id }} {{ run_id }}", "time_to_send": SOON}


@pytest.fixture
def dag(request):
    with DAG(re.sub(r"\W+", "_", request.node.name), schedule=None) as dag:
        yield dag


def ok(name="ok", **settings):
    return EmptyOperator(task_id=name, **settings)


def fails(name="fails", **settings):
    @task(task_id=name, **settings)
    def failing():
        raise RuntimeError("as it should")

    return failing()


def runs(name="runs", **settings):
    @task(task_id=name, **settings)
    def working():
        return [1, 2, 3]

    return working()


def doubles(name="mapped", fail_at=None, **settings):
    @task(task_id=name, **settings)
    def double(number):
        if number == fail_at:
            raise RuntimeError("as it should")
        return number * 2

    return double


def branch_to(chosen):
    @task.branch(task_id="branch")
    def branch():
        return chosen

    return branch()


def chain():
    with DeadMansSwitch("by_nine", **ALERT):
        ok("extract") >> ok("transform") >> ok("load")


def one_task():
    with DeadMansSwitch("by_nine", **ALERT):
        runs()


def several_roots_and_leaves():
    with DeadMansSwitch("by_nine", **ALERT):
        a, b, c, d = (ok(name) for name in "abcd")
        [a, b] >> c
        a >> d


def nested_groups():
    with DeadMansSwitch("by_nine", **ALERT):
        with TaskGroup("outer"):
            with TaskGroup("inner"):
                ok("a") >> ok("b")
            ok("c")
        ok("d")


def inside_another_group_between_others():
    with TaskGroup("outer"):
        with DeadMansSwitch("by_nine", **ALERT) as switch:
            ok("a") >> ok("b")
        ok("before") >> switch >> ok("after")


def without_prefix():
    with DeadMansSwitch("by_nine", prefix_group_id=False, **ALERT):
        ok("a")


def mapped_tasks():
    with DeadMansSwitch("by_nine", **ALERT):
        doubles().expand(number=runs())


def mapped_over_nothing():
    with DeadMansSwitch("by_nine", **ALERT):
        doubles().expand(number=[])
        ok("other")


def mapped_group():
    with DeadMansSwitch("by_nine", **ALERT):

        @task_group
        def each(number):
            doubles("second")(doubles("first")(number))

        each.expand(number=[1, 2])


def setup_and_teardown_inside():
    with DeadMansSwitch("by_nine", **ALERT):

        @setup
        def create(): ...

        @teardown
        def destroy(): ...

        create() >> ok("work") >> destroy()


def teardown_that_fails_inside():
    with DeadMansSwitch("by_nine", **ALERT):

        @teardown
        def destroy():
            raise RuntimeError("as Airflow forgives")

        ok("work") >> destroy()


def branch_inside():
    with DeadMansSwitch("by_nine", **ALERT):
        branch_to("by_nine.a") >> [ok("a"), ok("b")] >> ok("join", trigger_rule="none_failed_min_one_success")


def branch_that_leaves_leaves_skipped():
    with DeadMansSwitch("by_nine", **ALERT):
        branch_to("by_nine.a") >> [ok("a"), ok("b") >> ok("c")]


def short_circuit_inside():
    with DeadMansSwitch("by_nine", **ALERT):
        ShortCircuitOperator(task_id="enough", python_callable=lambda: False) >> ok("a") >> ok("b")


def short_circuit_of_what_follows():
    with DeadMansSwitch("by_nine", **ALERT) as switch:
        ShortCircuitOperator(task_id="enough", python_callable=lambda: False)
    switch >> ok("after")


def skip_by_exception_inside():
    with DeadMansSwitch("by_nine", **ALERT):

        @task
        def skips():
            from airflow.sdk.exceptions import AirflowSkipException

            raise AirflowSkipException

        skips() >> ok("a")


def root_with_all_done():
    with DeadMansSwitch("by_nine", **ALERT):
        ok("a", trigger_rule="all_done") >> ok("b")


def after_a_branch_that_joins_in_the_group():
    a, b = ok("a"), ok("b")
    with DeadMansSwitch("by_nine", **ALERT) as switch:
        ok("join", trigger_rule="none_failed_min_one_success") >> ok("work")
    branch_to("a") >> [a, b] >> switch


def root_that_counts_what_is_before_it():
    with DeadMansSwitch("by_nine", **ALERT) as switch:
        # were arming counted among what is before it, it would be skipped, and so would the work
        ok("begin", trigger_rule="all_skipped") >> ok("work")

    @task
    def skips():
        from airflow.sdk.exceptions import AirflowSkipException

        raise AirflowSkipException

    skips() >> switch


def default_args_that_would_hurt():
    with DeadMansSwitch("by_nine", default_args={"trigger_rule": "none_failed", "depends_on_past": True}, **ALERT):
        ok("a") >> ok("b")


def two_switches_one_in_the_other():
    with DeadMansSwitch("outer", **ALERT), DeadMansSwitch("inner", **ALERT):
        ok("a")


def retried_work():
    with DeadMansSwitch("by_nine", **ALERT):

        @task(retries=1, retry_delay=timedelta(0))
        def flaky(ti=None):
            if ti.try_number == 1:
                raise RuntimeError("once")

        flaky()


ON_TIME = [
    chain,
    one_task,
    several_roots_and_leaves,
    nested_groups,
    inside_another_group_between_others,
    without_prefix,
    mapped_tasks,
    mapped_over_nothing,
    mapped_group,
    setup_and_teardown_inside,
    teardown_that_fails_inside,
    branch_inside,
    branch_that_leaves_leaves_skipped,
    short_circuit_inside,
    short_circuit_of_what_follows,
    skip_by_exception_inside,
    root_with_all_done,
    after_a_branch_that_joins_in_the_group,
    root_that_counts_what_is_before_it,
    default_args_that_would_hurt,
    two_switches_one_in_the_other,
    retried_work,
]


@pytest.mark.parametrize("shape", ON_TIME, ids=lambda shape: shape.__name__)
def test_work_done_in_time_alerts_nobody(dag, run_dag, sandbox, shape):
    shape()
    run = run_dag(dag)
    sandbox.advance(SOON * 2)
    assert run.state == "success", run.tasks
    if shape is root_that_counts_what_is_before_it:
        assert run.tasks["by_nine.work"] == "success"
    assert len(sandbox.messages) == (2 if shape is two_switches_one_in_the_other else 1)
    assert {(message["state"], message["sent_at"]) for message in sandbox.messages} == {("cancelled", None)}


def first_fails():
    with DeadMansSwitch("by_nine", **ALERT):
        fails() >> ok("a")


def last_fails():
    with DeadMansSwitch("by_nine", **ALERT):
        ok("a") >> fails()


def one_of_several_fails():
    with DeadMansSwitch("by_nine", **ALERT):
        ok("a") >> ok("b")
        fails() >> ok("c")


def failure_that_a_later_task_covers():
    with DeadMansSwitch("by_nine", **ALERT):
        fails() >> ok("cleanup", trigger_rule="all_done")


def failure_in_a_nested_group():
    with DeadMansSwitch("by_nine", **ALERT):
        with TaskGroup("inner"):
            fails()
        ok("a")


def one_mapped_instance_fails():
    with DeadMansSwitch("by_nine", **ALERT):
        doubles(fail_at=2).expand(number=runs()) >> ok("after", trigger_rule="all_done")


def failure_in_a_mapped_group():
    with DeadMansSwitch("by_nine", **ALERT):

        @task_group
        def each(number):
            doubles("second")(doubles("first", fail_at=2)(number))

        each.expand(number=[1, 2])


def setup_inside_fails():
    with DeadMansSwitch("by_nine", **ALERT):
        work = ok("work")
        created = fails("create")
        created.operator.as_setup()
        created >> work


def teardown_that_fails_the_run():
    with DeadMansSwitch("by_nine", **ALERT):

        @teardown(on_failure_fail_dagrun=True)
        def destroy():
            raise RuntimeError("as it should")

        ok("work") >> destroy()


def what_comes_before_the_group_fails():
    with DeadMansSwitch("by_nine", **ALERT) as switch:
        ok("a")
    fails() >> switch


def chosen_branch_fails():
    with DeadMansSwitch("by_nine", **ALERT):
        branch_to("by_nine.fails") >> [fails(), ok("b")] >> ok("join", trigger_rule="all_done")


def fast_leaf_beside_a_failure():
    with DeadMansSwitch("by_nine", **ALERT):
        [ok("a"), fails()] >> ok("join", trigger_rule="one_success")


NOT_DONE = [
    first_fails,
    last_fails,
    one_of_several_fails,
    failure_that_a_later_task_covers,
    failure_in_a_nested_group,
    one_mapped_instance_fails,
    failure_in_a_mapped_group,
    setup_inside_fails,
    teardown_that_fails_the_run,
    what_comes_before_the_group_fails,
    chosen_branch_fails,
    fast_leaf_beside_a_failure,
]


@pytest.mark.parametrize("shape", NOT_DONE, ids=lambda shape: shape.__name__)
def test_work_that_fails_lets_the_alert_go_out_at_its_time(dag, run_dag, sandbox, shape):
    shape()
    run = run_dag(dag)
    (message,) = sandbox.messages
    assert message["state"] == "scheduled", run.tasks
    assert run.tasks["by_nine.disarm"] == "failed"
    sandbox.advance(SOON * 2)
    (message,) = sandbox.messages
    assert message["sent_at"] == message["time_to_send"]
    assert message["body"]["messages"][0]["text"].startswith(f"Late: {dag.dag_id} manual__")


def group_that_a_branch_skips():
    with DeadMansSwitch("by_nine", **ALERT) as switch:
        ok("a") >> ok("b")
    branch_to("other") >> [ok("other"), switch]


def group_behind_a_short_circuit():
    with DeadMansSwitch("by_nine", **ALERT) as switch:
        ok("a")
    ShortCircuitOperator(task_id="enough", python_callable=lambda: False) >> switch


def group_behind_a_task_that_skips_itself():
    with DeadMansSwitch("by_nine", **ALERT) as switch:
        ok("a")

    @task
    def skips():
        from airflow.sdk.exceptions import AirflowSkipException

        raise AirflowSkipException

    skips() >> switch


@pytest.mark.parametrize(
    "shape", [group_that_a_branch_skips, group_behind_a_short_circuit, group_behind_a_task_that_skips_itself]
)
def test_a_group_that_is_skipped_is_not_late(dag, run_dag, sandbox, shape):
    shape()
    run = run_dag(dag)
    assert run.state == "success"
    assert {run.tasks[task] for task in run.tasks if task.startswith("by_nine.a") and "arm" not in task} == {"skipped"}
    assert [message["state"] for message in sandbox.messages] == ["cancelled"]


def test_disarming_waits_for_every_task_not_only_for_the_leaves(dag):
    # one_success ends, and with it the last leaf, while slow is still at work
    with DeadMansSwitch("by_nine", **ALERT) as switch:
        [ok("fast"), ok("slow")] >> ok("join", trigger_rule="one_success")
    assert {"by_nine.fast", "by_nine.slow", "by_nine.join"} < switch.disarm.upstream_task_ids


class TestTheAlert:
    def test_it_is_scheduled_before_the_first_task_and_cancelled_after_the_last(self, dag, run_dag, sandbox):
        seen = {}

        def look(name):
            @task(task_id=name)
            def looking():
                seen[name] = [message["state"] for message in sandbox.messages]

            return looking()

        with DeadMansSwitch("by_nine", **ALERT) as switch:
            look("first") >> look("last")
        look("before") >> switch
        run_dag(dag)
        assert seen == {"before": [], "first": ["scheduled"], "last": ["scheduled"]}
        assert sandbox.messages[0]["state"] == "cancelled"

    def test_many_recipients_all_channels_and_settings(self, dag, run_dag, sandbox):
        with DeadMansSwitch(
            "by_nine",
            to=[TO, "+37255555{{ 556 }}", TO],
            messages=[viber("Late {{ dag.dag_id }}", ttl=60), sms("Late")],
            time_to_send="2099-01-01T09:00",
            timezone="Europe/Tallinn",
            dlr_url="http://127.0.0.1:9/dlr",
            text_store="sha256",
            priority="high",
        ):
            fails()
        run_dag(dag)
        assert [message["body"] for message in sandbox.messages] == [
            {
                "to": to,
                "messages": [
                    {"channel": "viber", "text": f"Late {dag.dag_id}", "ttl": 60},
                    {"channel": "sms", "text": "Late"},
                ],
                "time_to_send": "2099-01-01T07:00:00+00:00",
                "dlr_url": "http://127.0.0.1:9/dlr",
                "text_store": "sha256",
                "priority": "high",
            }
            for to in (TO, "+37255555556")
        ]

    def test_the_log_shows_no_text_and_no_whole_number(self, dag, run_dag):
        with DeadMansSwitch("by_nine", to=TO, text="S3CRET", time_to_send="2099-01-01T09:00"):
            ok("a")
        log = run_dag(dag).log
        said = [line for line in log.splitlines() if "goes out at" in line or "is cancelled" in line]
        assert "The alert to +37255•••55 goes out at 2099-01-01 09:00:00 UTC unless it is cancelled" in said[0]
        assert "Done in time" in said[-1]
        assert not any("S3CRET" in line or TO in line for line in said)

    def test_two_runs_have_an_alert_each(self, dag, run_dag, sandbox):
        with DeadMansSwitch("by_nine", **ALERT):

            @task
            def work(params=None, dag_run=None):
                if dag_run.conf.get("fails"):
                    raise RuntimeError("as it should")

            work()
        run_dag(dag, fails=True)
        run_dag(dag)
        assert [message["state"] for message in sandbox.messages] == ["scheduled", "cancelled"]


class TestWorkThatIsLate:
    def test_done_after_the_deadline_says_so_and_does_not_fail(self, dag, run_dag, sandbox):
        @task
        def slow():
            sandbox.advance(SOON * 2)

        with DeadMansSwitch("by_nine", **ALERT):
            slow()
        run = run_dag(dag)
        assert run.state == "success"
        assert run.tasks["by_nine.disarm"] == "success"
        assert "Done, but late: the alert" in run.log
        assert sandbox.messages[0]["state"] == "delivered"

    def test_a_run_that_starts_after_its_deadline_is_alerted_at_once(self, dag, run_dag, sandbox):
        with DeadMansSwitch(
            "by_nine", to=TO, text="Late", time_to_send="{{ macros.datetime.utcnow() - macros.timedelta(hours=2) }}"
        ):
            ok("a")
        run = run_dag(dag)
        (message,) = sandbox.messages
        assert "time_to_send" not in message["body"]
        assert message["sent_at"] is not None
        assert run.state == "success"
        assert "passed before the work started" in run.log

    def test_a_deadline_long_past_stays_silent(self, dag, run_dag, sandbox):
        with DeadMansSwitch("by_nine", to=TO, text="Late", time_to_send="2020-01-01T09:00"):
            ok("a")
        run = run_dag(dag)
        assert sandbox.messages == []
        assert run.state == "success"
        assert "nobody is alerted: that is more than 24 hours ago" in run.log


class TestSendNow:
    def test_failed_work_is_told_as_soon_as_all_has_ended(self, dag, run_dag, sandbox):
        with DeadMansSwitch("by_nine", on_failure="send_now", **ALERT):
            fails()
        run = run_dag(dag)
        scheduled, sent = sandbox.messages
        # a repaired run that hangs has this one
        assert scheduled["state"] == "scheduled"
        assert sent["sent_at"] is not None
        assert run.state == "failed"

    def test_work_done_in_time_is_not_told(self, dag, run_dag, sandbox):
        with DeadMansSwitch("by_nine", on_failure="send_now", **ALERT):
            ok("a")
        run_dag(dag)
        assert [message["state"] for message in sandbox.messages] == ["cancelled"]

    def test_what_has_gone_out_at_its_time_is_not_sent_again(self, dag, run_dag, sandbox):
        with DeadMansSwitch(
            "by_nine",
            to=TO,
            text="Late",
            on_failure="send_now",
            time_to_send="{{ macros.datetime.utcnow() - macros.timedelta(minutes=1) }}",
        ):
            fails()
        run_dag(dag)
        assert len(sandbox.messages) == 1

    def test_the_scheduled_alert_stands_where_sending_fails(self, dag, run_dag, sandbox):
        sandbox.add_fault("unauthorized", call="send", after=1, times="always")
        with DeadMansSwitch("by_nine", on_failure="send_now", **ALERT):
            fails()
        run_dag(dag)
        assert [message["state"] for message in sandbox.messages] == ["scheduled"]

    def test_failed_work_is_told_even_where_nothing_was_scheduled(self, dag, run_dag, sandbox):
        sandbox.add_fault("unauthorized", call="send")
        with DeadMansSwitch("by_nine", on_failure="send_now", **ALERT):
            fails()
        run_dag(dag)
        # the second one at the deadline, unless the run is repaired and done by then
        assert sorted(message["sent_at"] is not None for message in sandbox.messages) == [False, True]


class TestTheAlertNeverBlocksTheWork:
    @pytest.mark.parametrize(
        ("fault", "settings"),
        [
            ("unauthorized", {}),
            ("server_error", {}),
            ("rate_limited", {}),
            ("cut", {}),
            (None, {"time_to_send": "{{ 'soon' }}"}),
            (None, {"time_to_send": "{{ nothing.at.all }}"}),
            (None, {"to": "{{ 'nobody' }}"}),
            (None, {"omnimessage_conn_id": "nobodys"}),
        ],
    )
    def test_the_work_runs_and_the_log_says_that_there_is_no_alert(self, dag, run_dag, sandbox, fault, settings):
        if fault:
            sandbox.add_fault(fault, call="send", times="always")
        with DeadMansSwitch("by_nine", **{**ALERT, **settings}):
            ok("a")
        run = run_dag(dag)
        assert run.state == "success"
        assert {task: state for task, state in run.tasks.items() if state != "success"} == {"by_nine.arm": "failed"}
        assert "THE ALERT IS NOT SCHEDULED" in run.log
        assert sandbox.messages == []

    def test_one_recipient_of_many_does_not_cost_the_others_their_alert(self, dag, run_dag, sandbox):
        with DeadMansSwitch("by_nine", to=["+37255550005", TO], text="Late", time_to_send=SOON):
            ok("a")
        run = run_dag(dag)
        assert [(message["to"], message["state"]) for message in sandbox.messages] == [(TO, "cancelled")]
        assert "No alert for +37255•••05" in run.log

    def test_unless_it_is_required(self, dag, run_dag, sandbox):
        sandbox.add_fault("unauthorized", call="send")
        with DeadMansSwitch("by_nine", required=True, **ALERT):
            ok("a")
        run = run_dag(dag)
        assert run.tasks == {
            "by_nine.arm": "failed",
            "by_nine.after_arm": "upstream_failed",
            "by_nine.a": "upstream_failed",
            "by_nine.disarm": "upstream_failed",
        }

    @pytest.mark.parametrize("fault", ["unauthorized", "cut"])
    def test_where_the_network_is_cut_the_run_succeeds_and_the_alert_goes_out(self, dag, run_dag, sandbox, fault):
        with DeadMansSwitch("by_nine", **ALERT) as switch:

            @task
            def cut():
                sandbox.add_fault(fault, times="always")

            cut()
        switch.disarm.retry_delay = timedelta(0)
        run = run_dag(dag)
        assert (run.state, run.tasks["by_nine.disarm"]) == ("success", "failed")
        sandbox.advance(SOON * 2)
        assert [message["state"] for message in sandbox.messages] == ["delivered"]


class TestWhileTheDagIsParsed:
    @pytest.mark.parametrize(
        ("settings", "said"),
        [
            ({"text": None}, "text: found neither"),
            ({"messages": [sms("a")]}, "text: found both"),
            ({"text": None, "messages": [{"channel": "sms", "tll": 5}]}, "no such field"),
            ({"on_failure": "panic"}, "on_failure"),
            ({"required": "yes"}, "required"),
        ],
    )
    def test_what_is_wrong_is_named(self, dag, settings, said):
        with pytest.raises(InvalidInputError, match=said):
            DeadMansSwitch("by_nine", **{**ALERT, **settings})

    def test_an_empty_group_is_invalid(self, dag):
        with DeadMansSwitch("by_nine", **ALERT):
            pass
        with pytest.raises(InvalidInputError, match="has no tasks"):
            dag.validate()

    def test_an_error_in_the_work_is_not_covered_by_another(self, dag):
        with pytest.raises(ZeroDivisionError), DeadMansSwitch("by_nine", **ALERT):
            raise ZeroDivisionError
