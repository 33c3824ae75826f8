""" "Recovered" when its request fails: it is sent once, by a later success, and nothing stays scheduled after it."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone

import pytest
from storm_events import HOUR, TO, event, pending, sent

from airflow_provider_omnimessage.alerts import Step
from airflow_provider_omnimessage.notifications.event_state import EventState
from airflow_provider_omnimessage.notifications.event_store import EventStore
from airflow_provider_omnimessage.notifications.omnimessage import OmnimessageNotifier
from airflow_provider_omnimessage.notifications.sending import EventCourier

NAME = "omnimessage_events__report"


@pytest.fixture
def notify():
    return OmnimessageNotifier(to=TO, dedup_key="{{ dag.dag_id }}", recovered=True)


def succeed(notify):
    notify(event(state="success"))


class TestTheRequestFails:
    def test_the_next_success_reports_it_once_with_the_figures_of_the_first(self, sandbox, variables, notify):
        for _ in range(2):
            notify(event())
        variables.shift(2 * HOUR)
        sandbox.add_fault("unauthorized", call="send", times=2)
        for _ in range(2):
            succeed(notify)
            variables.shift(timedelta(seconds=10))
        assert len(sent(sandbox)) == 1
        variables.shift(HOUR)
        for _ in range(2):
            succeed(notify)
        assert sent(sandbox)[1:] == ["report.load recovered after 2 h, 2 failures (run_1)"]

    def test_one_that_may_have_been_sent_is_not_repeated(self, sandbox, variables, notify):
        notify(event())
        sandbox.add_fault("lost_answer", call="send", times=1)
        succeed(notify)
        variables.shift(HOUR)
        succeed(notify)
        assert len(sent(sandbox)) == 2

    def test_one_that_may_have_been_sent_to_one_recipient_is_not_repeated(self, sandbox, variables):
        notify = OmnimessageNotifier(to=[TO, "+37255555556"], dedup_key="{{ dag.dag_id }}", recovered=True)
        notify(event())
        sandbox.add_fault("unauthorized", call="send", times=1)
        sandbox.add_fault("lost_answer", call="send", times=1)
        for _ in range(2):
            succeed(notify)
            variables.shift(HOUR)
        assert len(sent(sandbox)) == 3

    def test_a_failure_that_comes_first_is_sent_and_the_recovery_is_no_news(self, sandbox, variables, notify):
        notify(event())
        sandbox.add_fault("unauthorized", call="send", times=1)
        succeed(notify)
        notify(event())
        assert len(sent(sandbox)) == 2
        variables.shift(HOUR)
        for _ in range(2):
            succeed(notify)
        assert sent(sandbox)[2:] == ["report.load recovered after 1 h, 1 failure (run_1)"]

    def test_a_waiting_digest_is_cancelled_anyway(self, sandbox, variables, notify):
        for _ in range(2):
            notify(event())
        sandbox.add_fault("unauthorized", call="send", times=1)
        succeed(notify)
        assert pending(sandbox) == []

    def test_a_process_that_dies_before_it_reports_leaves_it_to_a_later_success(self, sandbox, variables, notify):
        notify(event())
        state = EventState.read(json.loads(variables[NAME]))
        died = state.closed("dead", datetime.now(timezone.utc), is_reported=True)
        variables[NAME] = json.dumps(died.as_dict())
        succeed(notify)
        assert len(sent(sandbox)) == 1, "the other process may be about to report it"
        variables.shift(timedelta(minutes=2))
        for _ in range(2):
            succeed(notify)
        assert len(sent(sandbox)) == 2


def test_a_damaged_recovery_is_replaced(sandbox, variables, notify):
    for recovery in ({"since": "x"}, {"since": "", "failures": 1, "at": ""}, "x"):
        variables[NAME] = json.dumps({"recovery": recovery})
        succeed(notify)
    assert sent(sandbox) == []
    notify(event())
    assert len(sent(sandbox)) == 1


class TestASuccessWhileSomethingIsScheduled:
    @pytest.mark.parametrize("moment", ["before the request", "after the request"])
    def test_the_digest_is_cancelled(self, sandbox, variables, notify, monkeypatch, moment):
        notify(event())
        request = EventCourier.schedule_text

        def schedule_text(self, *words):
            monkeypatch.setattr(EventCourier, "schedule_text", request)
            if moment == "after the request":
                ids = request(self, *words)
                succeed(notify)
                return ids
            succeed(notify)
            return request(self, *words)

        monkeypatch.setattr(EventCourier, "schedule_text", schedule_text)
        notify(event("extract"))
        assert (len(sent(sandbox)), pending(sandbox)) == (2, [])
        assert json.loads(variables[NAME])["scheduled"] == []

    def test_the_digest_is_cancelled_if_its_id_is_stored_after_the_success_has_read(
        self, sandbox, variables, notify, monkeypatch
    ):
        notify(event())
        change = EventStore.change

        def change_later(self, *functions):
            monkeypatch.setattr(EventStore, "change", change)
            notify(event("extract"))
            return change(self, *functions)

        monkeypatch.setattr(EventStore, "change", change_later)
        succeed(notify)
        assert (len(sent(sandbox)), pending(sandbox)) == (2, [])

    def test_the_steps_are_cancelled(self, sandbox, variables, monkeypatch):
        steps = [Step(after=timedelta(minutes=15)), Step(after=timedelta(minutes=30))]
        notify = OmnimessageNotifier(to=TO, dedup_key="{{ dag.dag_id }}", recovered=True, escalate=steps)
        request = EventCourier.send

        def send(self):
            request(self)
            succeed(notify)

        monkeypatch.setattr(EventCourier, "send", send)
        notify(event())
        assert (len(sent(sandbox)), pending(sandbox)) == (2, [])
        assert json.loads(variables[NAME])["scheduled"] == []
