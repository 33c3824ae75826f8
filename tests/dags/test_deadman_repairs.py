"""Repairs of a run with a dead man's switch, and the time that ``arm`` may take."""

from __future__ import annotations

from datetime import timedelta

import pytest
from airflow.providers.standard.operators.python import PythonOperator
from full_size import full_size
from guarded_work import ALERT, SOON, TO, alerts, ends, ok, state
from lockstep import Lockstep

from airflow_provider_omnimessage.alerts.deadman import DeadMansSwitch

pytestmark = [full_size, pytest.mark.usefixtures("_airflow")]


@pytest.fixture
def run(dag, sandbox, tmp_path):
    def running(**how):
        return Lockstep(dag, tmp_path).run(**how)

    return running


class TestRepairs:
    def test_after_clear_only_failed_a_second_failure_is_sent_and_a_hang_is_guarded(self, run, sandbox):
        seen = []
        with DeadMansSwitch("by_nine", on_failure="send_now", **ALERT):
            ends("a", ["fail", "fail", "success"]) >> PythonOperator(
                task_id="look", python_callable=lambda: seen.append(alerts(sandbox)), trigger_rule="all_done"
            )
        ended = run()
        ended.clear(only_failed=True)
        ended.resume()
        assert len([message for message in sandbox.messages if message["sent_at"]]) == 2
        ended.clear(only_failed=True)
        ended.resume()
        assert all("scheduled" in each for each in seen)
        assert [message["state"] for message in sandbox.messages if not message["sent_at"]] == ["cancelled"]

    def test_after_clear_only_failed_arm_schedules_nothing_if_the_work_was_done(self, run, sandbox):
        sandbox.add_fault("unauthorized", call="send")
        with DeadMansSwitch("by_nine", **ALERT):
            ok()
        ended = run()
        assert (state(ended, "by_nine.arm"), state(ended, "by_nine.disarm")) == ("failed", "success")
        assert ended.clear(only_failed=True) == 1
        assert state(ended.resume(), "by_nine.arm") == "success"
        assert sandbox.messages == []

    def test_after_clear_only_failed_nothing_is_left_of_a_rejected_recipient(self, run, sandbox):
        with DeadMansSwitch("by_nine", **{**ALERT, "to": ["+37255550005", TO]}):
            ok()
        ended = run()
        assert ended.clear(only_failed=True) == 1
        ended.resume()
        assert alerts(sandbox) == ["cancelled"]

    def test_a_run_that_is_to_stay_silent_stays_silent_when_it_fails(self, run, sandbox):
        with DeadMansSwitch("by_nine", to=TO, text="Late", time_to_send="2020-01-01T09:00", on_failure="send_now"):
            ends("a", ["fail"])
        ended = run()
        assert state(ended, "by_nine.disarm") == "failed"
        assert sandbox.messages == []

    def test_a_final_error_of_one_recipient_leaves_the_others_their_retries(self, run, sandbox):
        sandbox.add_fault("cut", call="send", times=4)
        with DeadMansSwitch(
            "by_nine",
            to=["+37255550005", TO],
            text="Late",
            time_to_send="2020-01-01T09:00{{ '' }}",
            on_failure="send_now",
        ) as switch:
            ends("a", ["fail"])
        switch.arm.time_to_send = SOON
        switch.disarm.retry_delay = timedelta(0)
        run()
        assert TO in [message["to"] for message in sandbox.messages if message["sent_at"]]

    def test_an_alert_that_arm_could_not_schedule_is_scheduled_when_the_work_fails(self, run, sandbox):
        sandbox.add_fault("unauthorized", call="send")
        with DeadMansSwitch("by_nine", **ALERT):
            ends("a", ["fail", "success"])
        ended = run()
        assert alerts(sandbox) == ["scheduled"]
        ended.clear(only_failed=True)
        ended.resume()
        assert "scheduled" not in alerts(sandbox)


class TestBudget:
    @pytest.mark.parametrize("retry_after", [25, 600, 999_999])
    @pytest.mark.parametrize("fault", ["server_error", "rate_limited"])
    def test_the_work_waits_no_longer_than_the_deadline_of_the_connection(
        self, run, sandbox, pauses, fault, retry_after
    ):
        sandbox.add_fault(fault, call="send", times="always", retry_after=retry_after)
        with DeadMansSwitch(
            "by_nine", to=[f"+3725555556{digit}" for digit in range(5)], text="Late", time_to_send=SOON
        ):
            ok("a")
        ended = run()
        assert sum(pauses) <= 120
        assert (state(ended, "by_nine.arm"), state(ended, "by_nine.a")) == ("failed", "success")
