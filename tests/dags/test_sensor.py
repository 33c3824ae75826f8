"""The sensor, run by Airflow, in every mode, against the sandbox over HTTP."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace

import pytest
from airflow.sdk import task
from airflow.sdk.exceptions import AirflowRescheduleException
from delivery_sensor import (
    DEFERRED,
    FIRST_CHANNEL_FAILS,
    READ,
    RESCHEDULE,
    STUCK,
    TO,
    UNDELIVERABLE,
    UNKNOWN,
    a_sensor,
    in_a_worker_and_in_the_triggerer,
    in_each_mode,
    in_every_mode,
    status_requests,
)
from full_size import first, full_size

from airflow_provider_omnimessage.api.errors import InvalidInputError
from airflow_provider_omnimessage.api.messages import sms
from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook
from airflow_provider_omnimessage.operators.omnimessage import ScheduleOmnimessageOperator, SendOmnimessageOperator
from airflow_provider_omnimessage.sensors import omnimessage as sensors
from airflow_provider_omnimessage.sensors.omnimessage import OmnimessageDeliverySensor

pytestmark = pytest.mark.usefixtures("short_waits")


class TestEveryMode:
    @in_each_mode
    def test_the_dag_goes_on_when_the_message_is_delivered(self, dag, run_dag, sent, mode):
        id_ = sent(FIRST_CHANNEL_FAILS)
        a_sensor(omnimessage_id=id_, **mode)
        run = run_dag(dag)
        assert run.tasks == {"wait": "success"}
        report = run.xcom("wait")
        assert (report["omnimessage_id"], report["outcome"], report["delivered_by"]) == (id_, "delivered", "sms")
        assert [(channel["channel"], channel["status"]) for channel in report["channels"]] == [
            ("viber", "UNDELIV"),
            ("sms", "DELIVRD"),
        ]
        assert float(report["price"]) > 0

    @in_a_worker_and_in_the_triggerer
    def test_it_waits_until_it_is(self, dag, run_dag, sandbox, sent, later, mode):
        a_sensor(omnimessage_id=sent(seconds=0), **mode)
        later(4, seconds=10)
        assert run_dag(dag).tasks == {"wait": "success"}

    @in_every_mode
    def test_it_fails_with_the_carriers_reason_and_without_a_retry(self, dag, run_dag, sandbox, sent, mode):
        a_sensor(omnimessage_id=sent(UNDELIVERABLE), retries=3, **mode)
        run = run_dag(dag)
        assert run.tasks == {"wait": "failed"}
        assert "failed (viber: UNDELIV (Delivery failure); sms: UNDELIV (Delivery failure))" in run.log
        assert len(status_requests(sandbox)) <= 3

    @full_size
    @in_every_mode
    def test_a_failure_counts_only_after_the_second_poll(self, dag, run_dag, sandbox, sent, later, mode):
        """Another channel may follow one that failed."""
        id_ = sent(UNDELIVERABLE)
        stuck = sent(STUCK, seconds=10)
        a_sensor(omnimessage_id=[stuck, id_], require="any", timeout=1, **mode)
        assert run_dag(dag).tasks["wait"] in ("failed", "up_for_reschedule")
        assert len([request for request in status_requests(sandbox) if id_ in request["path"]]) >= 2

    @in_every_mode
    def test_one_that_was_cancelled_fails_and_says_so_or_skips(self, dag, run_dag, sent, mode):
        id_ = sent(time_to_send=timedelta(hours=1), seconds=0)
        OmnimessageHook().cancel(id_)
        a_sensor(omnimessage_id=id_, **mode)
        a_sensor(task_id="skip", omnimessage_id=id_, on_cancelled="skip", **mode)
        run = run_dag(dag)
        assert run.tasks == {"wait": "failed", "skip": "skipped"}
        assert "cancelled before it was sent (viber: DELETED)" in run.log

    @full_size
    @in_every_mode
    def test_soft_fail_skips_and_says_why(self, dag, run_dag, sent, mode):
        a_sensor(omnimessage_id=sent(UNDELIVERABLE), soft_fail=True, **mode)
        run = run_dag(dag)
        assert run.tasks == {"wait": "skipped"}
        assert "viber: UNDELIV" in run.log

    @in_every_mode
    def test_a_rejected_password_fails_at_once(self, dag, run_dag, sandbox, sent, mode):
        a_sensor(omnimessage_id=sent(), retries=3, **mode)
        sandbox.add_fault("unauthorized", call="status", times="always")
        run = run_dag(dag)
        assert run.tasks == {"wait": "failed"}
        assert "login and password" in run.log
        assert len(status_requests(sandbox)) == 1

    @in_every_mode
    @pytest.mark.parametrize(("soft_fail", "state"), first(1, [(False, "failed"), (True, "skipped")]))
    def test_its_timeout_holds_and_says_how_far_it_came(self, dag, run_dag, sent, mode, soft_fail, state):
        a_sensor(omnimessage_id=sent(STUCK), timeout=0.5, soft_fail=soft_fail, retries=2, **mode)
        run = run_dag(dag)
        assert run.tasks == {"wait": state}
        if not soft_fail:
            assert re.search(r"Not delivered within the timeout of 0:00:00.5\d*: [0-9a-f-]+: viber: ACCEPTD", run.log)

    @full_size
    @in_every_mode
    def test_a_slow_response_does_not_outlast_it(self, dag, run_dag, sandbox, sent, mode):
        a_sensor(omnimessage_id=sent(STUCK), timeout=0.3, **mode)
        sandbox.add_fault("slow", call="status", seconds=20, times="always")
        run = run_dag(dag)
        assert run.tasks == {"wait": "failed"}
        assert re.search(r"Not delivered within the timeout of 0:00:00.3\d*: [0-9a-f-]+: no report yet", run.log)

    @in_a_worker_and_in_the_triggerer
    @pytest.mark.parametrize(("soft_fail", "state"), first(1, [(False, "failed"), (True, "skipped")]))
    def test_execution_timeout_holds(self, dag, run_dag, sent, mode, soft_fail, state):
        a_sensor(omnimessage_id=sent(STUCK), execution_timeout=timedelta(seconds=0.4), soft_fail=soft_fail, **mode)
        run = run_dag(dag)
        assert run.tasks == {"wait": state}

    @full_size
    @pytest.mark.parametrize(("soft_fail", "state"), [(False, "failed"), (True, "skipped")])
    def test_rescheduled_execution_timeout_is_for_each_poll(self, dag, run_dag, sandbox, sent, soft_fail, state):
        """Airflow leaves out the time between two of them, whatever the sensor."""
        limit = timedelta(seconds=0.4)
        a_sensor(omnimessage_id=sent(STUCK), execution_timeout=limit, soft_fail=soft_fail, **RESCHEDULE)
        sandbox.add_fault("slow", call="status", seconds=20)
        run = run_dag(dag)
        assert run.tasks == {"wait": state}
        assert len(status_requests(sandbox)) == 1

    @full_size
    @in_a_worker_and_in_the_triggerer
    def test_delivered_is_not_enough_if_the_wait_is_for_seen(self, dag, run_dag, sent, mode):
        a_sensor(omnimessage_id=sent(READ), wait_for="seen", **mode)
        a_sensor(task_id="never", omnimessage_id=sent(TO), wait_for="seen", timeout=0.3, **mode)
        run = run_dag(dag)
        assert run.tasks == {"wait": "success", "never": "failed"}
        assert run.xcom("wait")["outcome"] == "seen"
        assert "Not seen within" in run.log


@full_size
@in_a_worker_and_in_the_triggerer
@pytest.mark.parametrize(
    ("to", "counted"),
    [(TO, ["omnimessage.delivered", "omnimessage.delivery_duration"]), (UNDELIVERABLE, ["omnimessage.failed"])],
)
def test_how_a_message_ended_is_counted_once(dag, run_dag, sandbox, sent, monkeypatch, mode, to, counted):
    from airflow_provider_omnimessage import metrics

    names = []
    stats = SimpleNamespace(
        incr=lambda name, **_: names.append(name), timing=lambda name, _seconds, **_tags: names.append(name)
    )
    monkeypatch.setattr(metrics, "airflow_stats", lambda: stats)
    time_to_send = sandbox.now + timedelta(seconds=1)
    a_sensor(omnimessage_id=sent(to, time_to_send=time_to_send), time_to_send=time_to_send, **mode)
    run_dag(dag)
    assert [name for name in names if name != "omnimessage.retried"] == counted


@full_size
@in_every_mode
def test_what_was_delivered_in_a_wait_that_timed_out_is_counted(dag, run_dag, sent, monkeypatch, mode):
    from airflow_provider_omnimessage import metrics

    names = []
    stats = SimpleNamespace(incr=lambda name, **_: names.append(name), timing=lambda name, *_, **__: None)
    monkeypatch.setattr(metrics, "airflow_stats", lambda: stats)
    a_sensor(omnimessage_id=[sent(), sent(STUCK)], timeout=0.6, **mode)
    assert run_dag(dag).tasks == {"wait": "failed"}
    assert names.count("omnimessage.delivered") == 1


class TestWhenItPolls:
    @full_size
    @in_every_mode
    def test_nothing_is_polled_before_the_time(self, dag, run_dag, sandbox, sent, mode):
        when = datetime.now(timezone.utc) + timedelta(hours=1)
        a_sensor(omnimessage_id=sent(time_to_send=when, seconds=0), time_to_send=when, timeout=0.5, **mode)
        run = run_dag(dag)
        assert status_requests(sandbox) == []
        assert f"Polling starts at {when + timedelta(seconds=1):%Y-%m-%d %H:%M:%S} UTC" in run.log

    def test_reschedule_waits_for_the_time_in_one_step(self, dag, sandbox):
        when = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(hours=1)
        wait = a_sensor(omnimessage_id=UNKNOWN, time_to_send=when.isoformat(), timeout=7200, **RESCHEDULE)
        just_begun = {"ti": SimpleNamespace(get_first_reschedule_date=lambda context: None)}
        with pytest.raises(AirflowRescheduleException) as step:
            wait.execute(just_begun)
        assert when < step.value.reschedule_date < when + timedelta(seconds=1)

    def test_the_report_has_the_seconds_from_time_to_send(self, dag, run_dag, sandbox, sent):
        when = datetime.now(timezone.utc).replace(microsecond=0) - timedelta(seconds=1)
        a_sensor(omnimessage_id=sent(), time_to_send=when)
        sent_at = datetime.fromisoformat(sandbox.messages[0]["sent_at"])
        seconds = run_dag(dag).xcom("wait")["seconds_to_delivery"]
        assert seconds == pytest.approx((sent_at - when).total_seconds() + 2, abs=1)

    @full_size
    @in_every_mode
    def test_the_log_shows_changes_and_not_each_poll(self, dag, run_dag, sandbox, sent, later, mode):
        id_ = sent(seconds=0)
        a_sensor(omnimessage_id=id_, **mode)
        later(2, seconds=0.6)
        later(4, seconds=10)
        log = run_dag(dag).log
        assert len(status_requests(sandbox)) > 4
        statuses = re.findall(rf"{id_}: (viber: [\w ]+?|delivered) *[(\[]", log)
        assert statuses == ["viber: in progress", "viber: ACK", "delivered"], log
        assert log.count(f"Waiting for {id_}") == 1

    @full_size
    @in_every_mode
    def test_a_message_that_has_ended_is_not_polled_again(self, dag, run_dag, sandbox, sent, mode):
        come, stuck = sent(), sent(STUCK)
        a_sensor(omnimessage_id=[come, stuck], timeout=0.7, **mode)
        run = run_dag(dag)
        assert run.tasks == {"wait": "failed"}
        polled = [come in request["path"] for request in status_requests(sandbox)]
        assert polled.count(False) >= 2
        # the trigger begins with what the worker has seen, and keeps none of it in its row
        assert polled.count(True) == (2 if mode is DEFERRED else 1)

    @full_size
    def test_a_store_that_fails_costs_polls_and_fails_no_task(self, dag, run_dag, sandbox, sent, later, monkeypatch):
        def fails(self, *_):
            raise RuntimeError("no store today")

        monkeypatch.setattr(sensors.TaskMemory, "keep", fails)
        monkeypatch.setattr(sensors.TaskMemory, "recall", fails)
        a_sensor(omnimessage_id=sent(seconds=0), **RESCHEDULE)
        later(2, seconds=10)
        assert run_dag(dag).tasks == {"wait": "success"}


class TestFromTaskToTask:
    @full_size
    @in_a_worker_and_in_the_triggerer
    def test_id_and_time_come_from_the_schedule_task(self, dag, run_dag, sandbox, mode):
        sandbox.freeze()
        schedule = ScheduleOmnimessageOperator(
            task_id="schedule", to=TO, messages=[sms("a")], time_to_send=timedelta(seconds=1)
        )
        wait = a_sensor(omnimessage_id=schedule.output, time_to_send=schedule.output["time_to_send"], **mode)

        @task
        def deliver():
            sandbox.advance(60)

        schedule >> deliver() >> wait
        run = run_dag(dag)
        assert run.state == "success"
        assert run.xcom("wait")["omnimessage_id"] == run.xcom("schedule")
        assert run.xcom("wait")["seconds_to_delivery"] > 0

    @full_size
    @in_a_worker_and_in_the_triggerer
    def test_all_messages_of_a_mapped_task(self, dag, run_dag, sandbox, mode):
        send = SendOmnimessageOperator.partial(task_id="send", messages=[sms("a")]).expand(
            to=[TO, READ, FIRST_CHANNEL_FAILS[:-1] + "9"]
        )
        a_sensor(omnimessage_id=send.output, **mode)
        run = run_dag(dag)
        assert run.state == "success"
        assert [report["omnimessage_id"] for report in run.xcom("wait")] == run.xcoms("send")

    def test_a_mapped_sensor(self, dag, run_dag, sent):
        ids = [sent(), sent()]
        OmnimessageDeliverySensor.partial(task_id="wait", deferrable=True).expand(omnimessage_id=ids)
        run = run_dag(dag)
        assert [report["omnimessage_id"] for report in run.xcoms("wait")] == ids

    def test_any_of_many(self, dag, run_dag, sent):
        a_sensor(omnimessage_id=[sent(STUCK), sent()], require="any")
        run = run_dag(dag)
        assert [report["outcome"] for report in run.xcom("wait")] == ["in_progress", "delivered"]

    @pytest.mark.parametrize("omnimessage_id", first(2, [None, "{{ none }}", [], [None]]))
    def test_if_nothing_was_sent_there_is_nothing_to_wait_for(self, dag, run_dag, sandbox, omnimessage_id):
        a_sensor(omnimessage_id=omnimessage_id)
        assert run_dag(dag).tasks == {"wait": "skipped"}
        assert sandbox.requests == []

    def test_times_that_do_not_match_the_ids_are_rejected(self, dag, run_dag):
        a_sensor(omnimessage_id=["a", "b", "c"], time_to_send=["2026-01-01T09:00", "2026-01-01T10:00"], retries=2)
        run = run_dag(dag)
        assert run.tasks == {"wait": "failed"}
        assert "time_to_send: 2 times for 3 ids" in run.log

    @full_size
    def test_an_unknown_message_is_polled_again_at_first(self, dag, run_dag, sandbox):
        a_sensor(omnimessage_id=UNKNOWN, timeout=0.3)
        run = run_dag(dag)
        assert run.tasks == {"wait": "failed"}
        assert "no report yet, polling again" in run.log
        assert "Not delivered within the timeout" in run.log

    @in_a_worker_and_in_the_triggerer
    def test_an_unknown_message_is_an_error_later(self, dag, run_dag, sandbox, mode):
        a_sensor(omnimessage_id=UNKNOWN, time_to_send="2020-01-01T09:00", **mode)
        run = run_dag(dag)
        assert run.tasks == {"wait": "failed"}
        assert "unknown to Messente" in run.log
        assert len(status_requests(sandbox)) == 1

    def test_a_transient_error_does_not_end_the_first_poll(self, dag, run_dag, sandbox, sent):
        a_sensor(omnimessage_id=sent(), **DEFERRED)
        sandbox.add_fault("server_error", call="status", times=2)
        assert run_dag(dag).tasks == {"wait": "success"}


@pytest.mark.parametrize("option", [{"exponential_backoff": True}, {"max_wait": 60}, {"silent_fail": True}], ids=str)
def test_an_option_without_effect_is_rejected(option):
    with pytest.raises(InvalidInputError, match=rf"{next(iter(option))}: has no effect here: "):
        OmnimessageDeliverySensor(task_id="wait", omnimessage_id="x", **option)
