"""A damaged state of events counts as none: whatever was stored, a failure is sent, and the next ones are counted."""

from __future__ import annotations

import json

import pytest
from storm_events import TO, event, pending, sent

from airflow_provider_omnimessage.notifications.event_state import EventState, Scheduled
from airflow_provider_omnimessage.notifications.omnimessage import OmnimessageNotifier

NAME = "omnimessage_events__report"
STORM = {
    "first": "a",
    "is_sent": True,
    "since": "2026-01-01T00:00:00+00:00",
    "until": "2099-01-01T00:00:00+00:00",
    "events": ["a"],
}
STEP = {"omnimessage_id": "b", "at": "2099-01-01T00:00:00+00:00", "by": "a", "count": 0}
DAMAGE = {
    "until is empty": {"until": ""},
    "until is no time": {"until": "tomorrow"},
    "until has no offset": {"until": "2099-01-01T00:00:00"},
    "until is a number": {"until": 4070908800},
    "until is the end of time": {"until": "9999-12-31T23:59:59+00:00"},
    "since is empty": {"since": ""},
    "failing_since is no time": {"failing_since": "x"},
    "more is a text": {"more": "x"},
    "more is negative": {"more": -1},
    "digest_count is null": {"digest_count": None},
    "digest_count is a text": {"digest_count": "1"},
    "is_sent is a text": {"is_sent": "false"},
    "earlier is a text": {"earlier": "1"},
    "first is a number": {"first": 1},
    "no events": {"events": []},
    "events are a text": {"events": "abc"},
    "events are numbers": {"events": [1]},
    "names are null": {"names": None},
    "scheduled is a mapping": {"scheduled": STEP},
    "scheduled without an id": {"scheduled": [{"at": STEP["at"], "by": "a"}]},
    "scheduled at no time": {"scheduled": [{**STEP, "at": ""}]},
    "scheduled id is a number": {"scheduled": [{**STEP, "omnimessage_id": 1}]},
    "scheduled count is a text": {"scheduled": [{**STEP, "count": "1"}]},
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_state_is_replaced_at_the_first_failure(sandbox, variables, damage, caplog, capsys):
    variables[NAME] = json.dumps({**STORM, **damage})
    notify = OmnimessageNotifier(to=TO, dedup_key="{{ dag.dag_id }}", recovered=True)
    for _ in range(3):
        notify(event())
    assert (len(sent(sandbox)), len(pending(sandbox))) == (1, 1)
    assert EventState.read(json.loads(variables[NAME])).count == 3
    assert f"Variable {NAME} does not hold the state of events" in caplog.text + capsys.readouterr().out
    notify(event(state="success"))
    assert len(sent(sandbox)) == 2


def test_a_storm_without_since_is_no_reason_to_be_silent(sandbox, variables):
    variables[NAME] = '{"first":"a","is_sent":true,"until":"2099-01-01T00:00:00+00:00"}'
    OmnimessageNotifier(to=TO, dedup_key="{{ dag.dag_id }}")(event())
    assert len(sent(sandbox)) == 1


@pytest.mark.parametrize("since", ["2026-01-01T00:00:00+00:00", "2098-01-01T00:00:00+00:00"])
def test_no_state_silences_failures_for_longer_than_quiet_for(sandbox, variables, since):
    variables[NAME] = json.dumps({**STORM, "since": since})
    for _ in range(3):
        OmnimessageNotifier(to=TO, dedup_key="{{ dag.dag_id }}")(event())
    assert (len(sent(sandbox)), len(pending(sandbox))) == (1, 1)


def test_a_state_that_is_whole_is_kept():
    assert EventState.read(STORM).first == "a"
    assert EventState.read({**STORM, "scheduled": [STEP]}).scheduled == (Scheduled(**STEP),)
    assert EventState.read({"scheduled": [{**STEP, "later_versions": 1}]}).scheduled == (Scheduled(**STEP),)
    assert EventState.read({"scheduled": [STEP], "closed_by": "c", "later_versions": 1}).closed_by == "c"
