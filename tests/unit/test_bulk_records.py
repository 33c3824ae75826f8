"""What a bulk send stores and returns, what a retry posts, and how progress is logged."""

from __future__ import annotations

import json
from datetime import datetime, timezone

import pytest

from airflow_provider_omnimessage.api.errors import InvalidInputError
from airflow_provider_omnimessage.api.messages import sms
from airflow_provider_omnimessage.api.responses import Accepted
from airflow_provider_omnimessage.bulk.memory import Batch, BulkStep, Plan, fingerprint_of_recipients, next_bulk_step
from airflow_provider_omnimessage.bulk.pending import PendingBatch, SendSettings
from airflow_provider_omnimessage.bulk.results import ResultsFile, ResultsTable, RowResult, accepted_in, is_result
from airflow_provider_omnimessage.bulk.rows import CheckedRow
from airflow_provider_omnimessage.tasks.memory import Mark
from airflow_provider_omnimessage.tasks.parallel import Progress

NOW = datetime(2026, 11, 23, 9, 0, tzinfo=timezone.utc)
TO = "+37255555555"
NOON, AGO, SOON = 1_800_000_000, 1_799_999_999, 1_800_000_001
RETRY = Mark(max_tries=3, try_number=2, clear_number=0)
CLEAR = Mark(max_tries=4, try_number=2, clear_number=1)
UNSURE = Mark(max_tries=3, try_number=2, clear_number=1)


def a_batch(**settings):
    known = {
        "fingerprint": "f",
        "max_tries": 3,
        "try_number": 1,
        "clear_number": 0,
        "at": NOW.isoformat(),
        "unknown_reason": "d",
        "errors": {},
        "unknown": [],
    }
    return Batch(**{**known, "ids": ["a", None, None], **settings})


class TestWhatARetryPosts:
    @pytest.mark.parametrize(
        ("mark", "reported", "at_most_once", "at_least_once"),
        [
            (RETRY, True, [], [2]),
            (CLEAR, True, [1, 2], [1, 2]),
            (UNSURE, True, [1], [1, 2]),
            (CLEAR, False, [1], [1, 2]),
        ],
        ids=["retry", "clear", "retry or clear", "clear before the unknown outcome was reported"],
    )
    def test_never_a_message_that_is_known_to_be_accepted(self, mark, reported, at_most_once, at_least_once):
        batch = a_batch(errors={"no": [1]}, unknown=[2], reported=reported)
        assert batch.to_post(mark, at_least_once=False) == at_most_once
        assert batch.to_post(mark, at_least_once=True) == at_least_once

    @pytest.mark.parametrize(
        ("state", "mark", "at_most_once", "at_least_once"),
        [
            ("sending", RETRY, BulkStep.RESUME, BulkStep.RESUME),
            ("sending", CLEAR, BulkStep.RESUME, BulkStep.RESUME),
            ("ended", RETRY, BulkStep.RESUME, BulkStep.RESUME),
            ("ended", CLEAR, BulkStep.REPLACE, BulkStep.REPLACE),
            ("ended", UNSURE, BulkStep.FAIL, BulkStep.REPLACE),
            ("replacing", CLEAR, BulkStep.REPLACE, BulkStep.REPLACE),
            ("replacing", RETRY, BulkStep.REPLACE, BulkStep.REPLACE),
        ],
    )
    def test_only_a_clear_after_a_success_begins_again(self, state, mark, at_most_once, at_least_once):
        plan = Plan(NOW.isoformat(), 3, 1000, 3, state, try_number=1, clear_number=0)
        assert next_bulk_step(plan, mark, at_least_once=False) is at_most_once
        assert next_bulk_step(plan, mark, at_least_once=True) is at_least_once
        assert next_bulk_step(None, mark, at_least_once=False) is BulkStep.START

    @pytest.mark.parametrize("value", ["x", {}, {"since": 1}, 7, [1]])
    def test_a_value_that_this_task_did_not_write_is_rejected(self, value):
        with pytest.raises(InvalidInputError, match="task_state_store"):
            Plan.read(value)
        with pytest.raises(InvalidInputError, match="task_state_store"):
            Batch.read(value, "k")

    @pytest.mark.parametrize("change", [{"ids": [1]}, {"unknown": [3]}, {"at": "now"}, {"max_tries": "3"}])
    def test_an_edited_batch_is_rejected(self, change):
        assert Batch.read(a_batch().as_dict(), "k") == a_batch()
        with pytest.raises(InvalidInputError, match="task_state_store"):
            Batch.read({**a_batch().as_dict(), **change}, "k")

    def test_a_batch_stores_neither_texts_nor_numbers(self):
        rows = [CheckedRow(1, "", json.dumps({"to": TO, "messages": [sms("S3CRET")]}).encode())]
        settings = SendSettings("fail", at_least_once=False, batch_size=1, parallel=1, mark=RETRY)
        fingerprint = fingerprint_of_recipients([f"1 {TO}"], "password")
        batch = PendingBatch(1, rows, fingerprint, None, settings)
        batch.next_attempt()
        batch.read([Accepted("an-id", TO, {"sms": "m"})])
        stored = json.dumps(batch.record.as_dict())
        assert "an-id" in stored
        assert "S3CRET" not in stored
        assert TO not in stored

    def test_a_batch_of_an_older_version_is_read(self):
        """It has neither times nor the rows that were left out, and calls the reason ``doubt``."""
        stored = {
            "fingerprint": "f",
            "max_tries": 0,
            "at": "2026-11-23T09:00:00.000000+00:00",
            "ids": ["a", "b"],
            "errors": {},
            "unknown": [],
            "doubt": "d",
        }
        batch = Batch.read(stored, "k")
        assert batch.unknown_reason == "d"
        rows = [CheckedRow(1, "2026-11-23T08:00:00+00:00", b"{}"), CheckedRow(2, "2099-01-01T09:00:00+00:00", b"{}")]
        settings = SendSettings("fail", at_least_once=False, batch_size=2, parallel=1, mark=RETRY)
        results = PendingBatch(1, rows, "f", batch, settings).results()
        assert [result.time_to_send for result in results] == [None, "2099-01-01T09:00:00+00:00"]

    def test_a_plan_of_an_older_version_is_read(self):
        """It has the time of the last message, and no number of rows."""
        stored = {"since": NOW.isoformat(), "max_tries": 0, "batch_size": 10, "batches": 1, "state": "sending"}
        plan = Plan.read({**stored, "last_moment": "2099-01-01T09:00:00+00:00"})
        assert [result.row for result in plan.results(1, a_batch(ids=["a", "b"]))] == [1, 2]

    @pytest.mark.parametrize(
        ("times", "scheduled"),
        [
            ([SOON, None, AGO, SOON], {"a": SOON, "d": SOON}),
            (SOON, {"a": SOON, "c": SOON, "d": SOON}),
            (AGO, {}),
            (None, {}),
            ("not stored", {"a": None, "c": None, "d": None}),
        ],
    )
    def test_what_is_still_scheduled_by_its_own_time(self, times, scheduled):
        batch = a_batch(ids=["a", None, "c", "d"], errors={}, unknown=[], times=times)
        found = batch.still_scheduled(datetime.fromtimestamp(NOON, timezone.utc))
        assert {id_: due and due.timestamp() for id_, due in found.items()} == scheduled

    def test_a_full_batch_is_smaller_than_what_airflow_warns_of(self):
        id_ = "01234567-0123-0123-0123-0123456789ab"
        batch = a_batch(
            ids=[id_] * 1000,
            errors={"x" * 300: list(range(1000))},
            unknown=[],
            times=list(range(2_000_000_000, 2_000_001_000)),
        )
        assert len(json.dumps(batch.as_dict())) < 65_535


class TestResults:
    RESULTS = (
        RowResult(1, "accepted", "a", "2099-01-01T09:00:00+00:00"),
        RowResult(2, "rejected", error="no"),
        RowResult(3, "accepted", "b", None),
        RowResult(4, "rejected", error="no"),
    )

    def test_a_table_can_be_read_back(self):
        table = ResultsTable()
        for result in self.RESULTS:
            table.add(result)
        returned = table.close()
        assert is_result(returned)
        assert returned["errors"] == [{"error": "no", "rows": [2, 4]}]
        assert list(accepted_in(json.loads(json.dumps(returned)))) == [("a", "2099-01-01T09:00:00+00:00"), ("b", None)]

    def test_one_time_for_all_rows_is_stored_once(self):
        table = ResultsTable()
        table.add(self.RESULTS[1])
        table.add(self.RESULTS[0])
        returned = table.close()
        assert returned["time_to_send"] == "2099-01-01T09:00:00+00:00"
        assert list(accepted_in(returned)) == [("a", "2099-01-01T09:00:00+00:00")]

    def test_a_file_can_be_read_back(self, tmp_path):
        file = ResultsFile(str(tmp_path / "new" / "out.jsonl"))
        file.require_writable()
        for result in self.RESULTS:
            file.add(result)
        returned = json.loads(json.dumps(file.close()))
        assert is_result(returned)
        assert returned["errors"] == [{"error": "no", "count": 2, "first_rows": [2, 4]}]
        assert list(accepted_in(returned)) == [("a", "2099-01-01T09:00:00+00:00"), ("b", None)]

    def test_the_pointer_keeps_the_connection(self):
        from airflow.sdk import ObjectStoragePath

        assert ResultsFile(ObjectStoragePath("file://me@/tmp/out.jsonl")).close()["results"].startswith("file://me@")

    @pytest.mark.parametrize("value", ["a", ["a"], None, {"omnimessage_id": "a"}, {"cancelled": 3}])
    def test_other_values_are_no_result(self, value):
        assert not is_result(value)


class TestProgress:
    def test_progress_is_logged_every_few_seconds_and_at_the_end(self):
        lines, shown, seconds = [], [], [0.0]

        class Log:
            def info(self, text, *values):
                lines.append(text % values)

        progress = Progress(1000, "rows", Log(), shown.append, clock=lambda: seconds[0])
        for done in range(100, 1001, 100):
            seconds[0] += 2
            progress.at(done)
        assert lines == [
            "300 of 1,000 rows (30%), 50 per second, about 14 s left",
            "600 of 1,000 rows (60%), 50 per second, about 8 s left",
            "900 of 1,000 rows (90%), 50 per second, about 2 s left",
            "1,000 of 1,000 rows (100%), 50 per second, done",
        ]
        assert shown[0] == {"done": 300, "of": 1000, "percent": 30, "per_second": 50.0, "seconds_left": 14}

    def test_work_that_is_done_at_once_logs_no_progress(self):
        Progress(10, "rows", None).at(10)

    def test_a_store_that_fails_does_not_stop_the_work(self):
        class Log:
            returned = 0

            def info(self, *_):
                pass

            def warning(self, *_, **__):
                self.returned += 1

        def failing(_):
            raise OSError

        seconds = iter(range(0, 100, 10))
        log = Log()
        progress = Progress(9, "rows", log, failing, clock=lambda: next(seconds))
        progress.at(1)
        progress.at(2)
        assert log.returned == 1
