"""Rows of a bulk send: where they come from, and what is recorded of each."""

from __future__ import annotations

import json
from datetime import datetime, timezone

import pytest

from airflow_provider_omnimessage.api.errors import InvalidInputError
from airflow_provider_omnimessage.bulk.parallel import Progress
from airflow_provider_omnimessage.bulk.results import ResultsFile, ResultsTable, RowResult, accepted_in, is_result
from airflow_provider_omnimessage.bulk.rows import Spool, held, rows_of

NOW = datetime(2026, 11, 23, 9, 0, tzinfo=timezone.utc)
TO = "+37255555555"


def rows(given, **context):
    return [str(row) if isinstance(row, Exception) else row for row in rows_of("recipients", held(given), context)]


class TestSources:
    def test_a_function_is_given_what_it_names(self):
        assert rows(lambda ds: iter([ds]), ds="today", run_id="r") == ["today"]
        assert rows(lambda **context: sorted(context), ds="today", run_id="r") == ["ds", "run_id"]
        assert repr(held(rows)) == "<rows of rows()>"

    @pytest.mark.parametrize(
        ("content", "told"),
        [
            (
                "name;to\nx;1\n",
                "the file has no column 'to'; its first line, which is to name the columns, has 1 of them",
            ),
            ("", "the file has no column 'to'; its first line, which is to name the columns, has 0 of them"),
            ('name,to\n"x\n', "the file is not CSV: line"),
        ],
    )
    def test_a_file_that_is_no_csv(self, tmp_path, content, told):
        path = tmp_path / "people.csv"
        path.write_text(content)
        with pytest.raises(InvalidInputError, match=told):
            rows(str(path))

    def test_cells(self, tmp_path):
        path = tmp_path / "people.csv"
        path.write_text('to,name\r\n1,"a\nb"\r\n2,\r\n3\r\n4,c,d\r\n')
        assert rows(str(path)) == [
            {"to": "1", "name": "a\nb"},
            {"to": "2", "name": None},
            "row: has not the 2 cells that the first line names",
            "row: has not the 2 cells that the first line names",
        ]

    def test_lines(self, tmp_path):
        path = tmp_path / "people.jsonl"
        path.write_text('{"to": "1"}\n\n  \n{"to"\n[]\n')
        assert rows(str(path)) == [{"to": "1"}, "row: is not JSON; give one object in each line", []]

    @pytest.mark.parametrize("suffix", ["csv", "jsonl"])
    def test_another_encoding_is_told(self, tmp_path, suffix):
        path = tmp_path / f"people.{suffix}"
        path.write_bytes("to,name\n1,Õie\n".encode("latin-1"))
        with pytest.raises(InvalidInputError, match="the file is not UTF-8"):
            rows(str(path))

    @pytest.mark.parametrize("given", [None, 5, {"to": TO}, b"a", "people.txt", "[{'to': '+1'}]"])
    def test_what_is_no_source(self, given):
        with pytest.raises(InvalidInputError, match=r"^recipients: "):
            rows(given)

    def test_what_was_checked_is_what_is_sent(self):
        with Spool() as spool:
            spool.add(None, {"to": "a\n\t"})
            spool.leave_out("to: is missing\n")
            spool.add(NOW, {"to": "b"})
            (first, left_out), (last,) = spool.batches(2)
        assert json.loads(first.whole) == {"to": "a\n\t"}
        assert (left_out.row, left_out.problem) == (2, "to: is missing\n")
        assert json.loads(last.whole) == {"to": "b", "time_to_send": "2026-11-23T09:00:00+00:00"}


class TestResults:
    RESULTS = (
        RowResult(1, "accepted", "a", "2099-01-01T09:00:00+00:00"),
        RowResult(2, "refused", error="no"),
        RowResult(3, "accepted", "b", None),
        RowResult(4, "refused", error="no"),
    )

    def test_a_table(self):
        table = ResultsTable()
        for result in self.RESULTS:
            table.add(result)
        told = table.close()
        assert is_result(told)
        assert told["errors"] == [{"error": "no", "rows": [2, 4]}]
        assert list(accepted_in(json.loads(json.dumps(told)))) == [("a", "2099-01-01T09:00:00+00:00"), ("b", None)]

    def test_one_moment_for_all_is_told_once(self):
        table = ResultsTable()
        table.add(self.RESULTS[1])
        table.add(self.RESULTS[0])
        told = table.close()
        assert told["time_to_send"] == "2099-01-01T09:00:00+00:00"
        assert list(accepted_in(told)) == [("a", "2099-01-01T09:00:00+00:00")]

    def test_a_file(self, tmp_path):
        file = ResultsFile(str(tmp_path / "new" / "out.jsonl"))
        file.require_writable()
        for result in self.RESULTS:
            file.add(result)
        told = json.loads(json.dumps(file.close()))
        assert is_result(told)
        assert told["errors"] == [{"error": "no", "count": 2, "first_rows": [2, 4]}]
        assert list(accepted_in(told)) == [("a", "2099-01-01T09:00:00+00:00"), ("b", None)]

    def test_the_pointer_keeps_the_connection(self):
        from airflow.sdk import ObjectStoragePath

        assert ResultsFile(ObjectStoragePath("file://me@/tmp/out.jsonl")).close()["results"].startswith("file://me@")

    @pytest.mark.parametrize("value", ["a", ["a"], None, {"omnimessage_id": "a"}, {"cancelled": 3}])
    def test_other_things_are_none(self, value):
        assert not is_result(value)


class TestProgress:
    def test_it_is_said_every_few_seconds_and_at_the_end(self):
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

    def test_what_is_over_at_once_needs_none(self):
        Progress(10, "rows", None).at(10)

    def test_a_store_that_fails_stops_nothing(self):
        class Log:
            told = 0

            def info(self, *_):
                pass

            def warning(self, *_, **__):
                self.told += 1

        def failing(_):
            raise OSError

        seconds = iter(range(0, 100, 10))
        log = Log()
        progress = Progress(9, "rows", log, failing, clock=lambda: next(seconds))
        progress.at(1)
        progress.at(2)
        assert log.told == 1
