"""The output of a bulk send across machines, in object stores, and of mapped tasks."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk import ObjectStoragePath, task
from airflow.sdk.io import attach
from bulk_sends import NEW_YEAR, live, number, people, sending
from fsspec.implementations.memory import MemoryFileSystem
from full_size import first, full_size

from airflow_provider_omnimessage.api.errors import InvalidInputError
from airflow_provider_omnimessage.api.messages import sms
from airflow_provider_omnimessage.bulk.results import (
    ResultsFile,
    ResultsTable,
    RowResult,
    accepted_in,
    is_result,
    read_file,
)
from airflow_provider_omnimessage.operators.bulk import ScheduleBulkOmnimessageOperator
from airflow_provider_omnimessage.operators.omnimessage import CancelScheduledMessageOperator
from airflow_provider_omnimessage.sensors.omnimessage import OmnimessageDeliverySensor


class Bucket(MemoryFileSystem):
    """An object store in this process, that only one connection opens."""

    protocol = "s3"
    store: dict[str, Any] = {}
    pseudo_dirs = [""]
    cachable = False


@pytest.fixture
def bucket(monkeypatch):
    monkeypatch.setattr(Bucket, "store", {})
    attach("s3", "aws_default", fs=Bucket())
    return Bucket.store


URL = "s3://aws_default@bucket/out.jsonl"
PATHS = [
    pytest.param(lambda: URL, id="a URL"),
    pytest.param(lambda: ObjectStoragePath(URL), id="an ObjectStoragePath"),
    pytest.param(lambda: ObjectStoragePath("s3://bucket/out.jsonl", conn_id="aws_default"), id="with conn_id"),
]


class TestAnObjectStore:
    @pytest.mark.parametrize("path", PATHS)
    def test_the_pointer_names_the_connection_once(self, bucket, path):
        file = ResultsFile(path())
        file.require_writable()
        file.add(RowResult(1, "accepted", "a", "2099-01-01T09:00:00+00:00"))
        output = file.close()
        assert output["results"] == URL
        assert list(accepted_in(output)) == list(read_file(URL)) == [("a", "2099-01-01T09:00:00+00:00")]

    @pytest.mark.parametrize("path", first(1, PATHS))
    def test_it_is_written_by_one_task_and_cancelled_by_another(self, dag, run_dag, sandbox, bucket, path):
        send = sending(recipients=people(30), time_to_send=NEW_YEAR, results_path=path())
        CancelScheduledMessageOperator(task_id="cancel", omnimessage_id=send.output)
        run = run_dag(dag)
        assert run.tasks == {"send": "success", "cancel": "success"}
        assert run.xcom("send")["results"] == URL
        assert not live(sandbox)

    def test_without_a_connection_the_pointer_has_none(self):
        assert ResultsFile(ObjectStoragePath("s3://bucket/out.jsonl"))._url == "s3://bucket/out.jsonl"
        assert ResultsFile("/tmp/out.jsonl")._url == "/tmp/out.jsonl"

    def test_a_missing_object_is_an_error_with_a_way_out(self, bucket):
        with pytest.raises(
            InvalidInputError, match=r"there is no file s3://aws_default@bucket/out\.jsonl; its messages"
        ):
            list(read_file(URL))


class TestALocalPathOnAnotherMachine:
    def test_the_error_names_the_path_and_the_way_out(self, dag, run_dag, sandbox, tmp_path):
        path = tmp_path / "out.jsonl"
        send = sending(recipients=people(3), time_to_send=NEW_YEAR, results_path=f"file://{path}")

        @task
        def another_machine():
            path.unlink()

        cancel = CancelScheduledMessageOperator(
            task_id="cancel", omnimessage_id=send.output, retries=2, retry_delay=timedelta(0)
        )
        send >> another_machine() >> cancel
        run = run_dag(dag)
        assert run.tasks["cancel"] == "failed"
        assert run.tries["cancel"] == 1
        assert (
            f"results: file://{path} does not exist on this machine. A local path is visible to one worker" in run.log
        )
        assert "Its messages stay scheduled" in run.log
        assert "set results_path to an object store that all workers reach, or leave it out" in run.log
        assert sum(live(sandbox).values()) == 3


@full_size
class TestTheOutputOfAMappedTask:
    def mapped(self, **settings):
        rows = [[{"to": number(10 * index + each), "name": "x"} for each in range(3)] for index in range(3)]
        return ScheduleBulkOmnimessageOperator.partial(
            task_id="send", messages=[sms("Hello $name")], time_to_send=NEW_YEAR, **settings
        ).expand(recipients=rows)

    def test_it_can_be_cancelled(self, dag, run_dag, sandbox):
        CancelScheduledMessageOperator(task_id="cancel", omnimessage_id=self.mapped().output)
        run = run_dag(dag)
        assert run.xcom("cancel")["cancelled"] == 9
        assert not live(sandbox)

    def test_it_can_be_cancelled_from_files(self, dag, run_dag, sandbox, tmp_path):
        send = self.mapped(results_path=f"{tmp_path}/{{{{ ti.map_index }}}}.jsonl")
        CancelScheduledMessageOperator(task_id="cancel", omnimessage_id=send.output)
        run = run_dag(dag)
        assert run.xcom("cancel")["cancelled"] == 9

    @pytest.mark.parametrize("deferrable", [True, False])
    def test_it_can_be_awaited(self, dag, run_dag, sandbox, deferrable):
        rows = [[{"to": number(index), "name": "x"}] for index in range(3)]
        send = ScheduleBulkOmnimessageOperator.partial(task_id="send", messages=[sms("Hello $name")]).expand(
            recipients=rows
        )

        @task
        def pass_time():
            sandbox.advance(60)

        wait = OmnimessageDeliverySensor(
            task_id="wait", omnimessage_id=send.output, poke_interval=0.05, timeout=30, deferrable=deferrable
        )
        send >> pass_time() >> wait
        run = run_dag(dag)
        assert run.tasks["wait"] == "success"
        assert run.xcom("wait")["delivered"] == 3


def a_result(*ids):
    table = ResultsTable()
    for row, id_ in enumerate(ids, 1):
        table.add(RowResult(row, "accepted", id_))
    return table.close()


class TestListsOfResults:
    def test_skipped_tasks_leave_gaps(self):
        output = [None, a_result("a", "b"), a_result("c")]
        assert [id_ for id_, _ in accepted_in(output)] == ["a", "b", "c"]

    @pytest.mark.parametrize(
        "value", [[], [None], [a_result("a")], {"omnimessage_id": "a"}, "a", b"a", {"cancelled": 1}]
    )
    def test_ids_and_other_values_are_not_the_output_of_one_send(self, value):
        assert not is_result(value)

    def test_a_mix_of_outputs_and_ids_is_rejected(self):
        with pytest.raises(InvalidInputError, match=r"omnimessage_id\[1\]: is not the output of a bulk send"):
            list(accepted_in([a_result("a"), "b"]))
