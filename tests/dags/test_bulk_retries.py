"""A bulk send that is retried or cleared, also with other recipients, or without stored state."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pytest
from bulk_sends import NEW_YEAR, Changing, live, number, people, sending

from airflow_provider_omnimessage.bulk import memory as bulk_memory


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

    @pytest.mark.parametrize(("later", "state", "reached"), [(300, "success", 300), (100, "failed", 150)])
    def test_a_new_password_is_no_new_recipient(self, dag, run_dag, sandbox, monkeypatch, later, state, reached):
        """The fingerprints are keyed with the password, and a wrong one is what a try ended with."""
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

    def test_batches_that_are_no_more_are_still_told(self, dag, run_dag, sandbox):
        sandbox.add_fault("rate_limited", call="bulk", after=2, retry_after=500)
        sending(recipients=Changing(people(300), people(100)), batch_size=100, retries=1)
        run = run_dag(dag)
        assert run.xcom("send")["accepted"] == 200
        assert run.tasks == {"send": "failed"}

    def test_none_at_all_in_a_retry_still_tells_what_was_sent(self, dag, run_dag, sandbox):
        sandbox.add_fault("rate_limited", call="bulk", after=2, retry_after=500)
        sending(recipients=Changing(people(300), []), batch_size=100, retries=1)
        run = run_dag(dag)
        assert run.xcom("send")["accepted"] == 200
        assert run.tasks == {"send": "failed"}

    def test_a_source_that_breaks_in_a_retry_still_tells_what_was_sent(self, dag, run_dag, sandbox):
        sandbox.add_fault("rate_limited", call="bulk", after=2, retry_after=500)
        sending(recipients=Changing(people(300), OSError("gone")), batch_size=100, retries=1)
        run = run_dag(dag)
        assert run.xcom("send")["accepted"] == 200
        assert run.tasks == {"send": "failed"}

    def test_what_was_refused_or_in_doubt_is_told_as_that(self, dag, run_dag, sandbox):
        rows = people(300)
        rows[5]["to"] = "+37255550005"
        sandbox.add_fault("lost_answer", call="bulk", after=1, times=1)
        sandbox.add_fault("rate_limited", call="bulk", after=1, times=1, retry_after=500)
        sending(recipients=Changing(rows, rows[1:]), batch_size=100, retries=1)
        run = run_dag(dag)
        result = run.xcom("send")
        assert (result["accepted"], result["refused"], result["unknown"]) == (99, 1, 100)

    def test_a_clear_after_a_success_with_nobody_cancels_all(self, dag, run_dag, clear_and_run, sandbox):
        sending(recipients=Changing(people(30), []), batch_size=10, time_to_send=NEW_YEAR)
        run = run_dag(dag)
        assert sum(live(sandbox).values()) == 30
        again = clear_and_run(dag, run)
        assert again.tasks == {"send": "skipped"}
        assert not live(sandbox)

    def test_a_clear_after_a_success_that_breaks_still_tells_what_is_scheduled(
        self, dag, run_dag, clear_and_run, sandbox
    ):
        sending(recipients=Changing(people(30), [{"to": "x"}]), batch_size=10, time_to_send=NEW_YEAR)
        run = run_dag(dag)
        again = clear_and_run(dag, run)
        assert again.tasks == {"send": "failed"}
        assert again.xcom("send")["omnimessage_id"] == run.xcom("send")["omnimessage_id"]


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

    def test_doubts_alone_are_not_retried(self, dag, run_dag, sandbox):
        sandbox.add_fault("lost_answer", call="bulk", times=2)
        sending(recipients=people(300), batch_size=100, retries=2)
        run = run_dag(dag)
        assert max(live(sandbox).values()) == 1
        assert run.tasks == {"send": "failed"}
        assert run.tries == {"send": 1}

    def test_a_doubt_before_a_stop_is_not_retried(self, dag, run_dag, sandbox):
        sandbox.add_fault("lost_answer", call="bulk", times=1)
        sandbox.add_fault("rate_limited", call="bulk", times=1, retry_after=500)
        sending(recipients=people(300), batch_size=100, retries=2)
        run = run_dag(dag)
        assert max(live(sandbox).values()) == 1
        assert run.tries == {"send": 1}


def test_the_memory_that_breaks_with_calls_under_way_loses_no_id(dag, run_dag, sandbox, monkeypatch):
    read = bulk_memory.BulkMemory.batch
    asked = []

    def breaking(self, number):
        asked.append(number)
        if number == 3 and len(asked) < 10:
            raise OSError("the store is down")
        return read(self, number)

    monkeypatch.setattr(bulk_memory.BulkMemory, "batch", breaking)
    sandbox.add_fault("slow", call="bulk", times=2, seconds=0.5)
    sending(recipients=people(50), batch_size=10, parallel=3)
    run = run_dag(dag)
    assert run.tasks == {"send": "failed"}
    assert run.xcom("send")["accepted"] == 20


def test_a_doubt_under_airflows_timeout_is_not_retried_without_a_memory(dag, run_dag, sandbox, monkeypatch):
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
