"""What a bulk send leaves behind, and the tasks that cancel or await it."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone

import pytest
from bulk_sends import NEW_YEAR, bulk_calls, live, number, people, sending
from full_size import first, full_size

from airflow_provider_omnimessage.api.delivery import DeliveryReport
from airflow_provider_omnimessage.api.messages import sms
from airflow_provider_omnimessage.operators.bulk import ScheduleBulkOmnimessageOperator
from airflow_provider_omnimessage.operators.omnimessage import CancelScheduledMessageOperator
from airflow_provider_omnimessage.sensors.omnimessage import OmnimessageDeliverySensor
from airflow_provider_omnimessage.triggers.awaited import awaited_of_row, list_awaited

pytestmark = pytest.mark.usefixtures("each_try_has_a_process_of_its_own", "short_waits")


@full_size
class TestAFileOfResults:
    def test_the_file_holds_every_row_and_the_xcom_points_to_it(self, dag, run_dag, sandbox, tmp_path):
        rows = people(1000)
        rows[5]["to"] = "+37255550005"
        rows[7]["to"] = "nonsense"
        path = f"file://{tmp_path}/out/{{{{ dag.dag_id }}}}.jsonl"
        sending(recipients=rows, batch_size=100, results_path=path, on_invalid="drop", max_failed=1, parallel=3)
        run = run_dag(dag)
        pointer = run.xcom("send")
        assert pointer["results"] == f"file://{tmp_path}/out/{dag.dag_id}.jsonl"
        assert (pointer["accepted"], pointer["rejected"], pointer["invalid"]) == (998, 1, 1)
        assert "omnimessage_id" not in pointer
        lines = [json.loads(line) for line in (tmp_path / "out" / f"{dag.dag_id}.jsonl").read_text().splitlines()]
        assert [line["row"] for line in lines] == list(range(1, 1001))
        by_id = {message["omnimessage_id"]: message["to"] for message in sandbox.messages}
        assert all(
            by_id[line["omnimessage_id"]] == rows[line["row"] - 1]["to"] for line in lines if line["omnimessage_id"]
        )
        assert [line["state"] for line in lines if line["state"] != "accepted"] == ["rejected", "invalid"]

    def test_after_a_resume_it_is_complete(self, dag, run_dag, sandbox, tmp_path):
        sandbox.add_fault("rate_limited", call="bulk", after=2, retry_after=500)
        path = tmp_path / "out.jsonl"
        sending(recipients=people(500), batch_size=100, results_path=str(path), retries=1)
        run = run_dag(dag)
        assert run.tries == {"send": 2}
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        by_id = {message["omnimessage_id"]: message["to"] for message in sandbox.messages}
        assert [by_id[line["omnimessage_id"]] for line in lines] == [number(index) for index in range(500)]

    def test_nothing_is_sent_if_the_file_cannot_be_written(self, dag, run_dag, sandbox, tmp_path):
        (tmp_path / "out").write_text("a file, and no folder")
        sending(recipients=people(5), results_path=str(tmp_path / "out" / "out.jsonl"))
        assert run_dag(dag).tasks == {"send": "failed"}
        assert sandbox.requests == []

    def test_a_retry_writes_the_file_again_and_sends_nothing(self, dag, run_dag, sandbox, tmp_path, monkeypatch):
        from airflow_provider_omnimessage.bulk import results

        copies = []
        copy = results.shutil.copyfileobj

        def failing(*args):
            copies.append(1)
            if len(copies) <= 1:
                raise OSError("the store is down")
            copy(*args)

        monkeypatch.setattr(results.shutil, "copyfileobj", failing)
        sending(recipients=people(5), results_path=str(tmp_path / "out.jsonl"), retries=1)
        run = run_dag(dag)
        assert run.tasks == {"send": "success"}
        assert run.tries == {"send": 2}
        assert len(bulk_calls(sandbox)) == 1
        assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 5


class TestCancelling:
    @pytest.mark.parametrize("in_a_file", first(1, [True, False]))
    def test_the_whole_result_is_cancelled_and_counted(self, dag, run_dag, sandbox, delivered, tmp_path, in_a_file):
        rows = people(500)
        rows[3]["to"], rows[4]["to"] = "+37255550006", "+37255560006"  # a cancel comes too late
        send = sending(
            recipients=rows, time_to_send=NEW_YEAR, results_path=str(tmp_path / "a.jsonl") if in_a_file else None
        )
        CancelScheduledMessageOperator(task_id="cancel", omnimessage_id=send.output, if_already_sent="ignore")
        run = run_dag(dag)
        assert run.state == "success"
        counts = run.xcom("cancel")
        assert (counts["cancelled"], counts["sent_already"], counts["failed"]) == (498, 2, 0)
        assert len(counts["first_not_cancelled"]) == 2
        assert sum(live(sandbox).values()) == 2
        assert "500 messages: 498 cancelled, 2 already sent" in run.log
        assert len(run.log.splitlines()) < 100, "no line per message"

    @full_size
    def test_too_late_fails_with_the_numbers(self, dag, run_dag, sandbox):
        rows = people(20)
        rows[3]["to"] = "+37255550006"
        send = sending(recipients=rows, time_to_send=NEW_YEAR)
        CancelScheduledMessageOperator(task_id="cancel", omnimessage_id=send.output)
        run = run_dag(dag)
        assert run.tasks == {"send": "success", "cancel": "failed"}
        assert run.xcom("cancel")["cancelled"] == 19

    @full_size
    def test_a_task_that_is_run_again_succeeds_again(self, dag, run_dag, sandbox):
        send = sending(recipients=people(50), time_to_send=NEW_YEAR)
        first = CancelScheduledMessageOperator(task_id="first", omnimessage_id=send.output)
        first >> CancelScheduledMessageOperator(task_id="second", omnimessage_id=send.output)
        run = run_dag(dag)
        assert [run.xcom(name)["cancelled"] for name in ("first", "second")] == [50, 50]

    @full_size
    def test_the_results_of_a_mapped_bulk_send_are_cancelled_together(self, dag, run_dag, sandbox):
        send = ScheduleBulkOmnimessageOperator.partial(
            task_id="send", messages=[sms("Hi $name")], time_to_send=NEW_YEAR
        ).expand(recipients=[people(3), people(4)])
        CancelScheduledMessageOperator(task_id="cancel", omnimessage_id=send.output)
        run = run_dag(dag)
        assert run.xcom("cancel")["cancelled"] == 7
        assert sum(live(sandbox).values()) == 0

    def test_rejected_credentials_end_it_at_once(self, dag, run_dag, sandbox):
        send = sending(recipients=people(500), time_to_send=NEW_YEAR)
        CancelScheduledMessageOperator(task_id="cancel", omnimessage_id=send.output, retries=2)
        sandbox.add_fault("unauthorized", call="cancel", times="always")
        run = run_dag(dag)
        assert run.tasks == {"send": "success", "cancel": "failed"}
        assert run.tries["cancel"] == 1
        assert len([request for request in sandbox.requests if request["call"] == "cancel"]) == 1

    @full_size
    def test_a_transient_error_uses_a_retry(self, dag, run_dag, sandbox):
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
    """Let every message be delivered when the first report is requested."""
    ask = DeliveryReport.read

    def read(body):
        sandbox.advance(10)
        return ask(body)

    monkeypatch.setattr(DeliveryReport, "read", read)


class TestWaiting:
    @pytest.mark.parametrize("mode", first(1, [POKE, DEFERRED]), ids=["poke", "deferred"])
    def test_the_whole_result_is_waited_for_and_counted(self, dag, run_dag, sandbox, delivered, mode):
        rows = people(100)
        rows[7]["to"] = "+37255550001"
        rows[8]["to"] = "+37255550005"
        waiting(sending(recipients=rows, max_failed=1), require=0.95, **mode)
        run = run_dag(dag)
        assert run.tasks == {"send": "success", "wait": "success"}
        counts = run.xcom("wait")
        assert counts["messages"] == 99
        assert counts["delivered"] >= 95
        assert (
            sum(counts[name] for name in ("delivered", "seen", "failed", "cancelled", "unknown", "in_progress")) == 99
        )
        assert sandbox.messages[0]["omnimessage_id"] not in run.log, "no line per message"

    @full_size
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
        counts = run.xcom("wait")
        assert counts["failed"] >= 4
        assert counts["undelivered"][0]["reason"] == "failed (sms: UNDELIV (Delivery failure))"
        assert "of 60 were not, and require=0.95: " in run.log

    @full_size
    def test_a_timeout_keeps_the_counts(self, dag, run_dag, sandbox):
        sandbox.freeze()
        waiting(sending(recipients=people(200)), timeout=2, **DEFERRED)
        run = run_dag(dag)
        assert run.tasks == {"send": "success", "wait": "failed"}
        assert run.xcom("wait")["in_progress"] == 200
        assert len(run.xcom("wait")["undelivered"]) == 100
        assert "; and 180 more" in run.log

    @full_size
    def test_nothing_is_polled_before_the_time(self, dag, run_dag, sandbox):
        waiting(sending(recipients=people(50), time_to_send=NEW_YEAR), timeout=1, **DEFERRED)
        run = run_dag(dag)
        assert run.tasks["wait"] == "failed"
        assert [request for request in sandbox.requests if request["call"] == "status"] == []

    def test_a_file_keeps_the_row_of_the_trigger_small(self, tmp_path):
        from airflow_provider_omnimessage.bulk.results import ResultsFile, ResultsTable, RowResult

        rows = {}
        for results in (ResultsTable(), ResultsFile(str(tmp_path / "a.jsonl"))):
            for row in range(10_000):
                results.add(
                    RowResult(row, "accepted", f"01234567-0123-0123-0123-{row:012}", "2099-01-01T09:00:00+00:00")
                )
            awaited = list_awaited(results.close(), None, datetime.fromisoformat)
            row = json.loads(json.dumps(awaited.to_row()))
            rows[type(results)] = len(json.dumps(row))
            messages = awaited_of_row(**row).messages()
            assert [each.omnimessage_id for each in messages] == [each.omnimessage_id for each in awaited.messages()]
            assert {each.time_to_send for each in messages} == {datetime(2099, 1, 1, 9, tzinfo=timezone.utc)}
        assert rows[ResultsFile] < 1000
        assert rows[ResultsTable] < 400_000
