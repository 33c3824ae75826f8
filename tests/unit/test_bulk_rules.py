"""The rules of bulk sending: what fills a text, what is read from a file, what an answer says, what a retry posts."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from decimal import Decimal

import pytest

from airflow_provider_omnimessage.api.bulk import Composer, RowProblems, require_limit, too_many_failed
from airflow_provider_omnimessage.api.calls import Accepted, NotAccepted, Response, send_bulk
from airflow_provider_omnimessage.api.errors import InvalidInputError, Problem, UnexpectedResponseError
from airflow_provider_omnimessage.api.fields import Problems
from airflow_provider_omnimessage.api.messages import sms, viber, whatsapp
from airflow_provider_omnimessage.api.placeholders import compile_placeholders
from airflow_provider_omnimessage.bulk.memory import Batch, BulkStep, Plan, next_bulk_step
from airflow_provider_omnimessage.bulk.results import ResultsFile, ResultsTable, RowResult, accepted_in, is_result
from airflow_provider_omnimessage.bulk.rows import Spool, held, rows_of
from airflow_provider_omnimessage.tasks.parallel import Progress

NOW = datetime(2026, 11, 23, 9, 0, tzinfo=timezone.utc)
TO = "+37255555555"


def composer(messages=None, **settings):
    settings = {"defaults": {}, "sender": None, "time_to_send": None, "timezone": None, "now": NOW, **settings}
    return Composer(messages=messages, **settings)


class TestPlaceholders:
    @pytest.mark.parametrize(
        ("text", "filled"),
        [
            ("Hello $name", "Hello Mari"),
            ("${name}!", "Mari!"),
            ("$name$name", "MariMari"),
            ("$$5 for $name", "$5 for Mari"),
            ("$$name", "$name"),
            ("{name} {0} {name.__class__} %(name)s {{ name }}", "{name} {0} {name.__class__} %(name)s {{ name }}"),
            ("$name.__class__", "Mari.__class__"),
            ("$name[0]", "Mari[0]"),
            ("$count of $price, $exact", "3 of 1.5, 2.50"),
        ],
    )
    def test_they_are_names_and_nothing_else(self, text, filled):
        fields = {"name": "Mari", "count": 3, "price": 1.5, "exact": Decimal("2.50")}
        problems = Problems()
        filler = compile_placeholders(text, "text", problems)
        assert (filler(fields, problems) if filler else text) == filled
        assert problems == []

    @pytest.mark.parametrize("text", ["$5", "a $ b", "${na me}", "${a.b}", "$"])
    def test_a_dollar_that_begins_no_name_is_invalid(self, text):
        problems = Problems()
        compile_placeholders([{"channel": "sms", "text": text}], "messages", problems)
        assert [problem.field for problem in problems] == ["messages[0].text"]
        assert "write $name or ${name}, and $$ for a $" in problems[0].reason

    @pytest.mark.parametrize("value", [None, True, ["a"], {"a": 1}, float("nan"), NOW])
    def test_what_is_neither_text_nor_number_is_refused_by_its_name(self, value):
        with pytest.raises(InvalidInputError, match=r"^name: .*messages\[0\].text"):
            composer([sms("Hello $name")]).compose({"to": TO, "name": value})

    def test_what_a_field_holds_is_never_filled_again(self):
        row = composer([sms("$a")]).compose({"to": TO, "a": "$b {{ 1 }}", "b": "x"})
        assert row.body["messages"][0]["text"] == "$b {{ 1 }}"

    def test_every_text_of_a_message_is_filled_but_its_channel(self):
        messages = [viber("$t", button_text="$t", button_url="https://a.example/$id"), sms("$t", ttl=None)]
        body = composer(messages).compose({"to": TO, "t": "x", "id": 7}).body
        assert body["messages"][0]["button_url"] == "https://a.example/7"
        assert body["messages"][1]["text"] == "x"


class TestComposing:
    def test_everything_that_is_wrong_with_a_row_is_told(self):
        with pytest.raises(InvalidInputError) as refused:
            composer([sms("a")]).compose({"to": "12", "time_to_send": "tomorrow", "timezone": "Mars/Base"})
        assert [problem.field for problem in refused.value.problems] == ["to", "timezone"]

    def test_a_text_that_grows_too_long_is_told(self):
        with pytest.raises(InvalidInputError, match="1,001 characters"):
            composer([viber("$t")]).compose({"to": TO, "t": "x" * 1001})

    @pytest.mark.parametrize(
        "messages",
        [
            [sms("Hello $a", sender="$b")],
            [
                viber("$a", image_url="https://a.example/$b.png", button_text="$a", button_url="https://a.example"),
                sms("$b"),
            ],
            [whatsapp("$a"), sms("all the same")],
            [viber("$a", ttl=5, video=None), {"channel": "sms", "text": "$$$b", "ttl": "7"}],
            [whatsapp({"body": "$a"})],
            [sms("no field")],
        ],
    )
    def test_the_quick_way_gives_what_the_whole_check_gives(self, messages):
        """The first row is checked as a whole; the others are held against it."""
        rows = [
            {"to": TO, "a": "x", "b": "y"},
            {"to": "+372 5555 5556", "a": "é$a", "b": 3},
            {"to": TO, "a": "x" * 1001, "b": "y"},
            {"to": TO, "a": "\ud800", "b": "y"},
            {"to": TO, "a": "", "b": " "},
            {"to": TO, "b": "y"},
            {"to": "nobody", "a": None, "b": None},
            {"to": None},
            {"to": TO, "a": "again", "b": "z", "time_to_send": "2099-01-01T09:00", "timezone": "Asia/Tokyo"},
        ]

        def told(compose, row):
            try:
                return compose(row)
            except InvalidInputError as error:
                return str(error)

        quick = composer(messages, sender="ACME", defaults={"priority": "low"}).compose
        for row in rows:
            whole = composer(messages, sender="ACME", defaults={"priority": "low"}).compose
            assert told(quick, row) == told(whole, row)

    def test_an_unknown_field_of_an_omnimessage_is_invalid(self):
        with pytest.raises(InvalidInputError, match="did you mean time_to_send"):
            composer().compose({"to": TO, "messages": [sms("a")], "time_to_sent": "2099-01-01T09:00"})

    def test_a_timedelta_counts_from_the_first_try(self):
        row = composer([sms("a")], time_to_send=timedelta(hours=1)).compose({"to": TO})
        assert row.moment.utc == NOW + timedelta(hours=1)

    def test_defaults_give_way(self):
        compose = composer(defaults={"priority": "low", "dlr_url": None}, sender="ACME").compose
        assert compose({"to": TO, "messages": [sms("a")]}).body == {
            "priority": "low",
            "to": TO,
            "messages": [{"channel": "sms", "text": "a", "sender": "ACME"}],
        }
        assert compose({"to": TO, "messages": [sms("a")], "priority": "high"}).body["priority"] == "high"

    def test_a_clock_change_is_told_once_for_all_who_meet_it(self):
        subject = composer([sms("a")], timezone="Europe/Tallinn")
        for _ in range(3):
            subject.compose({"to": TO, "time_to_send": "2027-03-28T03:30"})
        assert len(subject.warnings) == 1

    def test_the_report_counts_what_it_does_not_tell(self):
        problems = RowProblems()
        for row in range(1, 31):
            problems.add(row, (Problem("to", "a"), Problem("name", "b")))
        told = str(problems.as_error(1000))
        assert told.startswith("30 of 1,000 rows cannot be sent: row 1, to: a; row 1, name: b; row 2")
        assert told.endswith("row 10, name: b; and: 40 more problems")

    @pytest.mark.parametrize(
        ("failed", "of", "limit", "too_many"),
        [
            (0, 9, 0, False),
            (1, 9, 0, True),
            (1, 9, 1, False),
            (1, 10, 0.1, False),
            (2, 10, 0.1, True),
            (9, 9, 1.0, False),
        ],
    )
    def test_how_many_may_fail(self, failed, of, limit, too_many):
        assert too_many_failed(failed, of, limit) is too_many

    @pytest.mark.parametrize("limit", [-1, 1.01, True, "1", None, float("nan")])
    def test_a_limit_that_is_none(self, limit):
        with pytest.raises(InvalidInputError, match="max_failed"):
            require_limit("max_failed", limit)


class TestTheAnswer:
    def read(self, entries, count=2, status=201):
        body = json.dumps(entries if isinstance(entries, dict) else {"messages": entries}).encode()
        return send_bulk([{"to": TO}] * count).result(Response(status, {"content-type": "application/json"}, body))

    def test_each_answer_belongs_to_its_message_by_position(self):
        good = {"omnimessage_id": "a", "to": TO, "messages": [{"channel": "sms", "message_id": "m"}]}
        bad = {"errors": [{"title": "Invalid data", "detail": f"to {TO} is not", "code": "105", "source": "to"}]}
        assert self.read([bad, good]) == [
            NotAccepted("Invalid data: to +37255•••55 is not [to]"),
            Accepted("a", TO, {"sms": "m"}),
        ]

    @pytest.mark.parametrize("entry", [None, {}, "a", {"omnimessage_id": ""}, {"errors": []}, {"errors": "no"}])
    def test_an_entry_that_says_nothing_is_a_doubt(self, entry):
        good = {"omnimessage_id": "a"}
        _, doubtful = self.read([good, entry])
        assert doubtful.maybe_processed

    @pytest.mark.parametrize("entries", [[], [{}], [{}] * 3, {"messages": {}}, {}])
    def test_another_number_of_entries_is_a_doubt_for_all(self, entries):
        with pytest.raises(UnexpectedResponseError) as unreadable:
            self.read(entries)
        assert unreadable.value.maybe_processed

    def test_bodies_that_are_json_already_are_sent_as_they_are(self):
        call = send_bulk([b'{"to": "a"}', {"to": "b"}])
        assert json.loads(call.content) == {"messages": [{"to": "a"}, {"to": "b"}]}


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


def a_batch(**settings):
    known = {"fingerprint": "f", "max_tries": 0, "at": NOW.isoformat(), "doubt": "d", "errors": {}, "unknown": []}
    return Batch(**{**known, "ids": ["a", None, None], **settings})


class TestWhatARetryPosts:
    @pytest.mark.parametrize(
        ("at_least_once", "max_tries", "posted"),
        [(False, 0, []), (True, 0, [2]), (False, 1, [1, 2]), (True, 1, [1, 2])],
    )
    def test_never_what_is_known_to_be_accepted(self, at_least_once, max_tries, posted):
        batch = a_batch(errors={"no": [1]}, unknown=[2])
        assert batch.to_post(max_tries, at_least_once=at_least_once) == posted

    @pytest.mark.parametrize(
        ("state", "max_tries", "step"),
        [
            ("sending", 0, BulkStep.RESUME),
            ("sending", 1, BulkStep.RESUME),
            ("ended", 0, BulkStep.RESUME),
            ("ended", 1, BulkStep.REPLACE),
            ("replacing", 1, BulkStep.REPLACE),
            ("replacing", 0, BulkStep.REPLACE),
        ],
    )
    def test_only_a_clear_after_a_success_begins_anew(self, state, max_tries, step):
        plan = Plan(NOW.isoformat(), 0, 1000, 3, None, state)
        assert next_bulk_step(plan, max_tries) is step
        assert next_bulk_step(None, max_tries) is BulkStep.START

    @pytest.mark.parametrize("value", ["x", {}, {"since": 1}, 7, [1]])
    def test_what_was_written_by_somebody_else_is_invalid(self, value):
        with pytest.raises(InvalidInputError, match="task_state_store"):
            Plan.read(value)
        with pytest.raises(InvalidInputError, match="task_state_store"):
            Batch.read(value, "k")

    @pytest.mark.parametrize("change", [{"ids": [1]}, {"unknown": [3]}, {"at": "now"}])
    def test_a_batch_that_was_edited_is_invalid(self, change):
        assert Batch.read(a_batch().as_dict(), "k") == a_batch()
        with pytest.raises(InvalidInputError, match="task_state_store"):
            Batch.read({**a_batch().as_dict(), **change}, "k")

    def test_a_full_batch_fits_into_what_airflow_stores_without_a_warning(self):
        id_ = "01234567-0123-0123-0123-0123456789ab"
        batch = a_batch(ids=[id_] * 1000, errors={"x" * 300: list(range(1000))}, unknown=list(range(1000)))
        assert len(json.dumps(batch.as_dict())) < 65_535


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
