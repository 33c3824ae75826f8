"""The edges of a dead man's switch: shapes of DAGs in which a switch was once silent, false or in the way."""

from __future__ import annotations

import copy
import inspect
from datetime import timedelta

import pytest
from airflow.providers.standard.operators.python import BranchPythonOperator
from airflow.sdk import DAG, BaseOperator, TaskGroup, task, task_group, teardown
from full_size import first, full_size
from guarded_work import ALERT, alerts, ends, ok, state
from lockstep import Lockstep
from shapes import HARMFUL

from airflow_provider_omnimessage.alerts.deadman import PASSED_ON, DeadMansSwitch
from airflow_provider_omnimessage.api.errors import InvalidInputError

pytestmark = pytest.mark.usefixtures("_airflow")


@pytest.fixture
def run(dag, sandbox, tmp_path):
    def running(**how):
        return Lockstep(dag, tmp_path).run(**how)

    return running


def branch(chosen, name="branch"):
    left = list(chosen)
    return BranchPythonOperator(
        task_id=name, python_callable=lambda: left.pop(0) if len(left) > 1 else left[0], retries=0
    )


class TestBranches:
    def test_a_branch_before_the_group_may_choose_one_of_its_tasks(self, run, sandbox):
        with DeadMansSwitch("by_nine", **ALERT) as switch:
            ok("a")
            ok("b")
        branch(["by_nine.a"]) >> switch
        ended = run()
        assert (state(ended, "by_nine.a"), state(ended, "by_nine.b")) == ("success", "skipped")
        assert alerts(sandbox) == ["cancelled"]

    @full_size
    def test_a_branch_in_the_group_may_choose_nothing(self, run, sandbox):
        with DeadMansSwitch("by_nine", **ALERT):
            branch([None]) >> [ok("a"), ok("b")]
        ended = run()
        assert state(ended, "by_nine.disarm") == "success"
        assert alerts(sandbox) == ["cancelled"]

    @full_size
    def test_a_branch_as_the_last_task_may_choose_what_follows_the_group(self, run, sandbox):
        with DeadMansSwitch("by_nine", **ALERT):
            ok("a") >> (last := branch(["other"]))
        last >> [ok("other"), ok("another")]
        ended = run()
        assert (state(ended, "other"), state(ended, "another")) == ("success", "skipped")
        assert alerts(sandbox) == ["cancelled"]

    @full_size
    def test_a_cleared_run_may_skip_the_group_that_failed(self, run, sandbox):
        with DeadMansSwitch("by_nine", **ALERT) as switch:
            ends("a", ["fail"])
        branch(["by_nine.a", "other"]) >> [switch, ok("other")]
        ended = run()
        assert alerts(sandbox) == ["scheduled"]
        ended.clear()
        ended.resume()
        assert state(ended, "by_nine.a") == "skipped"
        assert set(alerts(sandbox)) == {"cancelled"}


@full_size
class TestWhatIsOutsideTheGroup:
    def test_the_next_run_starts_although_disarm_failed(self, dag, run, sandbox):
        with DeadMansSwitch("by_nine", **ALERT):
            ok("a", wait_for_downstream=True) >> ends("b", ["success"], wait_for_downstream=True)
        first = run()
        sandbox.add_fault("unauthorized", call="cancel", times="always")
        second = run()
        assert state(second, "by_nine.disarm") == "failed"
        third = run()
        assert [state(each, "by_nine.b") for each in (first, second, third)] == ["success"] * 3

    def test_the_group_is_the_work_alone(self, dag):
        with TaskGroup("outer") as outer, DeadMansSwitch("by_nine", **ALERT) as switch:
            ok("a") >> ok("b")
        dag.validate()
        assert [each.task_id for each in switch] == ["outer.by_nine.a", "outer.by_nine.b"]
        assert [each.task_id for each in outer.roots] == ["outer.by_nine.a"]
        assert [each.task_id for each in outer.leaves] == ["outer.by_nine.b"]

    def test_a_dag_with_fail_fast_is_guarded(self, sandbox, tmp_path):
        with DAG("fail_fast", schedule=None, fail_fast=True) as dag:
            with DeadMansSwitch("by_nine", **ALERT) as switch:
                ok("a")
            ends("before", ["fail"]) >> switch
        ended = Lockstep(dag, tmp_path).run()
        assert state(ended, "by_nine.a") == "skipped"
        assert alerts(sandbox) == ["scheduled"]

    def test_an_alert_that_cannot_be_scheduled_does_not_stop_a_dag_with_fail_fast(self, sandbox, tmp_path):
        sandbox.add_fault("unauthorized", call="send")
        with DAG("fail_fast_unarmed", schedule=None, fail_fast=True) as dag, DeadMansSwitch("by_nine", **ALERT):
            ok("a")
        ended = Lockstep(dag, tmp_path).run()
        assert (state(ended, "by_nine.arm"), state(ended, "by_nine.a")) == ("skipped", "success")


@full_size
class TestWhoCounts:
    def test_a_task_with_the_name_of_a_mapped_instance_hides_nothing(self, run, sandbox):
        with DeadMansSwitch("by_nine", **ALERT):

            @task
            def load(number):
                if number:
                    raise RuntimeError("as the test says")

            load.expand(number=[0, 1])
            ok("load_1", trigger_rule="all_done")
        run(seed=1)
        assert alerts(sandbox) == ["scheduled"]

    def test_tasks_that_join_the_group_later_count(self, run, sandbox):
        with DeadMansSwitch("by_nine", **ALERT) as switch:
            ok("a")
        ends("late", ["fail"], task_group=switch)
        with switch:
            ok("later")
        run()
        assert alerts(sandbox) == ["scheduled"]

    def test_a_group_without_a_with_block_is_guarded(self, run, sandbox):
        switch = DeadMansSwitch("by_nine", **ALERT)
        ends("a", ["fail"], task_group=switch)
        run()
        assert alerts(sandbox) == ["scheduled"]

    def test_a_skipped_root_does_not_hide_a_failure(self, run, sandbox):
        with DeadMansSwitch("by_nine", **ALERT):
            ends("a", ["skip"]) >> ends("b", ["fail"], trigger_rule="all_done")
        run()
        assert alerts(sandbox) == ["scheduled"]

    def test_a_mapped_teardown_that_fails_the_run_counts(self, run, sandbox):
        with DeadMansSwitch("by_nine", **ALERT):

            @teardown(on_failure_fail_dagrun=True)
            def destroy(number):
                raise RuntimeError("as the test says")

            ok("a") >> destroy.expand(number=[0, 1])
        run()
        assert alerts(sandbox) == ["scheduled"]


@full_size
class TestCopies:
    def test_a_deep_copy_is_guarded(self, dag, sandbox, tmp_path):
        with DeadMansSwitch("by_nine", **ALERT):
            ok("a") >> ends("b", ["fail"])
        dag.validate()
        copied = copy.deepcopy(dag)
        copied.dag_id = f"{dag.dag_id}_copied"
        Lockstep(copied, tmp_path).run()
        assert alerts(sandbox) == ["scheduled"]

    def test_a_part_is_guarded_for_what_it_has(self, dag, sandbox, tmp_path):
        with DeadMansSwitch("by_nine", **ALERT):
            ok("a") >> ends("b", ["fail"])
        dag.validate()
        part = dag.partial_subset(["by_nine.a"])
        ended = Lockstep(part, tmp_path).run()
        assert (state(ended, "by_nine.a"), state(ended, "by_nine.disarm")) == ("success", "success")
        assert alerts(sandbox) == ["cancelled"]


class TestRequired:
    @pytest.mark.parametrize("rule", first(1, ["all_success", "all_done", "none_skipped", "none_failed"]))
    def test_it_holds_back_a_root_whatever_its_rule(self, run, sandbox, rule):
        sandbox.add_fault("unauthorized", call="send")
        with DeadMansSwitch("by_nine", required=True, **ALERT) as switch:
            ok("a", trigger_rule=rule) >> ok("b", trigger_rule="all_done")
        ok("before") >> switch
        ended = run()
        assert state(ended, "before") == "success"
        assert {state(ended, f"by_nine.{name}") for name in "ab"} == {"upstream_failed"}

    @pytest.mark.parametrize("rule", ["all_success", "one_done"])
    def test_to_clear_the_work_arms_again_and_the_work_runs(self, run, sandbox, rule):
        sandbox.add_fault("unauthorized", call="send")
        with DeadMansSwitch("by_nine", required=True, **ALERT):
            ok("a", trigger_rule=rule)
        ended = run()
        assert state(ended, "by_nine.arm") == "failed"
        assert state(ended, "by_nine.a") == "upstream_failed"
        sandbox.clear_faults()
        ended.clear(["by_nine.a"], downstream=True)
        ended.resume()
        assert {state(ended, f"by_nine.{name}") for name in ("arm", "a", "disarm")} == {"success"}
        assert alerts(sandbox) == ["cancelled"]

    @pytest.mark.parametrize("rule", ["always", "one_failed", "all_skipped", "none_failed_min_one_success"])
    def test_what_cannot_be_held_back_is_named(self, dag, rule):
        with DeadMansSwitch("by_nine", required=True, **ALERT) as switch:
            ok("a", trigger_rule=rule)
        ok("before") >> switch
        with pytest.raises(InvalidInputError, match=f"cannot hold back by_nine.a, .*{rule}.*; "):
            dag.validate()

    def test_a_teardown_is_held_back_with_its_setup(self, run, sandbox):
        sandbox.add_fault("unauthorized", call="send")
        with DeadMansSwitch("by_nine", required=True, **ALERT):
            begin = ok("begin").as_setup()
            begin >> ok("a") >> ok("end").as_teardown(setups=begin)
        ended = run()
        assert {state(ended, f"by_nine.{name}") for name in ("begin", "a", "end")} == {"upstream_failed"}

    @pytest.mark.parametrize("setup", ["none", "outside"])
    def test_a_teardown_without_a_setup_is_named(self, dag, setup):
        begin = ok("begin").as_setup() if setup == "outside" else None
        with DeadMansSwitch("by_nine", required=True, **ALERT):
            ok("a") >> ok("end").as_teardown(setups=begin)
        with pytest.raises(InvalidInputError, match=r"cannot hold back by_nine.end, which is a teardown without"):
            dag.validate()


class TestWhatCannotBeGuarded:
    def test_a_switch_in_a_mapped_group_is_named(self, dag):
        @task_group
        def each(number):
            with DeadMansSwitch("by_nine", **ALERT):
                ok("a")

        each.expand(number=[1, 2])
        with pytest.raises(InvalidInputError, match=r"'each.by_nine': is inside a mapped task group"):
            dag.validate()

    def test_a_rule_that_counts_what_is_not_there_is_named(self, dag):
        with DeadMansSwitch("by_nine", **ALERT):
            ok("a", trigger_rule="one_failed")
        with pytest.raises(InvalidInputError, match=r"cannot guard by_nine.a, whose trigger_rule 'one_failed'"):
            dag.validate()

    @pytest.mark.parametrize("place", ["alone", "beside"])
    def test_a_group_whose_tasks_do_not_count_is_named(self, dag, place):
        if place == "beside":
            ok("other")
        with DeadMansSwitch("by_nine", **ALERT):
            ok("a").as_teardown()
        with pytest.raises(
            InvalidInputError, match=r"'by_nine': has only setups and teardowns, which do not count as work; put"
        ):
            dag.validate()

    @pytest.mark.parametrize("after", ["nothing", "a teardown", "a task outside"])
    def test_a_setup_without_work_after_it_is_named(self, dag, after):
        """To clear it would not clear disarm, so nobody would hear of its failure."""
        with DeadMansSwitch("by_nine", **ALERT):
            ok("a")
            made = ok("create").as_setup()
            if after == "a teardown":
                made >> ok("destroy").as_teardown(setups=made)
        if after == "a task outside":
            made >> ok("after")
        with pytest.raises(InvalidInputError, match=r"'by_nine': has a setup with no work after it, by_nine.create; "):
            dag.validate()

    @full_size
    def test_a_setup_of_work_behind_a_task_outside_is_guarded(self, run, sandbox):
        with DeadMansSwitch("by_nine", **ALERT):
            made = ends("create", ["success", "fail"]).as_setup()
            work = ok("a")
        made >> ok("outside") >> work
        ended = run()
        assert alerts(sandbox) == ["cancelled"]
        ended.clear(["by_nine.create"], downstream=True)
        ended.resume()
        assert alerts(sandbox) == ["cancelled", "scheduled"]

    def test_a_teardown_that_fails_the_run_is_work(self, dag):
        with DeadMansSwitch("by_nine", **ALERT) as switch:
            ok("a").as_teardown(on_failure_fail_dagrun=True)
        dag.validate()
        assert switch.disarm.upstream_task_ids >= {"by_nine.a"}


class TestDefaultArgs:
    NAMES = sorted(
        set(inspect.signature(BaseOperator.__init__).parameters)
        - {"self", "task_id", "dag", "task_group", "kwargs", "default_args", "params", "start_date", "end_date"}
        - PASSED_ON
    )

    @pytest.mark.parametrize("name", NAMES)
    def test_none_reaches_the_switch(self, name):
        strange = object() if name not in HARMFUL else HARMFUL[name]
        with DAG("usual", schedule=None), DeadMansSwitch("by_nine", **ALERT) as usual:
            pass
        with DAG("strange", schedule=None, default_args={name: strange}), DeadMansSwitch("by_nine", **ALERT) as other:
            pass
        for expected, found in ((usual.arm, other.arm), (usual.disarm, other.disarm)):
            value = getattr(found, name, None)
            assert value is not strange
            assert inspect.ismethod(value) or inspect.isfunction(value) or value == getattr(expected, name, None)

    def test_where_tasks_run_holds_for_the_switch_too(self):
        with DAG("queued", schedule=None, default_args={"queue": "far", "owner": "us"}):
            switch = DeadMansSwitch("by_nine", **ALERT)
        assert (switch.arm.queue, switch.disarm.owner) == ("far", "us")

    def test_pool_queue_and_priority_of_a_switch_are_those_of_its_own_tasks_alone(self):
        own_slots = {"pool": "alerts", "queue": "near", "priority_weight": 100}
        with (
            DAG("queued", schedule=None, default_args={"queue": "far"}),
            DeadMansSwitch("by_nine", **own_slots, **ALERT) as switch,
        ):
            work = ok("work")
        for own in (switch.arm, switch.disarm):
            assert (own.pool, own.queue, own.priority_weight) == ("alerts", "near", 100)
        assert (work.pool, work.queue, work.priority_weight) == ("default_pool", "far", 1)

    def test_the_tries_of_arm_and_disarm_outlast_an_outage_of_five_minutes(self):
        with DAG("patient", schedule=None), DeadMansSwitch("by_nine", **ALERT) as switch:
            pass
        for own in (switch.arm, switch.disarm):
            assert own.retry_exponential_backoff
            shortest = [own.retry_delay * 2**number for number in range(own.retries)]
            assert shortest[0] == timedelta(seconds=20)
            # the last try of arm only keeps what earlier ones have scheduled
            assert sum(shortest[:-1], timedelta()) >= timedelta(minutes=5)


def test_a_mapped_group_in_the_switch_may_hold_a_task_that_always_runs(dag):
    with DeadMansSwitch("by_nine", **ALERT) as switch:

        @task_group
        def each(number):
            ok("always", trigger_rule="always")

        each.expand(number=[1, 2])

    assert switch.disarm.work == ["by_nine.each.always"]
