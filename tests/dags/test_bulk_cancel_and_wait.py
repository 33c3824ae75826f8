"""Cancelling and awaiting the whole result of a bulk send."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone

import pytest
from bulk_sends import NEW_YEAR, live, people, sending

from airflow_provider_omnimessage.api.delivery import DeliveryReport
from airflow_provider_omnimessage.operators.omnimessage import CancelScheduledMessageOperator
from airflow_provider_omnimessage.sensors.omnimessage import OmnimessageDeliverySensor
from airflow_provider_omnimessage.triggers.omnimessage import OmnimessageDeliveryTrigger


class TestCancelling:
    @pytest.mark.parametrize("in_a_file", [True, False])
    def test_the_whole_result_is_cancelled_and_counted(self, dag, run_dag, sandbox, tmp_path, in_a_file):
        rows = people(500)
        rows[3]["to"], rows[4]["to"] = "+37255550006", "+37255560006"  # a cancel comes too late
        send = sending(
            recipients=rows, time_to_send=NEW_YEAR, results_path=str(tmp_path / "a.jsonl") if in_a_file else None
        )
        CancelScheduledMessageOperator(task_id="cancel", omnimessage_id=send.output, if_already_sent="ignore")
        run = run_dag(dag)
        assert run.state == "success"
        told = run.xcom("cancel")
        assert (told["cancelled"], told["sent_already"], told["failed"]) == (498, 2, 0)
        assert len(told["first_not_cancelled"]) == 2
        assert sum(live(sandbox).values()) == 2
        assert "Of 500 messages 498 are cancelled, 2 had been sent already" in run.log
        assert len(run.log.splitlines()) < 100, "no line per message"

    def test_too_late_fails_and_tells_the_numbers(self, dag, run_dag, sandbox):
        rows = people(20)
        rows[3]["to"] = "+37255550006"
        send = sending(recipients=rows, time_to_send=NEW_YEAR)
        CancelScheduledMessageOperator(task_id="cancel", omnimessage_id=send.output)
        run = run_dag(dag)
        assert run.tasks == {"send": "success", "cancel": "failed"}
        assert run.xcom("cancel")["cancelled"] == 19

    def test_a_task_that_is_run_again_succeeds_again(self, dag, run_dag, sandbox):
        send = sending(recipients=people(50), time_to_send=NEW_YEAR)
        first = CancelScheduledMessageOperator(task_id="first", omnimessage_id=send.output)
        first >> CancelScheduledMessageOperator(task_id="second", omnimessage_id=send.output)
        run = run_dag(dag)
        assert [run.xcom(name)["cancelled"] for name in ("first", "second")] == [50, 50]

    def test_refused_credentials_end_it_at_once(self, dag, run_dag, sandbox):
        send = sending(recipients=people(500), time_to_send=NEW_YEAR)
        CancelScheduledMessageOperator(task_id="cancel", omnimessage_id=send.output, retries=2)
        sandbox.add_fault("unauthorized", call="cancel", times="always")
        run = run_dag(dag)
        assert run.tasks == {"send": "success", "cancel": "failed"}
        assert run.tries["cancel"] == 1
        assert len([request for request in sandbox.requests if request["call"] == "cancel"]) < 50

    def test_what_may_pass_takes_a_retry(self, dag, run_dag, sandbox):
        send = sending(recipients=people(30), time_to_send=NEW_YEAR)
        CancelScheduledMessageOperator(
            task_id="cancel", omnimessage_id=send.output, retries=1, retry_delay=timedelta(0)
        )
        sandbox.add_fault("rate_limited", call="cancel", retry_after=500)
        run = run_dag(dag)
        assert run.tasks == {"send": "success", "cancel": "success"}
        assert run.tries["cancel"] == 2
        assert run.xcom("cancel")["cancelled"] == 30


DEFERRED = {"deferrable": True}
POKE = {"deferrable": False, "mode": "poke"}


def waiting(send, **settings):
    settings = {"poke_interval": 0.05, "timeout": 60, "omnimessage_id": send.output, **settings}
    return OmnimessageDeliverySensor(task_id="wait", **settings)


@pytest.fixture
def delivered(sandbox, monkeypatch):
    """Let everything be delivered as soon as a report is asked for."""
    ask = DeliveryReport.read

    def read(body):
        sandbox.advance(10)
        return ask(body)

    monkeypatch.setattr(DeliveryReport, "read", read)


class TestWaiting:
    @pytest.mark.parametrize("mode", [POKE, DEFERRED], ids=["poke", "deferred"])
    def test_the_whole_result_is_waited_for_and_counted(self, dag, run_dag, sandbox, delivered, mode):
        rows = people(100)
        rows[7]["to"] = "+37255550001"
        rows[8]["to"] = "+37255550005"
        waiting(sending(recipients=rows, max_failed=1), require=0.95, **mode)
        run = run_dag(dag)
        assert run.tasks == {"send": "success", "wait": "success"}
        told = run.xcom("wait")
        assert told["messages"] == 99
        assert told["delivered"] >= 95
        assert sum(told[name] for name in ("delivered", "seen", "failed", "cancelled", "unknown", "in_progress")) == 99
        assert sandbox.messages[0]["omnimessage_id"] not in run.log, "no line per message"

    @pytest.mark.parametrize("mode", [POKE, DEFERRED], ids=["poke", "deferred"])
    def test_too_many_that_are_not_delivered_fail_it_with_their_reasons(
        self, dag, run_dag, sandbox, delivered, mode, tmp_path
    ):
        rows = people(60)
        for row in rows[:6]:
            row["to"] = f"{row['to'][:-4]}0001"
        path = str(tmp_path / "a.jsonl") if mode is DEFERRED else None
        waiting(sending(recipients=rows, results_path=path), require=0.95, retries=2, **mode)
        run = run_dag(dag)
        assert run.tasks == {"send": "success", "wait": "failed"}
        assert run.tries["wait"] == 1
        told = run.xcom("wait")
        assert told["failed"] >= 4
        assert told["undelivered"][0]["reason"] == "failed (sms: UNDELIV (Delivery failure))"
        assert "of 60 were not, and require=0.95: " in run.log

    def test_its_time_being_over_leaves_the_numbers(self, dag, run_dag, sandbox):
        sandbox.freeze()
        waiting(sending(recipients=people(200)), timeout=2, **DEFERRED)
        run = run_dag(dag)
        assert run.tasks == {"send": "success", "wait": "failed"}
        assert run.xcom("wait")["in_progress"] == 200
        assert len(run.xcom("wait")["undelivered"]) == 100
        assert "; and 180 more" in run.log

    def test_nobody_asks_before_the_time(self, dag, run_dag, sandbox):
        waiting(sending(recipients=people(50), time_to_send=NEW_YEAR), timeout=1, **DEFERRED)
        run = run_dag(dag)
        assert run.tasks["wait"] == "failed"
        assert [request for request in sandbox.requests if request["call"] == "status"] == []

    def test_a_file_keeps_the_row_of_the_trigger_small(self, sandbox, tmp_path):
        from airflow_provider_omnimessage.bulk.results import ResultsFile, ResultsTable, RowResult

        rows = {}
        for results in (ResultsTable(), ResultsFile(str(tmp_path / "a.jsonl"))):
            for row in range(10_000):
                results.add(
                    RowResult(row, "accepted", f"01234567-0123-0123-0123-{row:012}", "2099-01-01T09:00:00+00:00")
                )
            told = results.close()
            sensor = OmnimessageDeliverySensor(task_id=f"wait_{len(rows)}", omnimessage_id=told)
            sensor._since = datetime.now(timezone.utc)
            sensor._wait = sensor._begin()
            bulk = sensor._bulk()
            trigger = OmnimessageDeliveryTrigger(
                messages=[],
                omnimessage_conn_id="x",
                since=sensor._since.isoformat(),
                deadline=sensor._since.isoformat(),
                bulk=json.loads(json.dumps(bulk)),
            )
            _, kwargs = trigger.serialize()
            rows[type(results)] = len(json.dumps(kwargs))
            awaited = trigger._planned().messages
            assert [each.omnimessage_id for each in awaited] == [each.omnimessage_id for each in sensor._wait.messages]
            assert {each.time_to_send for each in awaited} == {datetime(2099, 1, 1, 9, tzinfo=timezone.utc)}
        assert rows[ResultsFile] < 1000
        assert rows[ResultsTable] < 400_000
