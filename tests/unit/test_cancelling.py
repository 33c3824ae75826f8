"""Cancelling one message or many over real HTTP: outcomes, number of requests, time."""

from __future__ import annotations

import logging
import time
from datetime import timedelta

import pytest

from airflow_provider_omnimessage.api.backoff import LONGEST_PAUSE
from airflow_provider_omnimessage.api.cancel_result import CancelResult
from airflow_provider_omnimessage.api.errors import (
    AuthenticationError,
    DeadlineExceededError,
    InvalidInputError,
    ServerError,
)
from airflow_provider_omnimessage.api.messages import sms
from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook
from airflow_provider_omnimessage.tasks.cancelling import CancelSummary, cancel_each
from airflow_provider_omnimessage.tasks.parallel import IN_FLIGHT, a_few_at_a_time

UNKNOWN = "6bd8c1ee-6ac2-4eb5-a0a1-6d46b2f42ae6"
LOG = logging.getLogger(__name__)
TAGS = {"dag_id": "d", "task_id": "t"}


@pytest.fixture
def hook(sandbox):
    with OmnimessageHook() as hook:
        yield hook


@pytest.fixture
def scheduled(hook):
    """Schedule messages, and return their ids."""

    def schedule(count):
        message = hook.compose("+37255555555", [sms("a")])
        return [
            hook.send("+37255555555", message["messages"], time_to_send=timedelta(hours=1)).omnimessage_id
            for _ in range(count)
        ]

    return schedule


def cancel(hook, ids, **settings):
    return list(cancel_each(hook, ids, log=LOG, tags=TAGS, **settings))


def requests_of(sandbox, call):
    return [request for request in sandbox.requests if request["call"] == call]


@pytest.mark.parametrize("count", [0, 1, 2, 25])
def test_there_is_one_outcome_for_each_id_in_order(hook, scheduled, sandbox, count):
    ids = scheduled(count)
    outcomes = cancel(hook, ids)
    assert [outcome.omnimessage_id for outcome in outcomes] == ids
    assert all(outcome.is_cancelled and outcome.was_tried for outcome in outcomes)
    assert all(message["state"] == "cancelled" for message in sandbox.messages)


def test_what_cannot_be_cancelled_does_not_stop_the_others(hook, scheduled):
    before, after = scheduled(2)
    hook.cancel(before)
    outcomes = cancel(hook, [UNKNOWN, "not an id", before, after])
    assert isinstance(outcomes[1].error, InvalidInputError)
    assert [outcome.cancellation and outcome.cancellation.result for outcome in outcomes] == [
        CancelResult.UNKNOWN,
        None,
        CancelResult.ALREADY_CANCELLED,
        CancelResult.CANCELLED,
    ]


def test_rejected_credentials_are_one_request(hook, scheduled, sandbox):
    ids = scheduled(30)
    sandbox.add_fault("unauthorized", call="cancel", times="always")
    outcomes = cancel(hook, ids)
    assert len(requests_of(sandbox, "cancel")) == 1
    assert [outcome.was_tried for outcome in outcomes] == [True] + [False] * 29
    assert all(isinstance(outcome.error, AuthenticationError) for outcome in outcomes)


def test_credentials_that_are_rejected_in_the_middle_end_it(hook, scheduled, sandbox):
    ids = scheduled(60)
    sandbox.add_fault("unauthorized", call="cancel", times="always", after=20)
    outcomes = cancel(hook, ids)
    assert len(requests_of(sandbox, "cancel")) <= 30
    assert sum(outcome.is_cancelled for outcome in outcomes) == 20
    assert not outcomes[-1].was_tried


def test_an_outage_takes_one_budget_and_not_one_for_each_id(hook, scheduled, sandbox, pauses):
    ids = scheduled(200)
    sandbox.add_fault("server_error", status=503, call="any", times="always")
    outcomes = cancel(hook, ids, seconds=120)
    # the pauses of the ten threads add up; a budget for each id would be 24,000 s
    assert sum(pauses) < 120 + IN_FLIGHT * LONGEST_PAUSE
    assert not any(outcome.is_cancelled for outcome in outcomes)
    assert sum(outcome.was_tried for outcome in outcomes) < 20
    assert isinstance(outcomes[-1].error, (ServerError, DeadlineExceededError)), "the last of what ten threads met"


def test_one_id_that_always_fails_does_not_stop_the_others(hook, scheduled, sandbox):
    ids = scheduled(20)
    sandbox.add_fault("server_error", call="cancel", retry_after=500)
    outcomes = cancel(hook, ids)
    assert sum(outcome.is_cancelled for outcome in outcomes) == 19
    assert all(outcome.was_tried for outcome in outcomes)


def test_a_limit_of_the_caller_counts_too(hook, scheduled, sandbox, pauses):
    ids = scheduled(30)
    sandbox.add_fault("rate_limited", call="any", times="always")
    with hook.within(5):
        cancel(hook, ids)
    assert sum(pauses) < 30


def test_an_interruption_starts_no_further_calls():
    begun = []

    def work(number):
        begun.append(number)
        if number == 0:
            raise KeyboardInterrupt
        time.sleep(0.5)

    with pytest.raises(KeyboardInterrupt):
        list(a_few_at_a_time(work, range(100)))
    assert len(begun) <= IN_FLIGHT + 1


def test_a_caller_that_stops_looking_stops_the_requests(hook, scheduled, sandbox):
    ids = scheduled(100)
    for outcome in cancel_each(hook, ids, log=LOG, tags=TAGS):
        assert outcome.is_cancelled
        break
    assert len(requests_of(sandbox, "cancel")) == 1


class TestSummary:
    def test_numbers_and_words(self, hook, scheduled, sandbox):
        ids = scheduled(3)
        sandbox.add_fault("unauthorized", call="cancel", times="always", after=2)
        summary = CancelSummary.of(cancel_each(hook, [UNKNOWN, *ids, ids[2]], log=LOG, tags=TAGS))
        assert summary.as_dict() | {"first_not_cancelled": None} == {
            "cancelled": 1,
            "sent_already": 0,
            "unknown_to_messente": 1,
            "failed": summary.failed,
            "not_tried": 3 - summary.failed,
            "first_not_cancelled": None,
        }
        assert str(summary).startswith("1 cancelled, 1 unknown to Messente, or of another account, ")
        with pytest.raises(AuthenticationError):
            summary.raise_if_unknown()

    def test_an_error_that_may_pass_is_raised_before_one_that_does_not(self, hook, scheduled, sandbox):
        ids = scheduled(1)
        sandbox.add_fault("server_error", call="any", times="always")
        summary = CancelSummary.of(cancel_each(hook, ["not an id", *ids], log=LOG, tags=TAGS))
        with pytest.raises(ServerError):
            summary.raise_if_unknown()
