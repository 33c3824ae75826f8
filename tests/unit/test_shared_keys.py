"""One key for several notifiers: those that differ, and a success that comes beside a new failure."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from storm_events import HOUR, event, notifier, pending, sent

from airflow_provider_omnimessage.alerts import Step
from airflow_provider_omnimessage.notifications.event_state import EventState, Scheduled
from airflow_provider_omnimessage.notifications.event_store import EventStore

SUCCESS = event(state="success")


class TestNotifiersThatDiffer:
    """Only the first one tracks failures until something succeeds."""

    def test_a_failure_in_the_storm_of_another_notifier_is_reported_as_recovered(self, sandbox, variables):
        tracked = notifier(recovered=True)
        notifier()(event("extract"))
        tracked(event())
        tracked(SUCCESS)
        assert sent(sandbox)[1].endswith(", 2 failures (run_1)")
        assert pending(sandbox) == []

    def test_a_later_storm_of_another_notifier_does_not_lose_the_recovery(self, sandbox, variables):
        tracked = notifier(recovered=True)
        tracked(event())
        variables.shift(2 * HOUR)
        notifier()(event("extract"))
        tracked(SUCCESS)
        assert sent(sandbox)[2:] == ["report.load recovered after 2 h, 2 failures (run_1)"]

    def test_a_success_that_reports_nothing_cancels_no_digest(self, sandbox, variables):
        for name in ("extract", "load"):
            notifier()(event(name))
        notifier(recovered=True)(SUCCESS)
        assert len(sent(sandbox)) == len(pending(sandbox)) == 1


def test_the_steps_of_a_failure_that_comes_while_a_success_ends_others_stay(sandbox, variables, monkeypatch):
    notify = notifier(recovered=True, escalate=[Step(after=timedelta(minutes=15))])
    notify(event("extract"))
    write = EventStore.write

    def write_and_fail(self, state):
        monkeypatch.setattr(EventStore, "write", write)
        write(self, state)
        notify(event())

    monkeypatch.setattr(EventStore, "write", write_and_fail)
    notify(SUCCESS)
    assert pending(sandbox) == ["2nd notice: report.load (run_1) failed"]
    notify(SUCCESS)
    assert pending(sandbox) == []


def test_the_digest_of_an_event_whose_id_is_not_kept_belongs_to_the_storm():
    digest = Scheduled("id", "2026-11-25T10:00:00+00:00", "1025th", 1024)
    state = EventState(events=("1st", "2nd"), more=1023, digest_by="1025th", scheduled=(digest,))
    assert state.left_over() == ()


@pytest.mark.parametrize("key", ["{{ nothing.at_all }}", "{{ dag.no_such_key }}"])
@pytest.mark.parametrize("is_async", [False, True])
def test_without_a_key_failures_are_sent_and_successes_are_not(sandbox, variables, key, is_async):
    """The text is that of a failure."""
    notify = notifier(recovered=True, dedup_key=key, text="FAILED: {{ ti.task_id }}")
    for one in (SUCCESS, event()):
        if is_async:
            notify.context = one
            notify.render_template_fields(one)
            asyncio.run(notify.async_notify(one))
        else:
            notify(one)
    assert len(sent(sandbox)) == 1
    assert "load" in sent(sandbox)[0]
