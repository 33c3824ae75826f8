"""The escalation of a storm when something goes wrong: no step is lost, doubled, or sent for nothing."""

from __future__ import annotations

import json
from datetime import timedelta
from types import SimpleNamespace

import pytest
from storm_events import TO, event, pending, sent

from airflow_provider_omnimessage.alerts import Step
from airflow_provider_omnimessage.notifications import event_store
from airflow_provider_omnimessage.notifications.omnimessage import OmnimessageNotifier

MINUTE = timedelta(minutes=1)
STEPS = [Step(after=15 * MINUTE), Step(after=90 * MINUTE, text="Call Bob")]


@pytest.fixture
def notify():
    return OmnimessageNotifier(to=TO, dedup_key="{{ dag.dag_id }}", recovered=True, escalate=STEPS)


def steps(sandbox):
    return [words for words in pending(sandbox) if "more failure" not in words]


class TestAfterAFirstMessageThatWasNotSent:
    @pytest.fixture(autouse=True)
    def first_message_is_rejected(self, sandbox, variables, notify):
        sandbox.add_fault("unauthorized", call="send", times=1)
        notify(event("extract"))
        assert (len(sent(sandbox)), len(steps(sandbox))) == (0, 2)

    def test_the_next_failure_is_sent_and_takes_over_the_steps(self, sandbox, notify):
        for _ in range(2):
            notify(event())
        assert sent(sandbox) == ["report.load (run_1) failed"]
        assert len(steps(sandbox)) == 2
        notify(event(state="success"))
        assert pending(sandbox) == []
        assert sent(sandbox)[1].endswith("3 failures (run_1)")

    def test_a_success_cancels_the_steps(self, sandbox, notify):
        notify(event(state="success"))
        assert pending(sandbox) == []

    def test_the_message_may_be_rejected_again(self, sandbox, notify):
        sandbox.add_fault("unauthorized", call="send", times=1)
        for _ in range(2):
            notify(event())
        assert (len(sent(sandbox)), len(steps(sandbox))) == (1, 2)


def test_a_step_that_was_not_scheduled_is_scheduled_with_the_next_first_message(sandbox, variables, notify):
    sandbox.add_fault("unauthorized", call="send", times=2)
    notify(event("extract"))
    assert steps(sandbox) == ["Call Bob"]
    notify(event())
    assert sorted(steps(sandbox)) == ["2nd notice: report.load (run_1) failed", "Call Bob"]


def test_a_storm_after_the_first_has_steps_of_its_own(sandbox, variables, notify):
    notify(event())
    variables.shift(61 * MINUTE)
    notify(event())
    assert len(sent(sandbox)) == 2
    stored = json.loads(variables["omnimessage_events__report"])["scheduled"]
    assert [one["step"] for one in stored] == [2, 1, 2]


def test_a_variable_that_cannot_be_written_leaves_the_escalation_out_and_says_so(
    sandbox, variables, notify, monkeypatch, caplog, capsys
):
    def denied(*_, **__):
        raise RuntimeError("read only")

    monkeypatch.setattr(event_store, "Variable", SimpleNamespace(get=variables.look, set=denied))
    notify(event())
    assert (len(sent(sandbox)), pending(sandbox)) == (1, [])
    assert "The escalation is not scheduled: without the Variable" in caplog.text + capsys.readouterr().out


def test_without_recovered_a_success_cancels_the_steps_and_leaves_the_digest_which_nothing_else_would_tell(
    sandbox, variables
):
    notify = OmnimessageNotifier(to=TO, dedup_key="a", escalate=STEPS)
    for state in ("failed", "failed", "success", "success"):
        notify(event(state=state))
    (digest,) = pending(sandbox)
    assert digest.startswith("... and at least 1 more failure of report")
    assert sent(sandbox) == ["report.load (run_1) failed"]
    # the next failure is the first of another storm, whose digest is another one
    variables.shift(5 * MINUTE)
    for _ in range(2):
        notify(event())
    assert (len(sent(sandbox)), len(pending(sandbox)), len(steps(sandbox))) == (2, 4, 2)


class TestAStepWhoseTemplateFails:
    BROKEN = Step(after=5 * MINUTE, text="{{ no.such.thing }}")

    def test_it_is_left_out_and_the_text_and_the_other_steps_stand(self, sandbox, variables, caplog, capsys):
        notify = OmnimessageNotifier(
            to=TO, text="failed {{ ti.task_id }}", dedup_key="{{ dag.dag_id }}", escalate=[*STEPS, self.BROKEN]
        )
        notify(event())
        assert sent(sandbox) == ["failed load"]
        assert sorted(steps(sandbox)) == ["2nd notice: failed load", "Call Bob"]
        log = caplog.text + capsys.readouterr().out
        assert "Step 1 of the escalation, after 0:05:00, is left out: step: its template cannot be rendered" in log
        assert "no.such.thing" not in log

    def test_a_text_that_fails_does_not_cost_the_steps(self, sandbox, variables):
        notify = OmnimessageNotifier(to=TO, text="{{ no.such.thing }}", dedup_key="a", escalate=STEPS)
        notify(event())
        assert sent(sandbox) == ["report.load (run_1) failed"]
        assert len(steps(sandbox)) == 2

    def test_without_any_step_left_a_success_is_still_no_event(self, sandbox, variables):
        notify = OmnimessageNotifier(to=TO, dedup_key="a", escalate=[self.BROKEN])
        for state in ("success", "failed", "failed", "success"):
            notify(event(state=state))
        assert sent(sandbox) == ["report.load (run_1) failed"]
        assert steps(sandbox) == []

    def test_the_next_event_renders_its_own(self, sandbox, variables):
        notify = OmnimessageNotifier(
            to=TO, dedup_key="{{ ti.task_id }}", escalate=[Step(after=MINUTE, text="Look at {{ ti.task_id }}")]
        )
        for task_id in ("load", "extract"):
            notify(event(task_id))
        assert steps(sandbox) == ["Look at load", "Look at extract"]
