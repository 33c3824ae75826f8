"""The bulk operator, run by Airflow, against the sandbox over HTTP: who gets what, and who gets nothing twice."""

from __future__ import annotations

import json
import re
from collections import Counter
from datetime import datetime, timedelta, timezone

import pytest
from airflow.sdk import DAG, ObjectStoragePath, task

from airflow_provider_omnimessage.api.delivery import DeliveryReport
from airflow_provider_omnimessage.api.errors import InvalidInputError
from airflow_provider_omnimessage.api.messages import omnimessage, sms, viber
from airflow_provider_omnimessage.bulk import memory as bulk_memory
from airflow_provider_omnimessage.operators.bulk import ScheduleBulkOmnimessageOperator
from airflow_provider_omnimessage.operators.omnimessage import CancelScheduledMessageOperator
from airflow_provider_omnimessage.sensors.omnimessage import OmnimessageDeliverySensor
from airflow_provider_omnimessage.tasks import parallel
from airflow_provider_omnimessage.triggers.omnimessage import OmnimessageDeliveryTrigger

NEW_YEAR = "2099-01-01T09:00Z"


@pytest.fixture
def dag(request):
    with DAG(re.sub(r"\W+", "_", request.node.name), schedule=None) as dag:
        yield dag


def number(index):
    """A recipient of its own for each row; none of them ends like one that the sandbox treats in its own way."""
    return f"+3725{index:06d}9"


def people(count):
    return [{"to": number(index), "name": f"Person {index}"} for index in range(count)]


def sending(**settings):
    settings = {"messages": [sms("Hello $name")], "retry_delay": timedelta(0), **settings}
    if "omnimessages" in settings:
        del settings["messages"]
    return ScheduleBulkOmnimessageOperator(task_id="send", **settings)


def bulk_calls(sandbox):
    return [request for request in sandbox.requests if request["call"] == "bulk"]


def sizes(sandbox):
    return [len(json.loads(call["body"])["messages"]) for call in bulk_calls(sandbox)]


def live(sandbox):
    """How many messages each recipient has that nobody has cancelled."""
    return Counter(message["to"] for message in sandbox.messages if message["state"] != "cancelled")


def texts(sandbox):
    return [message["body"]["messages"][0]["text"] for message in sandbox.messages]


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


class TestSending:
    def test_ten_thousand_recipients_in_ten_calls(self, dag, run_dag, sandbox):
        sending(recipients=people(10_000), parallel=2)
        run = run_dag(dag)
        assert run.state == "success"
        assert sizes(sandbox) == [1000] * 10
        assert live(sandbox) == Counter(number(index) for index in range(10_000))
        by_id = {message["omnimessage_id"]: message["to"] for message in sandbox.messages}
        assert [by_id[id_] for id_ in run.xcom("send")["omnimessage_id"]] == [number(i) for i in range(10_000)]
        assert "10,000 accepted" in run.log
        assert len(run.log.splitlines()) < 100, "no line per message"

    def test_every_tenth_is_invalid(self, dag, run_dag, sandbox):
        rows = people(10_000)
        for row in rows[9::10]:
            row["to"] = f"{row['to'][:-4]}0005"
        sending(recipients=rows, parallel=3, retries=2)
        run = run_dag(dag)
        assert run.tasks == {"send": "failed"}
        assert run.tries == {"send": 1}
        result = run.xcom("send")
        assert (result["accepted"], result["refused"]) == (9_000, 1_000)
        assert [index for index, id_ in enumerate(result["omnimessage_id"], 1) if id_ is None] == list(
            range(10, 10_001, 10)
        )
        assert [row for error in result["errors"] for row in error["rows"]] == list(range(10, 10_001, 10))
        assert live(sandbox) == Counter(row["to"] for index, row in enumerate(rows, 1) if index % 10)
        assert "9,000 accepted, 1,000 refused, which is more than max_failed=0 puts up with" in run.log

    def test_how_many_may_fail(self, dag, run_dag, sandbox):
        rows = people(100)
        for row in rows[::10]:
            row["to"] = f"{row['to'][:-4]}0005"
        sending(recipients=rows, max_failed=0.1)
        run = run_dag(dag)
        assert run.tasks == {"send": "success"}
        assert run.xcom("send")["refused"] == 10

    @pytest.mark.parametrize("parallel", [1, 3])
    @pytest.mark.parametrize("guarantee", ["at_most_once", "at_least_once"])
    def test_the_answer_of_the_fourth_batch_is_lost(self, dag, run_dag, sandbox, guarantee, parallel):
        sandbox.add_fault("lost_answer", call="bulk", after=3)
        rows = people(10_000)
        sending(recipients=rows, delivery_guarantee=guarantee, parallel=parallel, retries=2)
        run = run_dag(dag)
        expected = Counter({row["to"]: 1 for row in rows})
        if guarantee == "at_most_once":
            assert run.tasks == {"send": "failed"}
            assert run.tries == {"send": 1}
            assert live(sandbox) == expected, "nobody gets two, nobody is forgotten"
            result = run.xcom("send")
            assert (result["accepted"], result["unknown"]) == (9_000, 1_000)
            assert "Look for one of them in Messente's dashboard" in run.log
        else:
            assert run.tasks == {"send": "success"}
            assert run.tries == {"send": 2}
            twice = [to for to, times in live(sandbox).items() if times == 2]
            assert len(twice) == 1_000, "the batch in doubt, and no other"
            assert set(live(sandbox)) == set(expected)
            assert len(bulk_calls(sandbox)) == 11
            assert "1,000 messages may have been accepted before; they are posted again" in run.log

    def test_a_clear_posts_only_what_is_in_doubt(self, dag, run_dag, clear_and_run, sandbox):
        sandbox.add_fault("cut", call="bulk", after=3)
        sending(recipients=people(1000), batch_size=100)
        run = run_dag(dag)
        assert sum(live(sandbox).values()) == 900
        again = clear_and_run(dag, run)
        assert again.tasks == {"send": "success"}
        assert live(sandbox) == Counter(number(index) for index in range(1000))
        assert again.xcom("send")["accepted"] == 1000
        assert "they are posted again, as the task was cleared" in again.log

    def test_a_clear_posts_again_what_was_refused_and_nothing_else(
        self, dag, run_dag, clear_and_run, sandbox, monkeypatch
    ):
        rows = people(300)
        rows[250]["to"] = "+37255550005"
        sending(recipients=rows, batch_size=100, time_to_send=timedelta(hours=1))
        run = run_dag(dag)
        assert run.tasks == {"send": "failed"}
        again = clear_and_run(dag, run)
        assert again.tasks == {"send": "failed"}
        assert sizes(sandbox) == [100, 100, 100, 1]
        assert again.xcom("send")["omnimessage_id"] == run.xcom("send")["omnimessage_id"]

    def test_a_clear_after_a_success_cancels_what_waits_and_begins_anew(self, dag, run_dag, clear_and_run, sandbox):
        sending(recipients=people(300), batch_size=100, time_to_send=NEW_YEAR)
        run = run_dag(dag)
        again = clear_and_run(dag, run)
        assert again.tasks == {"send": "success"}
        assert live(sandbox) == Counter(number(index) for index in range(300))
        assert not set(again.xcom("send")["omnimessage_id"]) & set(run.xcom("send")["omnimessage_id"])

    @pytest.mark.parametrize("fault", ["rate_limited", "unauthorized"])
    def test_what_was_not_sent_is_left_to_a_retry(self, dag, run_dag, sandbox, fault):
        options = {"retry_after": 500} if fault == "rate_limited" else {}
        sandbox.add_fault(fault, call="bulk", after=2, **options)
        sending(recipients=people(500), batch_size=100, retries=1)
        run = run_dag(dag)
        if fault == "unauthorized":
            assert run.tasks == {"send": "failed"}
            result = run.xcom("send")
            assert (result["accepted"], result["not_sent"]) == (200, 300)
        else:
            assert run.tasks == {"send": "success"}
            assert run.tries == {"send": 2}
            assert len(bulk_calls(sandbox)) == 6
            assert live(sandbox) == Counter(number(index) for index in range(500))

    def test_when_answers_are_lost_in_a_row_the_rest_waits_for_a_retry(self, dag, run_dag, sandbox):
        sandbox.add_fault("cut", call="bulk", after=1, times=2)
        sending(recipients=people(600), batch_size=100, retries=1)
        run = run_dag(dag)
        assert "2 answers were lost in a row; nothing more is posted now" in run.log
        assert run.tasks == {"send": "failed"}
        result = run.xcom("send")
        assert (result["accepted"], result["unknown"], result["not_sent"]) == (400, 200, 0)
        assert max(live(sandbox).values()) == 1

    @pytest.mark.parametrize("count", [-1, 1])
    def test_an_answer_with_another_number_of_entries_is_a_doubt(self, dag, run_dag, sandbox, monkeypatch, count):
        from airflow_provider_omnimessage.api import calls

        read = calls._json_object

        def other(answer, call):
            body = read(answer, call)
            entries = body["messages"]
            return {"messages": entries[:-1] if count < 0 else [*entries, entries[0]]}

        monkeypatch.setattr(calls, "_json_object", other)
        sending(recipients=people(5))
        run = run_dag(dag)
        assert run.tasks == {"send": "failed"}
        assert run.xcom("send")["unknown"] == 5
        assert f"answered 5 messages with {5 + count} entries" in run.log

    @pytest.mark.parametrize("guarantee", ["at_most_once", "at_least_once"])
    def test_an_entry_that_says_nothing_is_a_doubt_about_that_row(self, dag, run_dag, sandbox, monkeypatch, guarantee):
        from airflow_provider_omnimessage.api import calls

        read, answers = calls._json_object, []

        def once(answer, call):
            body = read(answer, call)
            if not answers:
                body["messages"][2] = {}
            answers.append(1)
            return body

        monkeypatch.setattr(calls, "_json_object", once)
        sending(recipients=people(5), retries=1, delivery_guarantee=guarantee)
        run = run_dag(dag)
        if guarantee == "at_most_once":
            assert run.tasks == {"send": "failed"}
            assert (run.xcom("send")["accepted"], run.xcom("send")["unknown"]) == (4, 1)
            assert sizes(sandbox) == [5]
        else:
            assert run.tasks == {"send": "success"}
            assert sizes(sandbox) == [5, 1]

    @pytest.mark.parametrize("guarantee", ["at_most_once", "at_least_once"])
    def test_what_breaks_around_the_request_is_a_doubt(self, dag, run_dag, sandbox, monkeypatch, guarantee):
        from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook

        post, posts = OmnimessageHook.post_bulk, []

        def breaking(self, bodies):
            answer = post(self, bodies)
            posts.append(1)
            if len(posts) == 3:
                raise MemoryError
            return answer

        monkeypatch.setattr(OmnimessageHook, "post_bulk", breaking)
        sending(recipients=people(500), batch_size=100, retries=3, delivery_guarantee=guarantee)
        run = run_dag(dag)
        reached = live(sandbox)
        assert set(reached) == {number(index) for index in range(500)}
        if guarantee == "at_most_once":
            assert run.tasks == {"send": "failed"}
            assert max(reached.values()) == 1
        else:
            assert run.tasks == {"send": "success"}
            assert sum(reached.values()) == 600

    def test_airflows_own_timeout_waits_for_what_is_under_way_and_loses_nothing(self, dag, run_dag, sandbox):
        sandbox.add_fault("slow", call="bulk", after=2, seconds=2.5)
        sending(recipients=people(500), batch_size=100, execution_timeout=timedelta(seconds=2), retries=3)
        run = run_dag(dag)
        assert run.tasks == {"send": "success"}
        assert run.tries["send"] > 1
        assert live(sandbox) == Counter(number(index) for index in range(500))
        assert sizes(sandbox) == [100] * 5

    def test_a_whole_call_that_is_refused_is_told_for_each_row(self, dag, run_dag, sandbox, monkeypatch):
        from airflow_provider_omnimessage.api.errors import RejectedError
        from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook

        post = OmnimessageHook.post_bulk

        def refusing(self, bodies):
            if b"Person 3" in bodies[0]:
                raise RejectedError("bulk send: no", status_code=400)
            return post(self, bodies)

        monkeypatch.setattr(OmnimessageHook, "post_bulk", refusing)
        sending(recipients=people(9), batch_size=3, max_failed=3)
        run = run_dag(dag)
        assert run.state == "success"
        assert run.xcom("send")["errors"] == [{"error": "bulk send: no", "rows": [4, 5, 6]}]

    def test_it_says_how_far_it_is(self, dag, run_dag, sandbox, monkeypatch):
        monkeypatch.setattr(parallel, "PROGRESS_EVERY", 0.0)
        sending(recipients=people(400), batch_size=100)
        run = run_dag(dag)
        assert "200 of 400 rows (50%), " in run.log
        assert "400 of 400 rows (100%), " in run.log


class TestRecipientsThatChange:
    def test_other_recipients_in_a_retry_get_nothing(self, dag, run_dag, sandbox, monkeypatch):
        tries = []

        def customers():
            tries.append(1)
            rows = people(500)
            return rows if len(tries) == 1 else rows[1:]

        sandbox.add_fault("rate_limited", call="bulk", after=2, retry_after=500)
        sending(recipients=customers, batch_size=100, retries=1)
        run = run_dag(dag)
        assert run.tasks == {"send": "failed"}
        assert "Batch 1 (from row 1) has other recipients than an earlier try has sent it to" in run.log
        assert live(sandbox) == Counter(number(index) for index in range(200))
        assert run.xcom("send")["accepted"] == 200

    def test_a_row_that_is_wrong_in_a_retry_only_loses_no_id(self, dag, run_dag, sandbox):
        tries = []

        def customers():
            tries.append(1)
            rows = people(500)
            return rows if len(tries) == 1 else [*rows[:499], {"to": "x"}]

        sandbox.add_fault("rate_limited", call="bulk", after=2, retry_after=500)
        sending(recipients=customers, batch_size=100, retries=1)
        run = run_dag(dag)
        assert run.tasks == {"send": "failed"}
        result = run.xcom("send")
        assert (result["accepted"], result["invalid"], result["not_sent"]) == (200, 1, 299)
        assert "Nothing more was sent" in run.log


class TestWithoutAMemory:
    @pytest.fixture(autouse=True)
    def _airflow_3_2(self, monkeypatch):
        monkeypatch.setattr(bulk_memory.TaskMemory, "of", lambda context, key: None)

    def test_it_says_so_once(self, dag, run_dag, sandbox):
        sending(recipients=people(300), batch_size=100)
        run = run_dag(dag)
        assert run.state == "success"
        assert run.log.count("durable=True takes Airflow 3.3 or newer") == 1

    @pytest.mark.parametrize("fault", ["rate_limited", "lost_answer"])
    @pytest.mark.parametrize("guarantee", ["at_most_once", "at_least_once"])
    def test_it_is_not_retried_after_something_was_sent(self, dag, run_dag, sandbox, fault, guarantee):
        options = {"retry_after": 500} if fault == "rate_limited" else {}
        sandbox.add_fault(fault, call="bulk", after=2, **options)
        sending(recipients=people(500), batch_size=100, retries=3, delivery_guarantee=guarantee)
        run = run_dag(dag)
        assert run.tasks == {"send": "failed"}
        assert run.tries == {"send": 1}
        assert max(live(sandbox).values()) == 1
        assert "This Airflow keeps no memory of what was sent" in run.log
        assert run.xcom("send")["accepted"] in (200, 400)

    def test_it_is_retried_where_nothing_was_sent(self, dag, run_dag, sandbox):
        sandbox.add_fault("rate_limited", call="bulk", retry_after=500)
        sending(recipients=people(50), retries=1)
        run = run_dag(dag)
        assert run.tasks == {"send": "success"}
        assert run.tries == {"send": 2}


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
        assert "500 messages: 498 cancelled, 2 already sent" in run.log
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

    def test_the_results_of_a_mapped_bulk_send_are_cancelled_together(self, dag, run_dag, sandbox):
        send = ScheduleBulkOmnimessageOperator.partial(
            task_id="send", messages=[sms("Hi $name")], time_to_send=NEW_YEAR
        ).expand(recipients=[people(3), people(4)])
        CancelScheduledMessageOperator(task_id="cancel", omnimessage_id=send.output)
        run = run_dag(dag)
        assert run.xcom("cancel")["cancelled"] == 7
        assert sum(live(sandbox).values()) == 0

    def test_refused_credentials_end_it_at_once(self, dag, run_dag, sandbox):
        send = sending(recipients=people(500), time_to_send=NEW_YEAR)
        CancelScheduledMessageOperator(task_id="cancel", omnimessage_id=send.output, retries=2)
        sandbox.add_fault("unauthorized", call="cancel", times="always")
        run = run_dag(dag)
        assert run.tasks == {"send": "success", "cancel": "failed"}
        assert run.tries["cancel"] == 1
        assert len([request for request in sandbox.requests if request["call"] == "cancel"]) == 1

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


@pytest.mark.parametrize("on_invalid", ["fail", "drop"])
def test_nothing_of_the_recipients_leaks_into_the_log(dag, run_dag, sandbox, on_invalid):
    rows = [{"to": to, "name": "S3CRET"} for to in (number(1), "+3725555", "372 5555 4444", "+37255550005")]
    sending(recipients=rows, on_invalid=on_invalid)
    run = run_dag(dag)
    for private in ("S3CRET", "55550005", "55554444", "5555 4444", number(1)):
        assert private not in run.log
