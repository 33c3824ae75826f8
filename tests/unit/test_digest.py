"""One message for a storm, one digest for the rest, and one when it works again."""

from __future__ import annotations

import asyncio
import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone

import pytest
from full_size import full_size
from storm_events import HOUR, TO, event, notifier, pending, sent, text

from airflow_provider_omnimessage.api.errors import InvalidInputError
from airflow_provider_omnimessage.api.messages import sms, viber
from airflow_provider_omnimessage.notifications import event_store
from airflow_provider_omnimessage.notifications.digest import in_words
from airflow_provider_omnimessage.notifications.event_state import MOST_EVENTS, EventState
from airflow_provider_omnimessage.notifications.event_store import variable_of
from airflow_provider_omnimessage.notifications.omnimessage import OmnimessageNotifier


class TestAStorm:
    def test_a_hundred_failures_cost_one_message_one_digest_and_a_handful_of_calls(self, sandbox, variables):
        notify = notifier()
        for number in range(100):
            notify(event(f"task_{number % 5}"))
        assert sent(sandbox) == ["report.task_0 (run_1) failed"]
        (digest,) = pending(sandbox)
        assert digest.startswith("... and at least 64 more failures of report: task_1, task_2, task_3, ... (since ")
        assert len(sandbox.requests) == 1 + 7 + 6, "one message, digests at 1, 2, 4 ... 64, six of them cancelled"

    def test_the_digest_is_sent_at_the_end_of_quiet_for(self, sandbox, variables):
        for _ in range(2):
            notifier(quiet_for=timedelta(minutes=30))(event())
        at = datetime.fromisoformat(sandbox.messages[1]["time_to_send"])
        assert abs(at - datetime.now(timezone.utc) - timedelta(minutes=30)) < timedelta(minutes=1)
        assert text(sandbox.messages[1]).startswith("... and at least 1 more failure of report: load (since ")

    def test_the_digest_names_the_tasks_of_the_events_that_it_counts(self, sandbox, variables):
        for task_id in ("extract", "load"):
            notifier()(event(task_id))
        assert pending(sandbox)[0].startswith("... and at least 1 more failure of report: load (since ")

    def test_a_digest_whose_response_is_lost_is_scheduled_again_rather_than_missing(self, sandbox, variables):
        notifier()(event())
        sandbox.add_fault("lost_answer", call="send", times=1)
        for _ in range(2):
            notifier()(event())
        assert [digest[:28] for digest in pending(sandbox)] == [
            "... and at least 1 more fail",
            "... and at least 2 more fail",
        ]

    def test_an_event_after_quiet_for_is_sent_and_begins_anew(self, sandbox, variables):
        for _ in range(2):
            notifier()(event())
        variables.shift(HOUR)
        for _ in range(2):
            notifier()(event())
        assert len(sent(sandbox)) == 2
        assert len(pending(sandbox)) == 2, "the digest of the first storm has been sent by then"

    def test_keys_are_apart(self, sandbox, variables):
        for task_id in ("load", "extract", "load"):
            notifier(dedup_key="{{ dag.dag_id }}.{{ ti.task_id }}")(event(task_id))
        assert len(sent(sandbox)) == 2
        assert sorted(variables) == ["omnimessage_events__report.extract", "omnimessage_events__report.load"]

    def test_all_recipients_get_both_on_the_channels_of_the_message(self, sandbox, variables):
        messages = [viber("failed", ttl=60), sms("failed", sender="Ops")]
        for _ in range(3):
            notifier(to=[TO, "+37255555556"], messages=messages)(event())
        digests = [message for message in sandbox.messages if message["state"] == "scheduled"]
        assert {message["to"] for message in digests} == {TO, "+37255555556"}
        (first, second) = digests[0]["body"]["messages"]
        assert (first["channel"], first["ttl"], second["channel"], second["sender"]) == ("viber", 60, "sms", "Ops")
        assert first["text"] == second["text"]
        assert first["text"].startswith("... and at least 2 more failures")

    @pytest.mark.parametrize("edited", ["garbage", "[]", '{"until": "2026-11-25T09:00", "first": "a"}'])
    def test_a_variable_that_holds_something_else_is_replaced(self, sandbox, variables, edited):
        variables["omnimessage_events__report"] = edited
        notifier()(event())
        assert len(sent(sandbox)) == 1
        assert json.loads(variables["omnimessage_events__report"])["is_sent"] is True

    def test_names_of_variables_are_plain_and_their_own(self):
        keys = ["report", "a b", "a/b", "x" * 300, "x" * 301]
        names = [variable_of(key) for key in keys]
        assert len(set(names)) == len(keys)
        assert all(re.fullmatch(r"[\w.-]{1,150}", name) for name in names)

    def test_a_state_stays_small(self):
        now = datetime.now(timezone.utc)
        state = EventState()
        for number in range(3 * MOST_EVENTS):
            state = state.with_event(f"{number:012}", f"task_{number}", now, HOUR, is_tracked=True)
        assert state.count == 3 * MOST_EVENTS
        assert len(json.dumps(state.as_dict())) < 20_000
        assert EventState.read(json.loads(json.dumps(state.as_dict()))) == state


class TestFaults:
    def test_with_the_store_down_each_event_is_sent(self, sandbox, variables):
        variables.is_down = True
        for _ in range(3):
            notifier(text="failed {{ ti.task_id }}")(event())
        assert sent(sandbox) == ["failed load"] * 3

    def test_after_a_first_message_that_was_not_sent_the_next_event_is_sent(self, sandbox, variables):
        sandbox.add_fault("unauthorized", times=1)
        notifier()(event())
        assert sandbox.messages == []
        notifier()(event())
        notifier()(event())
        assert (len(sent(sandbox)), len(pending(sandbox))) == (1, 1)

    def test_a_digest_that_was_not_scheduled_is_scheduled_by_the_next_event(self, sandbox, variables):
        notifier()(event())
        sandbox.add_fault("unauthorized", times=1)
        notifier()(event())
        assert pending(sandbox) == []
        notifier()(event())
        assert pending(sandbox)[0].startswith("... and at least 2 more failures")

    def test_a_process_that_dies_before_it_sends_the_first_message_silences_nobody_for_long(self, sandbox, variables):
        now = datetime.now(timezone.utc)
        died = EventState().with_event("dead", "load", now, HOUR, is_tracked=False)
        variables["omnimessage_events__report"] = json.dumps(died.as_dict())
        variables.shift(timedelta(minutes=2))
        notifier()(event())
        assert len(sent(sandbox)) == 1

    def test_a_digest_that_cannot_be_cancelled_is_cancelled_by_a_later_event(self, sandbox, variables):
        for _ in range(2):
            notifier()(event())
        sandbox.add_fault("server_error", call="cancel", times=40)
        notifier()(event())
        assert len(pending(sandbox)) == 2
        sandbox.clear_faults()
        for _ in range(2):
            notifier()(event())
        assert len(pending(sandbox)) == 1

    def test_a_key_that_does_not_fit_the_event_is_no_reason_to_be_silent(self, sandbox, variables):
        for _ in range(2):
            notifier(dedup_key="{{ no.such.thing }}")(event())
        assert len(sent(sandbox)) == 2
        assert variables == {}


@full_size
def test_many_tasks_that_fail_at_once_cost_three_messages_at_most(sandbox, variables, monkeypatch):
    """Four at a time, on a slow store; tests/system/test_storms.py does the same on a running Airflow."""
    variables.delay = 0.005
    monkeypatch.setattr(event_store, "time", time)
    monkeypatch.setattr(event_store, "SETTLING", (0.05, 0.1))
    notify = notifier()
    with ThreadPoolExecutor(4) as workers:
        list(workers.map(lambda number: notify(event(f"task_{number}")), range(40)))
    assert sent(sandbox)
    assert pending(sandbox)
    assert len(sent(sandbox)) + len(pending(sandbox)) <= 3
    assert max(int(re.search(r"at least (\d+) more", digest)[1]) for digest in pending(sandbox)) >= 16
    # an event that a slow thread overwrites after the pause is not counted: the digest says "at least"
    assert len(json.loads(variables["omnimessage_events__report"])["events"]) >= 36


class TestRecovered:
    @pytest.fixture
    def callbacks(self):
        return OmnimessageNotifier.callbacks(to=TO, dedup_key="{{ dag.dag_id }}", recovered=True)

    def test_the_first_success_after_failures_is_sent_once_and_cancels_the_digest(self, sandbox, variables, callbacks):
        run = {"ti": None, "run_id": "run_2"}
        for _ in range(3):
            callbacks["on_failure_callback"](event(**run, reason="task_failure"))
        variables.shift(timedelta(hours=2, minutes=10))
        for _ in range(2):
            callbacks["on_success_callback"](event(**run, reason="success"))
        assert sent(sandbox)[1:] == ["report recovered after 2 h 10 min, 3 failures (run_2)"]

    def test_a_waiting_digest_is_cancelled(self, sandbox, variables, callbacks):
        for _ in range(3):
            callbacks["on_failure_callback"](event())
        assert len(pending(sandbox)) == 1
        callbacks["on_success_callback"](event(state="success"))
        assert pending(sandbox) == []
        assert re.fullmatch(r"report.load recovered after \d s, 3 failures \(run_1\)", sent(sandbox)[-1])

    def test_failures_of_several_storms_count(self, sandbox, variables, callbacks):
        for _ in range(3):
            callbacks["on_failure_callback"](event())
            callbacks["on_failure_callback"](event())
            variables.shift(HOUR)
        callbacks["on_success_callback"](event(state="success"))
        assert sent(sandbox)[-1] == "report.load recovered after 3 h, 6 failures (run_1)"

    def test_a_success_without_a_failure_that_was_sent_is_no_news(self, sandbox, variables, callbacks):
        callbacks["on_success_callback"](event(state="success"))
        sandbox.add_fault("unauthorized", times=1)
        callbacks["on_failure_callback"](event())
        callbacks["on_success_callback"](event(state="success"))
        assert sandbox.messages == []

    def test_a_failure_after_a_recovery_is_sent_at_once(self, sandbox, variables, callbacks):
        for _ in range(2):
            callbacks["on_failure_callback"](event())
            callbacks["on_success_callback"](event(state="success"))
        assert len(sent(sandbox)) == 4

    def test_what_could_not_be_cancelled_is_cancelled_by_the_next_success(self, sandbox, variables, callbacks):
        for _ in range(2):
            callbacks["on_failure_callback"](event())
        sandbox.add_fault("server_error", call="cancel", times=40)
        callbacks["on_success_callback"](event(state="success"))
        assert len(pending(sandbox)) == 1
        sandbox.clear_faults()
        callbacks["on_success_callback"](event(state="success"))
        assert pending(sandbox) == []
        assert len(sent(sandbox)) == 2

    def test_of_many_successes_at_once_one_is_sent(self, sandbox, variables, callbacks, monkeypatch):
        callbacks["on_failure_callback"](event())
        variables.delay = 0.01
        monkeypatch.setattr(event_store, "time", time)
        monkeypatch.setattr(event_store, "SETTLING", (0.025, 0.04))
        with ThreadPoolExecutor(4) as workers:
            list(workers.map(lambda _: callbacks["on_success_callback"](event(state="success")), range(8)))
        assert len(sent(sandbox)) == 2


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "1 s"), (59, "59 s"), (60, "1 min"), (3600, "1 h"), (7800, "2 h 10 min"), (86400, "1 d"), (97200, "1 d 3 h")],
)
def test_a_span_in_words(seconds, words):
    assert in_words(timedelta(seconds=seconds)) == words


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"quiet_for": HOUR}, "quiet_for: works with dedup_key only"),
        ({"recovered": True}, "recovered: works with dedup_key only"),
        ({"recovered": "yes", "dedup_key": "a"}, "recovered: 'yes'"),
        ({"dedup_key": " "}, "dedup_key: ' ' is not accepted"),
        ({"dedup_key": "a", "quiet_for": 60}, "quiet_for: 60 is not accepted"),
        ({"dedup_key": "a", "quiet_for": timedelta(seconds=1)}, "quiet_for: "),
        ({"dedup_key": "a", "time_to_send": HOUR}, "time_to_send: cannot be combined"),
        ({"window": "09:00-17:00", "to": lambda _: TO}, "window: cannot be combined with recipients"),
    ],
)
def test_wrong_parameters_are_errors_while_the_dag_is_parsed(arguments, named):
    with pytest.raises(InvalidInputError) as error:
        OmnimessageNotifier(**{"to": TO, **arguments})
    assert named in str(error.value)


def test_callbacks_without_recovered_would_send_every_success():
    with pytest.raises(InvalidInputError, match="recovered: is not set"):
        OmnimessageNotifier.callbacks(to=TO, dedup_key="a")


def test_missed_deadlines_are_deduplicated_in_the_triggerer(sandbox, variables):
    async def is_missed(deadline_id):
        context = {"deadline": {"id": deadline_id, "deadline_time": "09:00"}}
        await OmnimessageNotifier(to=TO, dedup_key="deadlines", context=context)

    for deadline_id in ("storm-1", "storm-2", "storm-3"):
        asyncio.run(is_missed(deadline_id))
    assert sent(sandbox) == ["Airflow missed its deadline of 09:00"]
    assert pending(sandbox)[0].startswith("... and at least 2 more failures of Airflow (since ")
