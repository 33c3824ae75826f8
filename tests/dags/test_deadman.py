"""
The dead man's switch on real runs: a table of DAG shapes, and what becomes of the alert of each.

The invariant of every row: never silent when the work is not done, never an alert when it is, never a stray message.
"""

from __future__ import annotations

from datetime import timedelta

import pytest
from airflow.providers.standard.operators.python import ShortCircuitOperator
from airflow.sdk import TaskGroup, setup, task, task_group, teardown
from full_size import first
from guarded_work import ALERT, SOON, branch_to, doubles, fails, ok, runs

from airflow_provider_omnimessage.alerts import DeadMansSwitch


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


@pytest.mark.parametrize("shape", first(1, ON_TIME), ids=lambda shape: shape.__name__)
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


@pytest.mark.parametrize("shape", first(1, NOT_DONE), ids=lambda shape: shape.__name__)
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
    "shape", first(1, [group_that_a_branch_skips, group_behind_a_short_circuit, group_behind_a_task_that_skips_itself])
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
