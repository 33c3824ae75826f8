"""A bulk send run by Airflow against the sandbox: who gets a message, and that nobody gets two."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pytest
from bulk_sends import NEW_YEAR, bulk_calls, live, number, people, sending, sizes

from airflow_provider_omnimessage.bulk import parallel


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
