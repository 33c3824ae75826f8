"""Waiting for a delivery, and going on by its outcome."""

from __future__ import annotations

from datetime import timedelta

import pytest
from airflow.sdk import DAG, task
from delivery_sensor import (
    STUCK,
    UNDELIVERABLE,
    UNKNOWN,
    a_sensor,
    in_every_mode,
)
from full_size import first, full_size

from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook

pytestmark = pytest.mark.usefixtures("short_waits")


@in_every_mode
class TestWaitAndBranch:
    """What a DAG can do about a message that was not delivered."""

    OUTCOMES = pytest.mark.parametrize(
        ("option", "outcome"),
        [("on_failed", "failed"), ("on_cancelled", "cancelled"), ("on_timeout", "in_progress")],
    )

    @pytest.fixture
    def message(self, sent):
        def make(option):
            if option == "on_cancelled":
                id_ = sent(time_to_send=timedelta(hours=1), seconds=0)
                OmnimessageHook().cancel(id_)
                return {"omnimessage_id": id_}
            return {"omnimessage_id": sent(UNDELIVERABLE if option == "on_failed" else STUCK)}

        return make

    @full_size
    @OUTCOMES
    def test_return_succeeds_with_the_report(self, dag, run_dag, message, mode, option, outcome):
        wait = a_sensor(**message(option), timeout=30 if option != "on_timeout" else 0.5, **{option: "return"}, **mode)

        @task
        def read(report):
            return report["outcome"]

        read(wait.output)
        run = run_dag(dag)
        assert run.tasks == {"wait": "success", "read": "success"}
        assert run.xcom("read") == outcome

    @OUTCOMES
    @pytest.mark.parametrize(("action", "state"), first(1, [("fail", "failed"), ("skip", "skipped")]))
    def test_the_report_is_pushed_before_the_task_ends_otherwise(
        self, dag, run_dag, message, mode, option, outcome, action, state
    ):
        a_sensor(**message(option), timeout=30 if option != "on_timeout" else 0.5, **{option: action}, **mode)
        run = run_dag(dag)
        assert run.tasks == {"wait": state}
        assert run.xcom("wait")["outcome"] == outcome

    def test_an_unknown_message_fails_in_any_case(self, dag, run_dag, sandbox, mode):
        options = {"on_failed": "return", "on_cancelled": "return", "on_timeout": "return"}
        a_sensor(omnimessage_id=UNKNOWN, time_to_send="2020-01-01T09:00", **options, **mode)
        run = run_dag(dag)
        assert run.tasks == {"wait": "failed"}
        assert run.xcom("wait")["outcome"] == "unknown"

    @pytest.mark.parametrize(
        ("wrong", "reason", "may_pass"),
        [
            ({"omnimessage_id": UNKNOWN, "time_to_send": "2020-01-01T09:00"}, "unknown to Messente", False),
            ({"omnimessage_id": "no id"}, "'no id' is not an id", False),
            ({"omnimessage_id": UNKNOWN, "omnimessage_conn_id": "nobodys"}, "nobodys", True),
        ],
        ids=["message", "id", "connection"],
    )
    def test_soft_fail_and_never_fail_skip_whatever_is_wrong(
        self, dag, run_dag, sandbox, mode, wrong, reason, may_pass
    ):
        a_sensor(task_id="soft", soft_fail=True, **wrong, **mode)
        a_sensor(task_id="never", never_fail=True, **wrong, **mode)
        run = run_dag(dag)
        assert run.tasks == {"soft": "failed" if may_pass else "skipped", "never": "skipped"}
        skips = [line for line in run.log.splitlines() if "Skipping task" in line]
        assert len(skips) == (1 if may_pass else 2)
        assert all(reason in line for line in skips)

    def test_without_xcom_push_nothing_is_pushed(self, dag, run_dag, sent, mode):
        a_sensor(omnimessage_id=sent(UNDELIVERABLE), do_xcom_push=False, **mode)
        run = run_dag(dag)
        assert run.tasks == {"wait": "failed"}
        assert run.xcoms("wait") == []


class TestWhereASuccessEnds:
    @pytest.mark.parametrize(
        ("settings", "in_triggerer"),
        [
            ({}, True),
            ({"on_success_callback": print}, False),
            ({"post_execute": print}, False),
            ({"do_xcom_push": False}, False),
        ],
    )
    def test_in_the_triggerer_unless_a_worker_has_more_to_do(self, dag, settings, in_triggerer):
        assert a_sensor(omnimessage_id=UNKNOWN, **settings)._may_end_in_triggerer() is in_triggerer

    def test_an_asset_is_updated_by_a_worker(self, dag):
        from airflow.sdk import Asset

        assert not a_sensor(omnimessage_id=UNKNOWN, outlets=[Asset("delivered")])._may_end_in_triggerer()

    def test_a_worker_ends_it_if_tasks_are_mapped_over_the_reports(self):
        @task
        def tell(report):
            return report["outcome"]

        with DAG("mapped_over_reports", schedule=None):
            mapped_over, read = (a_sensor(task_id=name, omnimessage_id=[UNKNOWN]) for name in ("mapped_over", "read"))
            tell.override(task_id="each").expand(report=mapped_over.output)
            tell.override(task_id="all")(read.output)
        assert not mapped_over._may_end_in_triggerer()
        assert read._may_end_in_triggerer()
