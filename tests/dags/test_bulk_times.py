"""When a bulk send sends: each row is judged just before its batch is posted, and keeps its own time."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from airflow.sdk import DAG, task
from bulk_sends import NEW_YEAR, bulk_calls, people, sending, sizes, texts
from full_size import full_size

from airflow_provider_omnimessage.api.messages import sms
from airflow_provider_omnimessage.bulk import check, pending, run


@pytest.fixture
def dag(request):
    with DAG(request.node.originalname, schedule=None) as dag:
        yield dag


class Clock(datetime):
    """A clock that a test moves."""

    ahead = timedelta(0)

    @classmethod
    def now(cls, tz: Any = None) -> datetime:
        return datetime.now(tz) + cls.ahead


@pytest.fixture
def clock(monkeypatch):
    monkeypatch.setattr(Clock, "ahead", timedelta(0))
    monkeypatch.setattr(pending, "datetime", Clock)
    monkeypatch.setattr(check, "datetime", Clock)
    monkeypatch.setattr(run, "datetime", Clock)
    return Clock


def in_minutes(minutes: int) -> str:
    return (datetime.now(timezone.utc) + timedelta(minutes=minutes)).isoformat(timespec="seconds")


def soon_and_later() -> list[dict[str, Any]]:
    soon, later = people(2)
    return [{**soon, "time_to_send": in_minutes(10)}, {**later, "time_to_send": NEW_YEAR}]


OUTCOMES = [("fail", "failed", "invalid", 1), ("skip", "success", "skipped", 1), ("send_now", "success", "accepted", 2)]


@full_size
class TestATimeThatPassesBeforeItsBatchIsPosted:
    @pytest.mark.parametrize(("on_past", "state", "count", "sent"), OUTCOMES)
    def test_while_the_rows_are_checked(self, dag, run_dag, sandbox, clock, on_past, state, count, sent):
        def rows():
            yield from soon_and_later()
            clock.ahead = timedelta(hours=1)

        sending(recipients=rows, on_past=on_past)
        run = run_dag(dag)
        assert run.tasks == {"send": state}
        assert run.xcom("send")[count] == sent
        assert len(sandbox.messages) == sent
        assert "scheduled" in {message["state"] for message in sandbox.messages}

    @pytest.mark.parametrize(("on_past", "state", "count", "sent"), OUTCOMES)
    def test_while_the_batch_waits_after_a_429(
        self, dag, run_dag, sandbox, clock, monkeypatch, on_past, state, count, sent
    ):
        choose, attempts = pending.PendingBatch.next_attempt, []

        def later(self):
            attempts.append(len(bulk_calls(sandbox)))
            if attempts[-1]:
                clock.ahead = timedelta(hours=1)
            return choose(self)

        monkeypatch.setattr(pending.PendingBatch, "next_attempt", later)
        sandbox.add_fault("rate_limited", call="bulk", times=1, retry_after=60)
        sending(recipients=soon_and_later(), on_past=on_past)
        run = run_dag(dag)
        assert run.tasks == {"send": state}
        assert sizes(sandbox) == [2, sent]
        assert run.xcom("send")[count] == sent
        assert [message["time_to_send"] for message in sandbox.messages if message["time_to_send"]] == [
            "2099-01-01T09:00:00+00:00"
        ]

    def test_a_batch_whose_times_have_all_passed_is_not_posted(self, dag, run_dag, sandbox, clock, monkeypatch):
        choose = pending.PendingBatch.next_attempt

        def later(self):
            clock.ahead = timedelta(hours=1)
            return choose(self)

        monkeypatch.setattr(pending.PendingBatch, "next_attempt", later)
        sending(recipients=people(3), time_to_send=in_minutes(10), on_past="skip", retries=1)
        run = run_dag(dag)
        assert run.tasks == {"send": "skipped"}
        assert bulk_calls(sandbox) == []
        assert run.xcom("send")["skipped"] == 3

    def test_a_row_that_was_sent_now_is_reported_so_after_a_retry(self, dag, run_dag, sandbox, clock):
        def rows():
            yield from [*soon_and_later(), *people(3)[2:]]
            clock.ahead = timedelta(hours=1)

        sandbox.add_fault("rate_limited", call="bulk", after=1, retry_after=500)
        sending(recipients=rows, on_past="send_now", batch_size=2, retries=1)
        run = run_dag(dag)
        assert run.tries == {"send": 2}
        assert run.xcom("send")["time_to_send"] == [None, "2099-01-01T09:00:00+00:00", None]


def test_equal_datetimes_in_a_repeated_hour_keep_their_own_times(dag, run_dag, sandbox):
    from zoneinfo import ZoneInfo

    first = datetime(2027, 10, 31, 3, 30, tzinfo=ZoneInfo("Europe/Tallinn"))
    second = first.replace(fold=1)
    assert first == second
    one, other = people(2)

    def rows():
        return [{**one, "time_to_send": first}, {**other, "time_to_send": second}]

    sending(recipients=rows)
    run_dag(dag)
    assert [message["time_to_send"] for message in sandbox.messages] == [
        "2027-10-31T00:30:00+00:00",
        "2027-10-31T01:30:00+00:00",
    ]


@full_size
class TestClear:
    """A clear after a success first withdraws what is still scheduled, and then judges the new times."""

    @pytest.mark.parametrize(("on_past", "state", "sent"), [("skip", "skipped", 0), ("send_now", "success", 3)])
    def test_a_time_that_has_passed_by_now(self, dag, run_dag, clear_and_run, sandbox, on_past, state, sent):
        task = sending(recipients=people(3), time_to_send=NEW_YEAR, on_past=on_past, batch_size=2)
        run = run_dag(dag)
        task.time_to_send = "2020-01-01T09:00Z"
        again = clear_and_run(dag, run)
        assert again.tasks == {"send": state}
        assert [message["state"] for message in sandbox.messages[:3]] == ["cancelled"] * 3
        assert len(sandbox.messages) == 3 + sent

    @pytest.mark.usefixtures("each_try_has_a_process_of_its_own")
    def test_a_delay_from_now_counts_from_the_clear_and_not_from_a_retry(
        self, dag, run_dag, clear_and_run, sandbox, clock
    ):
        def rows():
            clock.ahead += timedelta(minutes=1)
            return people(6)

        sandbox.add_fault("rate_limited", call="bulk", after=1, times=1, retry_after=500)
        sandbox.add_fault("rate_limited", call="bulk", after=2, times=1, retry_after=500)
        sending(recipients=rows, batch_size=2, time_to_send=timedelta(hours=1), retries=1)
        first = run_dag(dag)
        assert (first.tasks, first.tries) == ({"send": "failed"}, {"send": 2})
        clock.ahead = timedelta(hours=2)
        assert clear_and_run(dag, first).tasks == {"send": "success"}
        times = [datetime.fromisoformat(message["time_to_send"]) for message in sandbox.messages]
        assert times[0] == times[2]
        assert times[4] - times[0] > timedelta(hours=1, minutes=59)


class TestPlaceholders:
    def test_messages_of_a_mapped_task_are_filled(self, dag, run_dag, sandbox):
        @task
        def build(text):
            return sms(text)

        sending(recipients=people(2), messages=build.expand(text=["Hello $name"]))
        assert run_dag(dag).state == "success"
        assert texts(sandbox) == ["Hello Person 0", "Hello Person 1"]

    def test_a_text_of_a_mapped_task_is_filled(self, dag, run_dag, sandbox):
        @task
        def all_messages():
            return [{"channel": "viber", "text": "Hello $name", "ttl": 60}, {"channel": "sms", "text": "Hi $name"}]

        sending(recipients=people(1), messages=all_messages())
        run_dag(dag)
        (message,) = sandbox.messages
        assert [each["text"] for each in message["body"]["messages"]] == ["Hello Person 0", "Hi Person 0"]


@full_size
class TestRowsThatCannotBeReadAgain:
    """A retry whose source raises reports what the earlier try sent, by the numbers of its rows."""

    @pytest.mark.parametrize("failure", ["raises", "changed"])
    def test_ids_and_times_keep_their_rows(self, dag, run_dag, sandbox, failure):
        rows = people(6)
        for index, row in enumerate(rows):
            row["time_to_send"] = f"2099-01-0{index + 1}T09:00Z"
        rows[1]["to"] = "nonsense"
        tries = []

        def source():
            tries.append(1)
            if len(tries) == 1:
                return rows
            if failure == "raises":
                raise OSError("gone")
            return rows[2:]

        sandbox.add_fault("rate_limited", call="bulk", after=1, retry_after=500)
        sending(recipients=source, on_invalid="drop", batch_size=4, retries=1)
        run = run_dag(dag)
        assert run.tasks == {"send": "failed"}
        result = run.xcom("send")
        first, third, fourth = (message["omnimessage_id"] for message in sandbox.messages)
        assert result["omnimessage_id"] == [first, None, third, fourth, None, None]
        assert [time and time[:10] for time in result["time_to_send"]] == [
            "2099-01-01",
            None,
            "2099-01-03",
            "2099-01-04",
            None,
            None,
        ]
        assert (result["accepted"], result["invalid"], result["not_sent"]) == (3, 1, 2)
