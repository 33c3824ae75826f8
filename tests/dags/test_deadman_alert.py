"""The alert of a dead man's switch: what it says, when it goes out, and that it never blocks the work."""

from __future__ import annotations

from datetime import timedelta

import pytest
from airflow.sdk import task
from full_size import full_size
from guarded_work import ALERT, SOON, TO, fails, ok

from airflow_provider_omnimessage.alerts import DeadMansSwitch
from airflow_provider_omnimessage.api.errors import InvalidInputError
from airflow_provider_omnimessage.api.messages import sms, viber


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

    @full_size
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

    @full_size
    def test_the_log_shows_no_text_and_no_whole_number(self, dag, run_dag):
        with DeadMansSwitch("by_nine", to=TO, text="S3CRET", time_to_send="2099-01-01T09:00"):
            ok("a")
        log = run_dag(dag).log
        said = [line for line in log.splitlines() if "goes out at" in line or "is cancelled" in line]
        assert "The alert to +37255•••55 goes out at 2099-01-01 09:00:00 UTC unless it is cancelled" in said[0]
        assert "Done in time" in said[-1]
        assert not any("S3CRET" in line or TO in line for line in said)

    @full_size
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


@full_size
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
    def test_failed_work_alerts_as_soon_as_all_has_ended(self, dag, run_dag, sandbox):
        with DeadMansSwitch("by_nine", on_failure="send_now", **ALERT):
            fails()
        run = run_dag(dag)
        scheduled, sent = sandbox.messages
        # a repaired run that hangs has this one
        assert scheduled["state"] == "scheduled"
        assert sent["sent_at"] is not None
        assert run.state == "failed"

    def test_work_done_in_time_sends_no_alert(self, dag, run_dag, sandbox):
        with DeadMansSwitch("by_nine", on_failure="send_now", **ALERT):
            ok("a")
        run_dag(dag)
        assert [message["state"] for message in sandbox.messages] == ["cancelled"]

    @full_size
    def test_an_alert_that_was_sent_at_its_time_is_not_sent_again(self, dag, run_dag, sandbox):
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

    @full_size
    def test_the_scheduled_alert_stays_if_sending_fails(self, dag, run_dag, sandbox):
        sandbox.add_fault("unauthorized", call="send", after=1, times="always")
        with DeadMansSwitch("by_nine", on_failure="send_now", **ALERT):
            fails()
        run_dag(dag)
        assert [message["state"] for message in sandbox.messages] == ["scheduled"]

    @full_size
    def test_failed_work_alerts_even_if_nothing_was_scheduled(self, dag, run_dag, sandbox):
        sandbox.add_fault("unauthorized", call="send")
        with DeadMansSwitch("by_nine", on_failure="send_now", **ALERT):
            fails()
        run_dag(dag)
        # the second one at the deadline, unless the run is repaired and done by then
        assert sorted(message["sent_at"] is not None for message in sandbox.messages) == [False, True]


class TestTheAlertNeverBlocksTheWork:
    @full_size
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

    @full_size
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

    @full_size
    @pytest.mark.parametrize("fault", ["unauthorized", "cut"])
    def test_if_the_network_is_cut_the_run_succeeds_and_the_alert_is_sent(self, dag, run_dag, sandbox, fault):
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

    def test_an_empty_group_is_rejected(self, dag):
        with DeadMansSwitch("by_nine", **ALERT):
            pass
        with pytest.raises(InvalidInputError, match="has no tasks"):
            dag.validate()

    def test_an_error_in_the_work_is_not_covered_by_another(self, dag):
        with pytest.raises(ZeroDivisionError), DeadMansSwitch("by_nine", **ALERT):
            raise ZeroDivisionError
