"""The rules of bulk sending: filling texts, reading files, reading responses, and what a retry posts."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from decimal import Decimal

import pytest

from airflow_provider_omnimessage.api.bulk import Composer, RowProblems, too_many_rejected
from airflow_provider_omnimessage.api.calls import send_bulk
from airflow_provider_omnimessage.api.errors import InvalidInputError, Problem, UnexpectedResponseError
from airflow_provider_omnimessage.api.fields import Problems, limit, require
from airflow_provider_omnimessage.api.messages import sms, viber, whatsapp
from airflow_provider_omnimessage.api.placeholders import compile_placeholders
from airflow_provider_omnimessage.api.responses import Accepted, NotAccepted, Response
from airflow_provider_omnimessage.api.send_times import TimeRules
from airflow_provider_omnimessage.bulk.rows import Spool, read_rows, wrap_function

NOW = datetime(2026, 11, 23, 9, 0, tzinfo=timezone.utc)
TO = "+37255555555"


def composer(messages=None, **settings):
    names = ("time_to_send", "timezone", "window", "on_unknown_zone")
    rules = TimeRules(**{name: settings.pop(name) for name in names if name in settings})
    return Composer(**{"messages": messages, "defaults": {}, "sender": None, "rules": rules, "now": NOW, **settings})


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
    def test_a_placeholder_is_a_name_and_nothing_else(self, text, filled):
        fields = {"name": "Mari", "count": 3, "price": 1.5, "exact": Decimal("2.50")}
        problems = Problems()
        filler = compile_placeholders(text, "text", problems)
        assert (filler(fields, problems) if filler else text) == filled
        assert problems == []

    @pytest.mark.parametrize("text", ["$5", "a $ b", "${na me}", "${a.b}", "$"])
    def test_a_dollar_sign_without_a_name_is_rejected(self, text):
        problems = Problems()
        compile_placeholders([{"channel": "sms", "text": text}], "messages", problems)
        assert [problem.field for problem in problems] == ["messages[0].text"]
        assert "write $name or ${name}, and $$ for a dollar sign" in problems[0].reason

    @pytest.mark.parametrize("value", [None, True, ["a"], {"a": 1}, float("nan"), NOW])
    def test_a_field_that_is_neither_text_nor_number_is_rejected(self, value):
        with pytest.raises(InvalidInputError, match=r"^name: .*messages\[0\].text"):
            composer([sms("Hello $name")]).compose({"to": TO, "name": value})

    def test_the_value_of_a_field_is_not_filled_again(self):
        row = composer([sms("$a")]).compose({"to": TO, "a": "$b {{ 1 }}", "b": "x"})
        assert row.body["messages"][0]["text"] == "$b {{ 1 }}"

    def test_every_text_of_a_message_is_filled_except_its_channel(self):
        messages = [viber("$t", button_text="$t", button_url="https://a.example/$id"), sms("$t", ttl=None)]
        body = composer(messages).compose({"to": TO, "t": "x", "id": 7}).body
        assert body["messages"][0]["button_url"] == "https://a.example/7"
        assert body["messages"][1]["text"] == "x"


class TestComposing:
    def test_all_problems_of_a_row_are_reported(self):
        with pytest.raises(InvalidInputError) as rejected:
            composer([sms("a")]).compose({"to": "12", "time_to_send": "tomorrow", "timezone": "Mars/Base"})
        assert [problem.field for problem in rejected.value.problems] == ["to", "timezone"]

    def test_a_filled_text_that_is_too_long_is_reported(self):
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
    def test_the_quick_check_gives_the_same_result_as_the_full_check(self, messages):
        """The first row is checked in full; for the others, only the number and the filled texts are."""
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

        def outcome(compose, row):
            try:
                return compose(row)
            except InvalidInputError as error:
                return str(error)

        quick = composer(messages, sender="ACME", defaults={"priority": "low"}).compose
        for row in rows:
            whole = composer(messages, sender="ACME", defaults={"priority": "low"}).compose
            assert outcome(quick, row) == outcome(whole, row)

    def test_an_unknown_field_of_an_omnimessage_is_rejected(self):
        with pytest.raises(InvalidInputError, match="did you mean time_to_send"):
            composer().compose({"to": TO, "messages": [sms("a")], "time_to_sent": "2099-01-01T09:00"})

    def test_a_timedelta_counts_from_the_first_try(self):
        row = composer([sms("a")], time_to_send=timedelta(hours=1)).compose({"to": TO})
        assert row.choice.chosen.utc == NOW + timedelta(hours=1)

    @pytest.mark.parametrize("missing", ["", "None", None])
    def test_a_row_without_a_time_has_that_of_the_task(self, missing):
        subject = composer([sms("a")], time_to_send="2026-12-24T09:00")
        row = subject.compose({"to": TO, "time_to_send": missing})
        assert row.choice.chosen.utc == datetime(2026, 12, 24, 9, tzinfo=timezone.utc)

    def test_a_row_overrides_the_defaults(self):
        compose = composer(defaults={"priority": "low", "dlr_url": None}, sender="ACME").compose
        assert compose({"to": TO, "messages": [sms("a")]}).body == {
            "priority": "low",
            "to": TO,
            "messages": [{"channel": "sms", "text": "a", "sender": "ACME"}],
        }
        assert compose({"to": TO, "messages": [sms("a")], "priority": "high"}).body["priority"] == "high"

    def test_a_clock_change_is_reported_once_for_all_rows(self):
        subject = composer([sms("a")], timezone="Europe/Tallinn")
        for _ in range(3):
            subject.compose({"to": TO, "time_to_send": "2027-03-28T03:30"})
        assert len(subject.chooser.warnings) == 1

    def test_the_report_counts_the_problems_that_it_does_not_list(self):
        problems = RowProblems()
        for row in range(1, 31):
            problems.add(row, (Problem("to", "a"), Problem("name", "b")))
        report = str(problems.as_error(1000))
        assert report.startswith("30 of 1,000 rows cannot be sent: row 1, to: a; row 1, name: b; row 2")
        assert report.endswith("row 10, name: b; and: 40 more problems")

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
        assert too_many_rejected(failed, of, limit) is too_many

    @pytest.mark.parametrize("value", [-1, 1.01, True, "1", None, float("nan")])
    def test_an_invalid_limit_is_rejected(self, value):
        with pytest.raises(InvalidInputError, match="max_failed"):
            require("max_failed", value, limit())


class TestTheResponse:
    def read(self, entries, count=2, status=201):
        body = json.dumps(entries if isinstance(entries, dict) else {"messages": entries}).encode()
        return send_bulk([{"to": TO}] * count).result(Response(status, {"content-type": "application/json"}, body))

    def test_each_entry_belongs_to_the_message_at_its_position(self):
        good = {"omnimessage_id": "a", "to": TO, "messages": [{"channel": "sms", "message_id": "m"}]}
        bad = {"errors": [{"title": "Invalid data", "detail": f"to {TO} is not", "code": "105", "source": "to"}]}
        assert self.read([bad, good]) == [
            NotAccepted("Invalid data: to +37255•••55 is not [to]"),
            Accepted("a", TO, {"sms": "m"}),
        ]

    @pytest.mark.parametrize("entry", [None, {}, "a", {"omnimessage_id": ""}, {"errors": []}, {"errors": "no"}])
    def test_it_is_unknown_whether_a_message_with_an_empty_entry_was_accepted(self, entry):
        good = {"omnimessage_id": "a"}
        _, unknown = self.read([good, entry])
        assert unknown.maybe_processed

    @pytest.mark.parametrize("entries", [[], [{}], [{}] * 3, {"messages": {}}, {}])
    def test_another_number_of_entries_leaves_all_unknown(self, entries):
        with pytest.raises(UnexpectedResponseError) as unreadable:
            self.read(entries)
        assert unreadable.value.maybe_processed

    def test_json_bodies_are_sent_unchanged(self):
        call = send_bulk([b'{"to": "a"}', {"to": "b"}])
        assert json.loads(call.content) == {"messages": [{"to": "a"}, {"to": "b"}]}


def rows(source, **context):
    return [
        str(row) if isinstance(row, Exception) else row
        for row in read_rows("recipients", wrap_function(source), context)
    ]


class TestSources:
    def test_a_function_receives_the_context_variables_that_it_names(self):
        assert rows(lambda ds: iter([ds]), ds="today", run_id="r") == ["today"]
        assert rows(lambda **context: sorted(context), ds="today", run_id="r") == ["ds", "run_id"]
        assert repr(wrap_function(rows)) == "<rows of rows()>"

    @pytest.mark.parametrize(
        ("content", "error"),
        [
            (
                "name;to\nx;1\n",
                "its first line must name the columns, separated by commas, and has 1 of them",
            ),
            (
                "",
                "its first line must name the columns, separated by commas, and has 0 of them",
            ),
            ('name,to\n"x\n', "the file is not CSV: line"),
        ],
    )
    def test_an_invalid_csv_file_is_rejected(self, tmp_path, content, error):
        path = tmp_path / "people.csv"
        path.write_text(content)
        with pytest.raises(InvalidInputError, match=error):
            rows(str(path))

    def test_csv_cells(self, tmp_path):
        path = tmp_path / "people.csv"
        path.write_text('to,name\r\n1,"a\nb"\r\n2,\r\n3\r\n4,c,d\r\n')
        assert rows(str(path)) == [
            {"to": "1", "name": "a\nb"},
            {"to": "2", "name": None},
            "row: does not have the 2 cells that the first line names",
            "row: does not have the 2 cells that the first line names",
        ]

    def test_json_lines(self, tmp_path):
        path = tmp_path / "people.jsonl"
        path.write_text('{"to": "1"}\n\n  \n{"to"\n[]\n')
        assert rows(str(path)) == [{"to": "1"}, "row: is not JSON; write one object per line", []]

    @pytest.mark.parametrize("suffix", ["csv", "jsonl"])
    def test_another_encoding_is_rejected(self, tmp_path, suffix):
        path = tmp_path / f"people.{suffix}"
        path.write_bytes("to,name\n1,Õie\n".encode("latin-1"))
        with pytest.raises(InvalidInputError, match="the file is not UTF-8"):
            rows(str(path))

    @pytest.mark.parametrize("source", [None, 5, {"to": TO}, b"a", "people.txt", "{'to': '+1'}", "[{'to': 1"])
    def test_other_values_are_rejected(self, source):
        with pytest.raises(InvalidInputError, match=r"^recipients: "):
            rows(source)

    @pytest.mark.parametrize("source", ["[{'to': '+1'}]", '[{"to": "+1"}]', "({'to': '+1'},)"])
    def test_a_list_that_a_template_rendered_as_text(self, source):
        assert rows(source) == [{"to": "+1"}]
        assert rows("[]") == []

    def test_the_checked_row_is_what_is_sent(self):
        with Spool() as spool:
            spool.add(None, {"to": "a\n\t"})
            spool.leave_out("to: is missing\n")
            spool.add(NOW, {"to": "b"})
            (first, left_out), (last,) = spool.batches(2)
        assert json.loads(first.json(first.time_to_send)) == {"to": "a\n\t"}
        assert (left_out.row, left_out.problem) == (2, "to: is missing\n")
        assert json.loads(last.json(last.time_to_send)) == {"to": "b", "time_to_send": "2026-11-23T09:00:00+00:00"}
