"""What a bulk send accepts: recipients and messages from every source, and the checks before anything is sent."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

import pytest
from airflow.sdk import ObjectStoragePath, task
from bulk_sends import NEW_YEAR, bulk_calls, live, number, people, sending, texts

from airflow_provider_omnimessage.api.errors import InvalidInputError
from airflow_provider_omnimessage.api.messages import omnimessage, sms, viber
from airflow_provider_omnimessage.operators.bulk import ScheduleBulkOmnimessageOperator


class TestTheInput:
    def test_each_recipient_gets_a_text_of_their_own(self, dag, run_dag, sandbox):
        sending(recipients=people(3))
        run = run_dag(dag)
        assert texts(sandbox) == ["Hello Person 0", "Hello Person 1", "Hello Person 2"]
        result = run.xcom("send")
        assert result["omnimessage_id"] == [message["omnimessage_id"] for message in sandbox.messages]
        assert (result["messages"], result["accepted"], result["errors"]) == (3, 3, [])
        assert len(bulk_calls(sandbox)) == 1

    def test_any_mix_of_omnimessages(self, dag, run_dag, sandbox):
        sending(
            omnimessages=[
                omnimessage(number(1), [viber("a", ttl=60), sms("a")], priority="high"),
                {"to": number(2), "messages": [sms("b")], "time_to_send": NEW_YEAR},
                {
                    "to": number(3),
                    "messages": [sms("$c")],
                    "time_to_send": "2099-01-01T09:00",
                    "timezone": "Asia/Tokyo",
                },
            ]
        )
        run = run_dag(dag)
        assert [message["time_to_send"] for message in sandbox.messages] == [
            None,
            "2099-01-01T09:00:00+00:00",
            "2099-01-01T00:00:00+00:00",
        ]
        assert run.xcom("send")["time_to_send"] == [message["time_to_send"] for message in sandbox.messages]
        assert texts(sandbox)[2] == "$c", "only recipients have fields"

    def test_each_at_nine_where_they_live(self, dag, run_dag, sandbox):
        zones = ["Europe/Tallinn", "America/New_York", "Asia/Tokyo"]
        sending(
            recipients=[{"to": number(index), "name": "x", "timezone": zone} for index, zone in enumerate(zones)],
            time_to_send="2099-07-01T09:00",
        )
        run_dag(dag)
        hours = [datetime.fromisoformat(message["time_to_send"]).hour for message in sandbox.messages]
        assert hours == [6, 13, 0]

    def test_what_a_task_returned(self, dag, run_dag, sandbox):
        @task
        def customers():
            return people(3)

        sending(recipients=customers())
        assert run_dag(dag).state == "success"
        assert list(live(sandbox)) == [number(index) for index in range(3)]

    def test_the_output_of_a_mapped_task(self, dag, run_dag, sandbox):
        @task
        def customer(index):
            return {"to": number(index), "name": "{{ 1 + 1 }} $to"}

        sending(recipients=customer.expand(index=[1, 2]))
        assert run_dag(dag).state == "success"
        assert texts(sandbox) == ["Hello {{ 1 + 1 }} $to"] * 2, "what is data is never rendered, and never filled again"

    def test_a_function_that_generates_them(self, dag, run_dag, sandbox):
        def customers(run_id):
            yield {"to": number(1), "name": run_id}

        sending(recipients=customers)
        run = run_dag(dag)
        assert texts(sandbox) == [f"Hello {run.run_id}"]

    @pytest.mark.parametrize(("suffix", "as_object"), [("jsonl", True), ("csv", False)])
    def test_a_file(self, dag, run_dag, sandbox, tmp_path, suffix, as_object):
        path = tmp_path / f"people.{suffix}"
        rows = [{"to": number(1), "name": 'Õie, "the first"'}, {"to": number(2), "name": "Ülo"}]
        if suffix == "csv":
            path.write_text(f'\ufeffname,to\n"Õie, ""the first""",{number(1)}\nÜlo,{number(2)}\n')
        else:
            path.write_text("\n\n".join(map(json.dumps, rows)))
        sending(recipients=ObjectStoragePath(f"file://{path}") if as_object else f"file://{path}")
        assert run_dag(dag).state == "success"
        assert texts(sandbox) == ['Hello Õie, "the first"', "Hello Ülo"]

    def test_templates_are_rendered_before_fields_are_filled(self, dag, run_dag, sandbox):
        sending(
            recipients=[{"to": number(1), "name": "{{ dag.dag_id }}"}],
            messages=[sms("{{ 'Hi' }} ${name}, $$5")],
            time_to_send="{{ '2099-01-01T09:00Z' }}",
        )
        run_dag(dag)
        assert texts(sandbox) == [f"Hi {dag.dag_id}, $5"]

    def test_nobody_to_send_to_is_a_skip(self, dag, run_dag, sandbox):
        sending(recipients=[])
        assert run_dag(dag).tasks == {"send": "skipped"}

    @pytest.mark.parametrize(
        "odd",
        [
            {"time_to_send": {"a": 1}},
            {"time_to_send": ["2099-01-01"]},
            {"timezone": []},
            {"timezone": {"a": 1}, "time_to_send": NEW_YEAR},
            {"name": 10**400},
        ],
    )
    def test_an_odd_row_is_a_problem_of_that_row(self, dag, run_dag, sandbox, odd):
        rows = people(3)
        rows[1].update(odd)
        sending(recipients=rows, on_invalid="drop", time_to_send=NEW_YEAR)
        run = run_dag(dag)
        assert run.tasks == {"send": "success"}
        assert run.xcom("send")["accepted"] >= 2

    def test_a_csv_with_a_column_twice_is_invalid(self, dag, run_dag, sandbox, tmp_path):
        path = tmp_path / "people.csv"
        path.write_text(f"to,name,to\n{number(1)},x,{number(2)}\n")
        sending(recipients=str(path))
        assert run_dag(dag).tasks == {"send": "failed"}
        assert not sandbox.messages

    def test_a_csv_without_a_first_line_shows_nobody(self, dag, run_dag, sandbox, tmp_path):
        path = tmp_path / "people.csv"
        path.write_text(f"{number(1)},Mari Maasikas\n")
        sending(recipients=str(path))
        run = run_dag(dag)
        assert run.tasks == {"send": "failed"}
        assert "Maasikas" not in run.log

    def test_what_is_null_in_a_row_is_what_the_task_says(self, dag, run_dag, sandbox):
        ScheduleBulkOmnimessageOperator(
            task_id="send",
            omnimessages=[{"to": number(1), "messages": [sms("a")], "priority": None, "dlr_url": None}],
            priority="high",
        )
        run_dag(dag)
        assert sandbox.messages[0]["body"]["priority"] == "high"

    def test_mapped_messages_of_a_task_are_not_rendered(self, dag, run_dag, sandbox):
        @task
        def given():
            return [[sms("{{ 1 + 1 }}")], [sms("{{ 2 + 2 }}")]]

        ScheduleBulkOmnimessageOperator.partial(task_id="send", recipients=people(1)).expand(messages=given())
        run_dag(dag)
        texts = sorted(message["body"]["messages"][0]["text"] for message in sandbox.messages)
        assert texts == ["{{ 1 + 1 }}", "{{ 2 + 2 }}"]

    def test_messages_of_a_task_are_not_rendered(self, dag, run_dag, sandbox):
        @task
        def text():
            return "{{ 1 + 1 }}"

        sending(recipients=people(1), messages=[{"channel": "sms", "text": text()}])
        run_dag(dag)
        assert [message["body"]["messages"][0]["text"] for message in sandbox.messages] == ["{{ 1 + 1 }}"]

    def test_a_mapped_task_with_a_wrong_setting_is_not_retried(self, dag, run_dag, sandbox):
        ScheduleBulkOmnimessageOperator.partial(
            task_id="send", recipients=people(1), messages=[sms("x")], retries=2, retry_delay=timedelta(0)
        ).expand(max_failed=[7.5])
        run = run_dag(dag)
        assert "failed" in run.tasks.values() or run.state == "failed"
        assert list(run.tries.values()) == [1]


class TestChecking:
    def test_nothing_is_sent_where_one_row_is_wrong_and_all_are_told(self, dag, run_dag, sandbox):
        rows = people(250)
        rows[7]["to"] = "37255"
        del rows[120]["name"]
        rows[240] = "nobody"
        sending(recipients=rows, retries=2)
        run = run_dag(dag)
        assert run.tasks == {"send": "failed"}
        assert run.tries == {"send": 1}
        assert sandbox.requests == []
        assert "3 of 250 rows cannot be sent: row 8, to: 37•••" in run.log
        assert "37255" not in run.log
        assert "row 121, name: is missing; messages[0].text asks for $name" in run.log
        assert "row 241: a text of 6 characters is not accepted; give a dict with 'to'" in run.log

    def test_the_report_is_cut(self, dag, run_dag, sandbox):
        sending(recipients=[{"to": "+372"}] * 3000)
        run = run_dag(dag)
        assert "3,000 of 3,000 rows cannot be sent" in run.log
        assert "row 20, " in run.log
        assert "row 21, " not in run.log
        assert "more problems" in run.log

    def test_what_is_wrong_can_be_left_out(self, dag, run_dag, sandbox):
        rows = people(5)
        rows[1]["to"] = "nonsense"
        sending(recipients=rows, on_invalid="drop")
        run = run_dag(dag)
        result = run.xcom("send")
        assert (result["accepted"], result["invalid"]) == (4, 1)
        assert result["omnimessage_id"][1] is None
        assert result["errors"][0]["rows"] == [2]
        assert list(live(sandbox)) == [number(0), number(2), number(3), number(4)]

    @pytest.mark.parametrize(
        ("on_past", "state", "sent"), [("fail", "failed", 0), ("skip", "success", 1), ("send_now", "success", 2)]
    )
    def test_a_moment_that_has_gone_by(self, dag, run_dag, sandbox, on_past, state, sent):
        rows = [{**people(2)[0], "time_to_send": "2020-01-01T09:00"}, {**people(2)[1], "time_to_send": NEW_YEAR}]
        sending(recipients=rows, on_past=on_past)
        run = run_dag(dag)
        assert run.tasks == {"send": state}
        assert len(sandbox.messages) == sent
        if on_past == "fail":
            assert "row 1, time_to_send: 2020-01-01 09:00:00 UTC has gone by" in run.log
        else:
            assert run.xcom("send")["skipped"] == 2 - sent
            assert {message["state"] for message in sandbox.messages} >= {"scheduled"}

    def test_all_skipped_is_a_skip(self, dag, run_dag, sandbox):
        sending(recipients=people(2), time_to_send="2020-01-01T09:00Z", on_past="skip")
        assert run_dag(dag).tasks == {"send": "skipped"}

    def test_broken_lines_are_told_by_their_row(self, dag, run_dag, sandbox, tmp_path):
        path = tmp_path / "people.jsonl"
        path.write_text(f'{{"to": "{number(1)}", "name": "a"}}\n{{"to"\n[1]\n')
        sending(recipients=str(path))
        run = run_dag(dag)
        assert "row 2: is not JSON; give one object in each line" in run.log
        assert "row 3: a list is not accepted" in run.log

    @pytest.mark.parametrize(
        ("settings", "told"),
        [
            ({}, "omnimessages: is missing, and so is recipients"),
            ({"recipients": [], "omnimessages": []}, "omnimessages: is given, and so is recipients"),
            ({"recipients": [], "messages": None}, "messages: is missing"),
            ({"recipients": (row for row in [])}, "recipients: a generator can be gone through once"),
            ({"recipients": "people.txt"}, "recipients: a text of 10 characters does not name a file"),
            ({"recipients": {"to": "+1"}}, "recipients: a dict is not accepted"),
            ({"recipients": [], "messages": [sms("Only $5")]}, "messages[0].text: the $ at character 6 begins no name"),
            ({"recipients": [], "messages": [{"channel": "smss"}]}, "messages[0].channel"),
            ({"recipients": [], "batch_size": 1001}, "batch_size: 1001 is not accepted"),
            ({"recipients": [], "parallel": 0}, "parallel: 0 is not accepted"),
            ({"recipients": [], "max_failed": 1.5}, "max_failed: 1.5 is not accepted"),
            ({"recipients": [], "max_failed": True}, "max_failed: True is not accepted"),
            ({"recipients": [], "on_invalid": "skip"}, "on_invalid: 'skip' is not accepted"),
            ({"recipients": [], "results_path": "a.csv"}, "results_path: does not end in .jsonl"),
            ({"omnimessages": "a.csv"}, "omnimessages: a CSV file holds recipients"),
        ],
    )
    def test_what_can_be_seen_is_refused_while_the_dag_is_parsed(self, settings, told):
        with pytest.raises(InvalidInputError) as refused:
            sending(**settings)
        assert told in str(refused.value)

    def test_a_url_may_be_made_of_a_field(self):
        message = {"channel": "viber", "text": "Hi", "button_text": "Open", "button_url": "$link"}
        assert sending(recipients=[], messages=[message]).messages == [message]


@pytest.mark.parametrize("on_invalid", ["fail", "drop"])
def test_nothing_of_the_recipients_leaks_into_the_log(dag, run_dag, sandbox, on_invalid):
    rows = [{"to": to, "name": "S3CRET"} for to in (number(1), "+3725555", "372 5555 4444", "+37255550005")]
    sending(recipients=rows, on_invalid=on_invalid)
    run = run_dag(dag)
    for private in ("S3CRET", "55550005", "55554444", "5555 4444", number(1)):
        assert private not in run.log
