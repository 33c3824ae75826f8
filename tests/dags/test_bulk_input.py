"""What a bulk send accepts, and how it checks each row before anything is sent."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

import pytest
from airflow.sdk import ObjectStoragePath, task
from bulk_sends import NEW_YEAR, bulk_calls, live, number, people, sending, texts
from full_size import first, full_size

from airflow_provider_omnimessage.api.errors import InvalidInputError
from airflow_provider_omnimessage.api.messages import omnimessage, sms, viber


class TestTheInput:
    def test_each_recipient_gets_a_text_of_their_own(self, dag, run_dag, sandbox):
        sending(recipients=people(3))
        run = run_dag(dag)
        assert texts(sandbox) == ["Hello Person 0", "Hello Person 1", "Hello Person 2"]
        result = run.xcom("send")
        assert result["omnimessage_id"] == [message["omnimessage_id"] for message in sandbox.messages]
        assert (result["messages"], result["accepted"], result["errors"]) == (3, 3, [])
        assert len(bulk_calls(sandbox)) == 1

    def test_omnimessages_may_differ_in_every_field(self, dag, run_dag, sandbox):
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

    def test_each_recipient_gets_it_at_nine_in_their_time_zone(self, dag, run_dag, sandbox):
        zones = ["Europe/Tallinn", "America/New_York", "Asia/Tokyo"]
        sending(
            recipients=[{"to": number(index), "name": "x", "timezone": zone} for index, zone in enumerate(zones)],
            time_to_send="2099-07-01T09:00",
        )
        run_dag(dag)
        hours = [datetime.fromisoformat(message["time_to_send"]).hour for message in sandbox.messages]
        assert hours == [6, 13, 0]

    def test_the_output_of_a_task(self, dag, run_dag, sandbox):
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
        assert texts(sandbox) == ["Hello {{ 1 + 1 }} $to"] * 2, "data is neither rendered nor filled again"

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

    def test_a_missing_file_is_named_with_its_parameter_and_may_come_later(self, dag, run_dag, sandbox, tmp_path):
        path = tmp_path / "people.jsonl"

        def come(context):
            path.write_text(json.dumps(people(1)[0]))

        sending(recipients=str(path), retries=1, retry_delay=timedelta(0), on_retry_callback=come)
        run = run_dag(dag)
        assert run.tries == {"send": 2}
        assert f"recipients: there is no file {path} here; check the path" in run.log
        assert len(texts(sandbox)) == 1

    def test_an_empty_list_skips_the_task(self, dag, run_dag, sandbox):
        sending(recipients=[])
        assert run_dag(dag).tasks == {"send": "skipped"}


class TestChecking:
    def test_one_invalid_row_sends_nothing_and_all_problems_are_reported(self, dag, run_dag, sandbox):
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
        assert "row 121, name: is missing; messages[0].text uses $name" in run.log
        assert "row 241: a text of 6 characters is not accepted; pass a dict with 'to'" in run.log

    @full_size
    def test_a_long_report_is_cut(self, dag, run_dag, sandbox):
        sending(recipients=[{"to": "+372"}] * 3000)
        run = run_dag(dag)
        assert "3,000 of 3,000 rows cannot be sent" in run.log
        assert "row 20, " in run.log
        assert "row 21, " not in run.log
        assert "more problems" in run.log

    def test_invalid_rows_can_be_left_out(self, dag, run_dag, sandbox):
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
        ("on_past", "state", "sent"),
        first(1, [("fail", "failed", 0), ("skip", "success", 1), ("send_now", "success", 2)]),
    )
    def test_a_time_in_the_past(self, dag, run_dag, sandbox, on_past, state, sent):
        rows = [{**people(2)[0], "time_to_send": "2020-01-01T09:00"}, {**people(2)[1], "time_to_send": NEW_YEAR}]
        sending(recipients=rows, on_past=on_past)
        run = run_dag(dag)
        assert run.tasks == {"send": state}
        assert len(sandbox.messages) == sent
        if on_past == "fail":
            assert (
                "row 1, time_to_send: 2020-01-01 09:00:00 UTC is in the past; use a future time, or set on_past"
                in run.log
            )
        else:
            assert run.xcom("send")["skipped"] == 2 - sent
            assert {message["state"] for message in sandbox.messages} >= {"scheduled"}

    def test_the_task_is_skipped_if_all_rows_are(self, dag, run_dag, sandbox):
        sending(recipients=people(2), time_to_send="2020-01-01T09:00Z", on_past="skip")
        assert run_dag(dag).tasks == {"send": "skipped"}

    def test_broken_lines_are_reported_by_their_row(self, dag, run_dag, sandbox, tmp_path):
        path = tmp_path / "people.jsonl"
        path.write_text(f'{{"to": "{number(1)}", "name": "a"}}\n{{"to"\n[1]\n')
        sending(recipients=str(path))
        run = run_dag(dag)
        assert "row 2: is not JSON; write one object per line" in run.log
        assert "row 3: a list is not accepted" in run.log

    @pytest.mark.parametrize(
        ("settings", "error"),
        [
            ({}, "omnimessages: and recipients are both missing; set one of them"),
            ({"recipients": [], "omnimessages": []}, "omnimessages: and recipients are both set; set one of them"),
            ({"recipients": [], "messages": None}, "messages: is missing"),
            ({"recipients": (row for row in [])}, "recipients: a generator can be read only once"),
            ({"recipients": "people.txt"}, "recipients: a text of 10 characters is not the name of a file"),
            ({"recipients": {"to": "+1"}}, "recipients: a dict is not accepted"),
            (
                {"recipients": [], "messages": [sms("Only $5")]},
                "messages[0].text: the $ at character 6 is not followed by a name",
            ),
            ({"recipients": [], "messages": [{"channel": "smss"}]}, "messages[0].channel"),
            ({"recipients": [], "batch_size": 1001}, "batch_size: 1,001 is not accepted"),
            ({"recipients": [], "parallel": 0}, "parallel: 0 is not accepted"),
            ({"recipients": [], "max_failed": 1.5}, "max_failed: 1.5 is not accepted"),
            ({"recipients": [], "max_failed": True}, "max_failed: True is not accepted"),
            ({"recipients": [], "on_invalid": "skip"}, "on_invalid: 'skip' is not accepted"),
            ({"recipients": [], "results_path": "a.csv"}, "results_path: does not end in .jsonl"),
            ({"omnimessages": "a.csv"}, "omnimessages: a CSV file holds recipients"),
        ],
    )
    def test_invalid_arguments_are_rejected_while_the_dag_is_parsed(self, settings, error):
        with pytest.raises(InvalidInputError) as rejected:
            sending(**settings)
        assert error in str(rejected.value)

    def test_a_url_may_be_a_placeholder(self):
        message = {"channel": "viber", "text": "Hi", "button_text": "Open", "button_url": "$link"}
        assert sending(recipients=[], messages=[message]).messages == [message]


@pytest.mark.parametrize("on_invalid", first(1, ["fail", "drop"]))
def test_the_log_shows_neither_numbers_nor_fields_of_recipients(dag, run_dag, sandbox, on_invalid):
    rows = [{"to": to, "name": "S3CRET"} for to in (number(1), "+3725555", "372 5555 4444", "+37255550005")]
    sending(recipients=rows, on_invalid=on_invalid)
    run = run_dag(dag)
    for private in ("S3CRET", "55550005", "55554444", "5555 4444", number(1)):
        assert private not in run.log
