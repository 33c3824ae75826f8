"""The bulk operator, run by Airflow against the sandbox over HTTP: everybody gets their message, and nobody two."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pytest
from bulk_sends import NEW_YEAR, bulk_calls, live, number, people, sending, sizes
from full_size import first, full_size

from airflow_provider_omnimessage.bulk import memory as bulk_memory
from airflow_provider_omnimessage.tasks import parallel

pytestmark = pytest.mark.usefixtures("each_try_has_a_process_of_its_own")


class TestSending:
    @full_size
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

    @full_size
    def test_every_tenth_recipient_is_rejected(self, dag, run_dag, sandbox):
        rows = people(1_000)
        for row in rows[9::10]:
            row["to"] = f"{row['to'][:-4]}0005"
        sending(recipients=rows, batch_size=100, parallel=3, retries=2)
        run = run_dag(dag)
        assert run.tasks == {"send": "failed"}
        assert run.tries == {"send": 1}
        result = run.xcom("send")
        assert (result["accepted"], result["rejected"]) == (900, 100)
        assert [index for index, id_ in enumerate(result["omnimessage_id"], 1) if id_ is None] == list(
            range(10, 1_001, 10)
        )
        assert [row for error in result["errors"] for row in error["rows"]] == list(range(10, 1_001, 10))
        assert live(sandbox) == Counter(row["to"] for index, row in enumerate(rows, 1) if index % 10)
        assert "900 accepted, 100 rejected, which is more than max_failed=0 allows" in run.log

    @full_size
    def test_max_failed_allows_some_rejected_messages(self, dag, run_dag, sandbox):
        rows = people(100)
        for row in rows[::10]:
            row["to"] = f"{row['to'][:-4]}0005"
        sending(recipients=rows, max_failed=0.1)
        run = run_dag(dag)
        assert run.tasks == {"send": "success"}
        assert run.xcom("send")["rejected"] == 10

    @full_size
    @pytest.mark.parametrize("parallel", [1, 3])
    @pytest.mark.parametrize("guarantee", ["at_most_once", "at_least_once"])
    def test_the_response_to_the_fourth_batch_is_lost(self, dag, run_dag, sandbox, guarantee, parallel):
        sandbox.add_fault("lost_answer", call="bulk", after=3)
        rows = people(1_000)
        sending(recipients=rows, batch_size=100, delivery_guarantee=guarantee, parallel=parallel, retries=2)
        run = run_dag(dag)
        expected = Counter({row["to"]: 1 for row in rows})
        if guarantee == "at_most_once":
            assert run.tasks == {"send": "failed"}
            assert run.tries == {"send": 1}
            assert live(sandbox) == expected, "everybody gets one message"
            result = run.xcom("send")
            assert (result["accepted"], result["unknown"]) == (900, 100)
            assert "Look for one of them in Messente's dashboard" in run.log
        else:
            assert run.tasks == {"send": "success"}
            assert run.tries == {"send": 2}
            twice = [to for to, times in live(sandbox).items() if times == 2]
            assert len(twice) == 100, "the lost batch, and no other"
            assert set(live(sandbox)) == set(expected)
            assert len(bulk_calls(sandbox)) == 11
            assert "100 messages may have been accepted by an earlier try; posting them again" in run.log

    @full_size
    def test_a_clear_posts_only_what_is_unknown(self, dag, run_dag, clear_and_run, sandbox):
        sandbox.add_fault("cut", call="bulk", after=3)
        sending(recipients=people(1000), batch_size=100)
        run = run_dag(dag)
        assert sum(live(sandbox).values()) == 900
        again = clear_and_run(dag, run)
        assert again.tasks == {"send": "success"}
        assert live(sandbox) == Counter(number(index) for index in range(1000))
        assert again.xcom("send")["accepted"] == 1000
        assert "posting them again because the task was cleared" in again.log

    @full_size
    def test_a_clear_posts_only_what_was_rejected(self, dag, run_dag, clear_and_run, sandbox, monkeypatch):
        rows = people(300)
        rows[250]["to"] = "+37255550005"
        sending(recipients=rows, batch_size=100, time_to_send=timedelta(hours=1))
        run = run_dag(dag)
        assert run.tasks == {"send": "failed"}
        again = clear_and_run(dag, run)
        assert again.tasks == {"send": "failed"}
        assert sizes(sandbox) == [100, 100, 100, 1]
        assert again.xcom("send")["omnimessage_id"] == run.xcom("send")["omnimessage_id"]

    @full_size
    def test_a_clear_after_a_success_cancels_what_is_scheduled_and_begins_again(
        self, dag, run_dag, clear_and_run, sandbox
    ):
        sending(recipients=people(300), batch_size=100, time_to_send=NEW_YEAR)
        run = run_dag(dag)
        again = clear_and_run(dag, run)
        assert again.tasks == {"send": "success"}
        assert live(sandbox) == Counter(number(index) for index in range(300))
        assert not set(again.xcom("send")["omnimessage_id"]) & set(run.xcom("send")["omnimessage_id"])

    @pytest.mark.parametrize("fault", first(1, ["rate_limited", "unauthorized"]))
    def test_a_retry_sends_what_was_not_sent(self, dag, run_dag, sandbox, fault):
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

    @full_size
    def test_two_lost_responses_in_a_row_leave_the_rest_to_a_retry(self, dag, run_dag, sandbox):
        sandbox.add_fault("cut", call="bulk", after=1, times=2)
        sending(recipients=people(600), batch_size=100, retries=1)
        run = run_dag(dag)
        assert "2 responses in a row were lost; nothing more is posted now" in run.log
        assert run.tasks == {"send": "failed"}
        result = run.xcom("send")
        assert (result["accepted"], result["unknown"], result["not_sent"]) == (400, 200, 0)
        assert max(live(sandbox).values()) == 1

    @full_size
    @pytest.mark.parametrize("count", [-1, 1])
    def test_a_response_with_another_number_of_entries_leaves_all_unknown(
        self, dag, run_dag, sandbox, monkeypatch, count
    ):
        from airflow_provider_omnimessage.api import responses

        read = responses._json_object

        def other(answer, call):
            body = read(answer, call)
            entries = body["messages"]
            return {"messages": entries[:-1] if count < 0 else [*entries, entries[0]]}

        monkeypatch.setattr(responses, "_json_object", other)
        sending(recipients=people(5))
        run = run_dag(dag)
        assert run.tasks == {"send": "failed"}
        assert run.xcom("send")["unknown"] == 5
        assert f"the response to 5 messages has {5 + count} entries" in run.log

    @full_size
    @pytest.mark.parametrize("guarantee", ["at_most_once", "at_least_once"])
    def test_an_empty_entry_leaves_that_row_unknown(self, dag, run_dag, sandbox, monkeypatch, guarantee):
        from airflow_provider_omnimessage.api import responses

        read, answers = responses._json_object, []

        def once(answer, call):
            body = read(answer, call)
            if not answers:
                body["messages"][2] = {}
            answers.append(1)
            return body

        monkeypatch.setattr(responses, "_json_object", once)
        sending(recipients=people(5), retries=1, delivery_guarantee=guarantee)
        run = run_dag(dag)
        if guarantee == "at_most_once":
            assert run.tasks == {"send": "failed"}
            assert (run.xcom("send")["accepted"], run.xcom("send")["unknown"]) == (4, 1)
            assert sizes(sandbox) == [5]
        else:
            assert run.tasks == {"send": "success"}
            assert sizes(sandbox) == [5, 1]

    @full_size
    @pytest.mark.parametrize("guarantee", ["at_most_once", "at_least_once"])
    def test_a_batch_is_unknown_if_its_call_breaks(self, dag, run_dag, sandbox, monkeypatch, guarantee):
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

    @full_size
    def test_a_timeout_waits_for_calls_in_flight_and_loses_no_id(self, dag, run_dag, sandbox):
        sandbox.add_fault("slow", call="bulk", after=2, seconds=2.5)
        sending(recipients=people(500), batch_size=100, execution_timeout=timedelta(seconds=2), retries=3)
        run = run_dag(dag)
        assert run.tasks == {"send": "success"}
        assert run.tries["send"] > 1
        assert live(sandbox) == Counter(number(index) for index in range(500))
        assert sizes(sandbox) == [100] * 5

    def test_a_rejected_call_is_reported_for_each_of_its_rows(self, dag, run_dag, sandbox, monkeypatch):
        from airflow_provider_omnimessage.api.errors import RejectedError
        from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook

        post = OmnimessageHook.post_bulk

        def rejecting(self, bodies):
            if b"Person 3" in bodies()[0]:
                raise RejectedError("bulk send: no", status_code=400)
            return post(self, bodies)

        monkeypatch.setattr(OmnimessageHook, "post_bulk", rejecting)
        sending(recipients=people(9), batch_size=3, max_failed=3)
        run = run_dag(dag)
        assert run.state == "success"
        assert run.xcom("send")["errors"] == [{"error": "bulk send: no", "rows": [4, 5, 6]}]

    @full_size
    def test_progress_is_logged(self, dag, run_dag, sandbox, monkeypatch):
        monkeypatch.setattr(parallel, "PROGRESS_EVERY", 0.0)
        sending(recipients=people(400), batch_size=100)
        run = run_dag(dag)
        assert "200 of 400 rows (50%), " in run.log
        assert "400 of 400 rows (100%), " in run.log


@full_size
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
        assert (
            "Batch 1 (from row 1) has other recipients, or another order, than when an earlier try sent it" in run.log
        )
        assert live(sandbox) == Counter(number(index) for index in range(200))
        assert run.xcom("send")["accepted"] == 200

    def test_a_row_that_is_rejected_only_in_a_retry_loses_no_id(self, dag, run_dag, sandbox):
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


@full_size
class TestWithoutAMemory:
    @pytest.fixture(autouse=True)
    def _airflow_3_2(self, monkeypatch):
        monkeypatch.setattr(bulk_memory.TaskMemory, "of", lambda context, key: None)

    def test_the_log_says_so_once(self, dag, run_dag, sandbox):
        sending(recipients=people(300), batch_size=100)
        run = run_dag(dag)
        assert run.state == "success"
        assert run.log.count("durable=True requires Airflow 3.3 or newer") == 1

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
        assert "This task does not remember what was sent" in run.log
        assert run.xcom("send")["accepted"] in (200, 400)

    def test_it_is_retried_if_nothing_was_sent(self, dag, run_dag, sandbox):
        sandbox.add_fault("rate_limited", call="bulk", retry_after=500)
        sending(recipients=people(50), retries=1)
        run = run_dag(dag)
        assert run.tasks == {"send": "success"}
        assert run.tries == {"send": 2}
