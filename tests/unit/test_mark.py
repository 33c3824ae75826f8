"""Clears are distinguished from retries in every order of deploys, clears and retries: a model of Airflow's numbers."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from airflow_provider_omnimessage.tasks.memory import Mark, MessageRecord, SendStep, Since, next_step

ENDS = ["success", "dies before", "dies after the intent", "dies after the POST", "dies at the end"]


class TaskInstanceModel(RuleBasedStateMachine):
    """
    One task instance as Airflow 3.3 keeps it, with a task that posts one message, and a Messente that counts.

    At most once: no second message without a clear of this task in between.
    """

    @initialize(retries=st.integers(0, 4))
    def start(self, retries):
        self.retries = retries
        self.max_tries = retries
        self.try_number = 0
        self.clear_number = 0
        self.state = "none"
        self.record: MessageRecord | None = None
        self.clears_since_record = 0
        self.resets_since_record = 0
        self.accepted_since_clear = 0

    @property
    def mark(self):
        return Mark.of(
            {
                "ti": SimpleNamespace(max_tries=self.max_tries, try_number=self.try_number),
                "dag_run": SimpleNamespace(clear_number=self.clear_number),
            }
        )

    @rule(retries=st.integers(0, 4))
    def deploy(self, retries):
        self.retries = retries

    @rule()
    def clear_another_task(self):
        self.clear_number += 1

    @precondition(lambda self: self.state in ("success", "failed", "up_for_retry"))
    @rule(reset_dag_run=st.booleans())
    def clear(self, reset_dag_run):
        self.max_tries = self.try_number + self.retries
        self.clear_number += reset_dag_run
        self.state = "none"
        self.clears_since_record += 1
        self.resets_since_record += reset_dag_run
        self.accepted_since_clear = 0

    @precondition(lambda self: self.state in ("none", "up_for_retry"))
    @rule(
        end=st.sampled_from(
            ["success", "dies before", "dies after the intent", "dies after the POST", "dies at the end"]
        )
    )
    def run(self, end):
        self.try_number += 1
        if end == "dies before":
            return self.end_try(retry=True)
        record, mark = self.record, self.mark
        step = next_step(record, mark, at_least_once=False)
        if record is not None:
            since = mark.since(record.mark)
            if since is Since.CLEAR:
                assert self.clears_since_record, "a retry was taken for a clear"
            if since is Since.RETRY and self.clears_since_record:
                assert not self.is_visible, "a clear was taken for a retry"
        if step is SendStep.FAIL:
            self.store(MessageRecord("f", 0, None, "s", reported=True))
            return self.end_try(retry=False)
        if step is SendStep.KEEP:
            return self.end_try(retry=end != "success")
        if step is SendStep.LOOK_UP and mark.since(record.mark) is Since.UNSURE:  # its message was sent
            self.store(record)
            return self.end_try(retry=False)
        self.store(MessageRecord("f", 0, None, "s"))
        if end == "dies after the intent":
            return self.end_try(retry=True)
        self.accepted_since_clear += 1
        if end == "dies after the POST":
            return self.end_try(retry=True)
        self.store(MessageRecord("f", 0, None, "s", omnimessage_id="m"))
        return self.end_try(retry=end != "success")

    def store(self, record):
        self.record = MessageRecord.read(record.marked(self.mark).as_dict())
        self.clears_since_record = self.resets_since_record = 0

    @property
    def is_visible(self):
        """Whether Airflow's numbers differ from those in the record; several clears may undo each other's change."""
        return self.resets_since_record or self.max_tries != self.record.max_tries

    def end_try(self, *, retry):
        is_eligible = self.max_tries != 0 and self.try_number <= self.max_tries
        self.state = "success" if retry is False else "up_for_retry" if is_eligible else "failed"

    @invariant()
    def never_twice(self):
        assert getattr(self, "accepted_since_clear", 0) <= 1


TestTaskInstanceModel = TaskInstanceModel.TestCase


@pytest.mark.parametrize(
    ("earlier", "now", "since"),
    [
        (Mark(2, 1, 0), Mark(2, 2, 0), Since.RETRY),
        (Mark(5, 2, 0), Mark(5, 5, 0), Since.RETRY),
        (Mark(2, 1, 0), Mark(3, 2, 1), Since.CLEAR),
        (Mark(3, 1, 0), Mark(1, 2, 1), Since.CLEAR),
        (Mark(3, 1, 0), Mark(3, 2, 1), Since.UNSURE),
        (Mark(0, 1, 0), Mark(0, 2, 1), Since.CLEAR),
        (Mark(2), Mark(2, 2, 5), Since.RETRY),
        (Mark(2), Mark(3, 2, 5), Since.CLEAR),
    ],
    ids=[
        "retry",
        "three clears that reset no run and undo each other's change",
        "clear",
        "lowered by more",
        "lowered by as much, or cleared while it ran",
        "after the last try",
        "older record",
        "older, clear",
    ],
)
def test_since(earlier, now, since):
    assert now.since(earlier) is since


def test_a_clear_that_looks_like_a_retry_is_recognized_at_the_next_clear():
    first = Mark(max_tries=3, try_number=1, clear_number=0)
    cleared = Mark(max_tries=3, try_number=2, clear_number=1)
    assert cleared.since(first) is Since.UNSURE
    assert Mark(max_tries=4, try_number=3, clear_number=2).since(cleared) is Since.CLEAR
