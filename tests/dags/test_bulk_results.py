"""The file of results of a bulk send."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from airflow.sdk import task
from bulk_sends import NEW_YEAR, Changing, bulk_calls, live, number, people, sending

from airflow_provider_omnimessage.api.messages import sms
from airflow_provider_omnimessage.bulk import memory as bulk_memory
from airflow_provider_omnimessage.operators.bulk import ScheduleBulkOmnimessageOperator
from airflow_provider_omnimessage.operators.omnimessage import CancelScheduledMessageOperator


class TestAFileOfResults:
    def test_it_holds_every_row_in_order_and_the_xcom_only_the_pointer(self, dag, run_dag, sandbox, tmp_path):
        rows = people(1000)
        rows[5]["to"] = "+37255550005"
        rows[7]["to"] = "nonsense"
        path = f"file://{tmp_path}/out/{{{{ dag.dag_id }}}}.jsonl"
        sending(recipients=rows, batch_size=100, results_path=path, on_invalid="drop", max_failed=1, parallel=3)
        run = run_dag(dag)
        pointer = run.xcom("send")
        assert pointer["results"] == f"file://{tmp_path}/out/{dag.dag_id}.jsonl"
        assert (pointer["accepted"], pointer["refused"], pointer["invalid"]) == (998, 1, 1)
        assert "omnimessage_id" not in pointer
        lines = [json.loads(line) for line in (tmp_path / "out" / f"{dag.dag_id}.jsonl").read_text().splitlines()]
        assert [line["row"] for line in lines] == list(range(1, 1001))
        by_id = {message["omnimessage_id"]: message["to"] for message in sandbox.messages}
        assert all(
            by_id[line["omnimessage_id"]] == rows[line["row"] - 1]["to"] for line in lines if line["omnimessage_id"]
        )
        assert [line["state"] for line in lines if line["state"] != "accepted"] == ["refused", "invalid"]

    def test_after_a_resume_it_is_complete(self, dag, run_dag, sandbox, tmp_path):
        sandbox.add_fault("rate_limited", call="bulk", after=2, retry_after=500)
        path = tmp_path / "out.jsonl"
        sending(recipients=people(500), batch_size=100, results_path=str(path), retries=1)
        run = run_dag(dag)
        assert run.tries == {"send": 2}
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        by_id = {message["omnimessage_id"]: message["to"] for message in sandbox.messages}
        assert [by_id[line["omnimessage_id"]] for line in lines] == [number(index) for index in range(500)]

    def test_a_place_that_cannot_be_written_is_found_out_before_anything_is_sent(self, dag, run_dag, sandbox, tmp_path):
        (tmp_path / "out").write_text("a file, and no folder")
        sending(recipients=people(5), results_path=str(tmp_path / "out" / "out.jsonl"))
        assert run_dag(dag).tasks == {"send": "failed"}
        assert sandbox.requests == []

    def test_what_cannot_be_written_in_the_end_is_written_by_a_retry_that_sends_nothing(
        self, dag, run_dag, sandbox, tmp_path, monkeypatch
    ):
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

    def test_a_clear_that_breaks_leaves_the_file_of_the_run_before(
        self, dag, run_dag, clear_and_run, sandbox, tmp_path, monkeypatch
    ):
        monkeypatch.setattr(bulk_memory.TaskMemory, "of", lambda context, key: None)
        path = tmp_path / "out.jsonl"
        sending(recipients=Changing(people(30), OSError("gone")), time_to_send=NEW_YEAR, results_path=str(path))
        run = run_dag(dag)
        before = path.read_text()
        clear_and_run(dag, run)
        assert path.read_text() == before

    @pytest.mark.parametrize("kept", [0, 0.5, 29])
    def test_a_file_that_is_not_whole_is_not_believed(self, dag, run_dag, sandbox, tmp_path, kept):
        path = tmp_path / "out.jsonl"
        send = sending(recipients=people(30), time_to_send=NEW_YEAR, results_path=str(path))

        @task
        def truncate():
            text = path.read_text()
            lines = text.splitlines(keepends=True)
            path.write_text(text[: len(lines[0]) // 2] if kept == 0.5 else "".join(lines[:kept]))

        (
            send
            >> truncate()
            >> CancelScheduledMessageOperator(
                task_id="cancel", omnimessage_id=send.output, retries=2, retry_delay=timedelta(0)
            )
        )
        run = run_dag(dag)
        assert run.tasks["cancel"] == "failed"
        assert run.tries["cancel"] == 1
        assert "results" in run.log

    def test_the_file_of_another_task_is_not_believed(self, dag, run_dag, sandbox, tmp_path):
        path = tmp_path / "out.jsonl"
        send = sending(recipients=people(3), time_to_send=NEW_YEAR, results_path=str(path))
        other = ScheduleBulkOmnimessageOperator(
            task_id="other",
            omnimessages=[{"to": number(i), "messages": [sms("x")]} for i in range(3)],
            results_path=str(path),
            time_to_send=NEW_YEAR,
        )
        send >> other >> CancelScheduledMessageOperator(task_id="cancel", omnimessage_id=send.output)
        run = run_dag(dag)
        assert run.tasks["cancel"] == "failed"
        assert sum(live(sandbox).values()) == 6
