"""The bulk operator when retries and clears come in an unusual order, or find other recipients than before."""

from __future__ import annotations

from datetime import timedelta

import pytest
from airflow.sdk import DAG, task
from airflow.sdk.exceptions import AirflowTaskTimeout
from bulk_sends import NEW_YEAR, live, number, people, sending, texts
from full_size import full_size

from airflow_provider_omnimessage.api.messages import sms
from airflow_provider_omnimessage.bulk import memory as bulk_memory
from airflow_provider_omnimessage.operators.bulk import ScheduleBulkOmnimessageOperator
from airflow_provider_omnimessage.operators.omnimessage import CancelScheduledMessageOperator, SendOmnimessageOperator

pytestmark = [full_size, pytest.mark.usefixtures("each_try_has_a_process_of_its_own")]


@pytest.fixture
def dag(request):
    with DAG(request.node.originalname, schedule=None) as dag:
        yield dag


class Changing:
    """Returns other rows in each try, or raises."""

    def __init__(self, *tries):
        self._tries = list(tries)

    def __call__(self):
        found = self._tries.pop(0)
        if isinstance(found, BaseException):
            raise found
        return found


class TestWithoutAMemory:
    @pytest.fixture(autouse=True)
    def _airflow_3_2(self, monkeypatch):
        monkeypatch.setattr(bulk_memory.TaskMemory, "of", lambda context, key: None)

    def test_an_unknown_result_alone_is_not_retried(self, dag, run_dag, sandbox):
        sandbox.add_fault("lost_answer", call="bulk", times=2)
        sending(recipients=people(300), batch_size=100, retries=2)
        run = run_dag(dag)
        assert max(live(sandbox).values()) == 1
        assert run.tasks == {"send": "failed"}
        assert run.tries == {"send": 1}

    def test_an_unknown_result_before_a_stop_is_not_retried(self, dag, run_dag, sandbox):
        sandbox.add_fault("lost_answer", call="bulk", times=1)
        sandbox.add_fault("rate_limited", call="bulk", times=1, retry_after=500)
        sending(recipients=people(300), batch_size=100, retries=2)
        run = run_dag(dag)
        assert max(live(sandbox).values()) == 1
        assert run.tries == {"send": 1}


class TestRecipientsThatChange:
    @pytest.mark.parametrize(("later", "state", "reached"), [(300, "success", 300), (100, "failed", 150)])
    def test_a_new_password_does_not_change_the_recipients(
        self, dag, run_dag, sandbox, monkeypatch, later, state, reached
    ):
        """The key of the fingerprints is the password, and a wrong password may be why the earlier try failed."""
        of_recipients = bulk_memory.fingerprint_of_recipients
        sandbox.add_fault("rate_limited", call="bulk", after=1, retry_after=500)
        tries = [people(300), people(later)]

        def customers():
            if len(tries) == 1:
                monkeypatch.setattr(
                    bulk_memory, "fingerprint_of_recipients", lambda numbers, secret: of_recipients(numbers, "rotated")
                )
            return tries.pop(0)

        sending(recipients=customers, batch_size=150, retries=1)
        run = run_dag(dag)
        assert run.tasks == {"send": state}
        assert sorted(live(sandbox).values()) == [1] * reached

    def test_batches_without_rows_are_still_reported(self, dag, run_dag, sandbox):
        sandbox.add_fault("rate_limited", call="bulk", after=2, retry_after=500)
        sending(recipients=Changing(people(300), people(100)), batch_size=100, retries=1)
        run = run_dag(dag)
        assert run.xcom("send")["accepted"] == 200
        assert run.tasks == {"send": "failed"}

    def test_an_empty_source_in_a_retry_still_reports_what_was_sent(self, dag, run_dag, sandbox):
        sandbox.add_fault("rate_limited", call="bulk", after=2, retry_after=500)
        sending(recipients=Changing(people(300), []), batch_size=100, retries=1)
        run = run_dag(dag)
        assert run.xcom("send")["accepted"] == 200
        assert run.tasks == {"send": "failed"}

    @pytest.mark.parametrize("error", [OSError("gone"), AirflowTaskTimeout("Timeout")], ids=["error", "timeout"])
    def test_a_source_that_raises_in_a_retry_still_reports_what_was_sent(self, dag, run_dag, sandbox, error):
        sandbox.add_fault("rate_limited", call="bulk", after=2, retry_after=500)
        sending(recipients=Changing(people(300), error), batch_size=100, retries=1)
        run = run_dag(dag)
        assert run.xcom("send")["accepted"] == 200
        assert run.tasks == {"send": "failed"}

    @pytest.mark.parametrize("from_read", [2, 3], ids=["while rows are checked", "while batches are sent"])
    def test_a_stored_batch_that_cannot_be_read_hides_no_other(self, dag, run_dag, sandbox, monkeypatch, from_read):
        read, reads = bulk_memory.BulkMemory.batch, []

        def fails_for_the_first(self, number):
            reads.append(number)
            if number == 1 and reads.count(1) >= from_read:
                raise ConnectionError("no store today")
            return read(self, number)

        monkeypatch.setattr(bulk_memory.BulkMemory, "batch", fails_for_the_first)
        sandbox.add_fault("rate_limited", call="bulk", after=2, retry_after=500)
        sending(recipients=people(300), batch_size=100, retries=1)
        run = run_dag(dag)
        result = run.xcom("send")
        assert run.tasks == {"send": "failed"}
        assert (result["unknown"], result["accepted"], result["not_sent"]) == (100, 100, 100)
        assert result["omnimessage_id"][100:200] == [message["omnimessage_id"] for message in sandbox.messages[100:]]

    def test_rejected_and_unknown_rows_are_reported_as_such(self, dag, run_dag, sandbox):
        rows = people(300)
        rows[5]["to"] = "+37255550005"
        sandbox.add_fault("lost_answer", call="bulk", after=1, times=1)
        sandbox.add_fault("rate_limited", call="bulk", after=1, times=1, retry_after=500)
        sending(recipients=Changing(rows, rows[1:]), batch_size=100, retries=1)
        run = run_dag(dag)
        result = run.xcom("send")
        assert (result["accepted"], result["rejected"], result["unknown"]) == (99, 1, 100)

    def test_a_clear_after_a_success_with_an_empty_source_cancels_all(self, dag, run_dag, clear_and_run, sandbox):
        sending(recipients=Changing(people(30), []), batch_size=10, time_to_send=NEW_YEAR)
        run = run_dag(dag)
        assert sum(live(sandbox).values()) == 30
        again = clear_and_run(dag, run)
        assert again.tasks == {"send": "skipped"}
        assert not live(sandbox)

    def test_a_clear_after_a_success_that_fails_still_reports_what_is_scheduled(
        self, dag, run_dag, clear_and_run, sandbox
    ):
        sending(recipients=Changing(people(30), [{"to": "x"}]), batch_size=10, time_to_send=NEW_YEAR)
        run = run_dag(dag)
        again = clear_and_run(dag, run)
        assert again.tasks == {"send": "failed"}
        assert again.xcom("send")["omnimessage_id"] == run.xcom("send")["omnimessage_id"]

    def test_a_clear_cancels_each_message_by_the_time_at_which_it_was_posted(
        self, dag, run_dag, clear_and_run, sandbox
    ):
        now, later, last = people(3)
        earlier_rows = [now, {**later, "time_to_send": NEW_YEAR}, last]
        sandbox.add_fault("rate_limited", call="bulk", after=1, retry_after=500)
        sending(recipients=Changing(earlier_rows, people(3), people(3)), batch_size=2, retries=1)
        run = run_dag(dag)
        assert run.tries == {"send": 2}
        assert clear_and_run(dag, run).tasks == {"send": "success"}
        assert [request["call"] for request in sandbox.requests].count("cancel") == 1
        assert live(sandbox)[later["to"]] == 1

    def test_a_clear_after_a_success_that_cannot_cancel_still_reports_what_is_scheduled(
        self, dag, run_dag, clear_and_run, sandbox
    ):
        sending(recipients=people(3), time_to_send=NEW_YEAR)
        run = run_dag(dag)
        sandbox.add_fault("unauthorized", call="cancel", times="always")
        again = clear_and_run(dag, run)
        assert again.tasks == {"send": "failed"}
        assert again.xcom("send")["omnimessage_id"] == run.xcom("send")["omnimessage_id"]
        assert sorted(live(sandbox).values()) == [1, 1, 1]


class TestAFileOfResults:
    def test_a_clear_that_fails_keeps_the_results_of_the_earlier_run(
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
    def test_an_incomplete_results_file_is_rejected(self, dag, run_dag, sandbox, tmp_path, kept):
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

    def test_the_results_file_of_another_task_is_rejected(self, dag, run_dag, sandbox, tmp_path):
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


class TestTheInput:
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
    def test_an_odd_value_is_a_problem_of_its_row_only(self, dag, run_dag, sandbox, odd):
        rows = people(3)
        rows[1].update(odd)
        sending(recipients=rows, on_invalid="drop", time_to_send=NEW_YEAR)
        run = run_dag(dag)
        assert run.tasks == {"send": "success"}
        assert run.xcom("send")["accepted"] >= 2

    def test_a_csv_file_with_a_duplicate_column_is_rejected(self, dag, run_dag, sandbox, tmp_path):
        path = tmp_path / "people.csv"
        path.write_text(f"to,name,to\n{number(1)},x,{number(2)}\n")
        sending(recipients=str(path))
        assert run_dag(dag).tasks == {"send": "failed"}
        assert not sandbox.messages

    def test_a_csv_file_without_a_header_shows_no_customer(self, dag, run_dag, sandbox, tmp_path):
        path = tmp_path / "people.csv"
        path.write_text(f"{number(1)},Mari Maasikas\n")
        sending(recipients=str(path))
        run = run_dag(dag)
        assert run.tasks == {"send": "failed"}
        assert "Maasikas" not in run.log

    def test_a_null_in_a_row_means_the_default_of_the_task(self, dag, run_dag, sandbox):
        ScheduleBulkOmnimessageOperator(
            task_id="send",
            omnimessages=[{"to": number(1), "messages": [sms("a")], "priority": None, "dlr_url": None}],
            priority="high",
        )
        run_dag(dag)
        assert sandbox.messages[0]["body"]["priority"] == "high"

    def test_texts_of_strangers_are_rendered_by_expand_kwargs_but_not_by_a_bulk_send(self, dag, run_dag, sandbox):
        """Airflow renders what it maps with ``expand_kwargs``: whoever can edit the list can run templates."""

        @task
        def strangers():
            return [{"to": number(1), "messages": [sms("{{ 7 * 7 }}")]}]

        rows = strangers()
        SendOmnimessageOperator.partial(task_id="mapped").expand_kwargs(rows)
        sending(omnimessages=rows)
        run_dag(dag)
        assert sorted(texts(sandbox)) == ["49", "{{ 7 * 7 }}"]

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


def test_a_store_that_fails_with_calls_in_flight_loses_no_id(dag, run_dag, sandbox, monkeypatch):
    read = bulk_memory.BulkMemory.batch
    calls = []

    def breaking(self, number):
        calls.append(number)
        if number == 3 and len(calls) < 10:
            raise OSError("the store is down")
        return read(self, number)

    monkeypatch.setattr(bulk_memory.BulkMemory, "batch", breaking)
    sandbox.add_fault("slow", call="bulk", times=2, seconds=0.5)
    sending(recipients=people(50), batch_size=10, parallel=3)
    run = run_dag(dag)
    assert run.tasks == {"send": "failed"}
    assert run.xcom("send")["accepted"] == 20


def test_an_unknown_result_after_a_timeout_is_not_retried_without_a_memory(dag, run_dag, sandbox, monkeypatch):
    import time

    from airflow_provider_omnimessage.api.errors import LostResponseError
    from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook

    monkeypatch.setattr(bulk_memory.TaskMemory, "of", lambda context, key: None)
    post, posts = OmnimessageHook.post_bulk, []

    def late(self, bodies):
        answer = post(self, bodies)
        posts.append(1)
        if len(posts) == 1:
            time.sleep(2.5)
            raise LostResponseError("bulk send: lost")
        return answer

    monkeypatch.setattr(OmnimessageHook, "post_bulk", late)
    sending(recipients=people(30), batch_size=10, execution_timeout=timedelta(seconds=2), retries=2)
    run = run_dag(dag)
    assert max(live(sandbox).values()) == 1
    assert run.tries == {"send": 1}
