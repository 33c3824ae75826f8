"""Clears on a real Airflow after a deploy has changed ``retries``: a cleared send sends, and never twice unasked."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from bulk_sends import NEW_YEAR, live, people
from full_size import first, full_size
from lockstep import Lockstep

from airflow_provider_omnimessage.api.messages import sms
from airflow_provider_omnimessage.operators.bulk import ScheduleBulkOmnimessageOperator
from airflow_provider_omnimessage.operators.omnimessage import ScheduleOmnimessageOperator

TO = "+37255555555"
BOTH = {("single", -1): "success", ("bulk", -1): "success"}


@pytest.fixture
def deploy(dag, sandbox, tmp_path, _airflow, monkeypatch) -> Any:
    """Deploy the DAG anew, with other ``retries`` and another text, and take its run over."""
    # otherwise Airflow keeps the old DAG for 30 seconds
    monkeypatch.setenv("AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL", "0")
    with dag:
        settings = {"retry_delay": timedelta(0), "messages": [sms("first")]}
        tasks = [
            ScheduleOmnimessageOperator(task_id="single", to=TO, time_to_send=NEW_YEAR, **settings),
            ScheduleBulkOmnimessageOperator(
                task_id="bulk", recipients=people(3), batch_size=2, time_to_send=NEW_YEAR, **settings
            ),
        ]

    def deploy(*, retries: int, text: str, run_id: str = "") -> Lockstep:
        for task in tasks:
            task.retries = retries
            task.messages = [sms(text)]
        deployed = Lockstep(dag, tmp_path)
        return deployed.take_over(run_id) if run_id else deployed

    return deploy


def texts_of_live_messages(sandbox: Any) -> set[str]:
    return {message["body"]["messages"][0]["text"] for message in sandbox.messages if message["state"] != "cancelled"}


def max_tries(run: Lockstep) -> set[int]:
    return {instance.max_tries for instance in run.dag_run().get_task_instances()}


@pytest.mark.parametrize("retries_now", first(1, [0, 5]), ids=["lowered", "raised"])
def test_a_clear_replaces_what_was_scheduled_whatever_retries_is_now(deploy, sandbox, retries_now):
    first = deploy(retries=3, text="first").run()
    assert first.states() == BOTH
    again = deploy(retries=retries_now, text="second", run_id=first.run_id)
    assert again.clear() == 2
    assert max_tries(again) == {1 + retries_now}
    assert again.resume().states() == BOTH
    assert texts_of_live_messages(sandbox) == {"second"}
    assert max(live(sandbox).values()) == 1


@full_size
def test_a_clear_that_looks_like_a_retry_says_so_and_the_next_one_works(deploy, sandbox, capfd):
    first = deploy(retries=3, text="first").run()
    max_tries_before = max_tries(first)
    sandbox.advance(timedelta(days=365 * 100))
    again = deploy(retries=2, text="second", run_id=first.run_id)
    again.clear()
    assert max_tries(again) == max_tries_before
    assert set(again.resume().states().values()) == {"failed"}
    assert texts_of_live_messages(sandbox) == {"first"}
    assert capfd.readouterr().out.count("it is unknown whether this task was cleared or is a retry") >= 2
    again.clear()
    assert again.resume().states() == BOTH
    assert texts_of_live_messages(sandbox) == {"first", "second"}
