"""A clear of a guarded run is recognized although a deploy changed the ``retries`` of the switch's tasks before it."""

from __future__ import annotations

import re
import time
from datetime import timedelta

import pytest
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG
from full_size import full_size
from lockstep import Lockstep

from airflow_provider_omnimessage.alerts.deadman import DeadMansSwitch

pytestmark = pytest.mark.usefixtures("_airflow")
#: Of the switch's own tasks. A first try and a clear with one retry less leave ``max_tries`` as it was.
BEFORE, AFTER = 5, 4


@pytest.fixture
def deploy(request, tmp_path, monkeypatch):
    """Make the DAG as one deploy has it; with a run, let that run go on with it."""
    monkeypatch.setenv("AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL", "0")

    def deploying(work, retries=BEFORE, run=None, **settings):
        with DAG(re.sub(r"\W+", "_", request.node.name), schedule=None) as dag:
            alert = {"to": "+37255555555", "text": "Late {{ run_id }}", "time_to_send": timedelta(hours=1)}
            with DeadMansSwitch("by_nine", **{**alert, **settings}) as switch:
                PythonOperator(task_id="work", python_callable=work)
            switch.arm.retries = switch.disarm.retries = retries
        made = Lockstep(dag, tmp_path)
        return made.run() if run is None else Lockstep.of(dag, run.dag_run().run_id)

    return deploying


def fails():
    raise RuntimeError("as the test says")


def sent(sandbox):
    return [message for message in sandbox.messages if message["sent_at"]]


def waiting(sandbox):
    return [message for message in sandbox.messages if message["state"] == "scheduled"]


def max_tries(run, task_id):
    (found,) = [ti.max_tries for ti in run.dag_run().get_task_instances() if ti.task_id == task_id]
    return found


@full_size
def test_a_second_failure_is_sent(deploy, sandbox):
    run = deploy(fails, on_failure="send_now")
    assert len(sent(sandbox)) == 1
    run = deploy(fails, AFTER, run, on_failure="send_now")
    run.clear(only_failed=True, latest_version=True)
    assert max_tries(run, "by_nine.disarm") == BEFORE
    run.resume()
    assert len(sent(sandbox)) == 2


@full_size
def test_a_deadline_that_counts_from_arm_counts_from_the_clear(deploy, sandbox):
    run = deploy(fails)
    (first,) = waiting(sandbox)
    run = deploy(fails, AFTER, run)
    run.clear(latest_version=True)
    assert max_tries(run, "by_nine.arm") == BEFORE
    time.sleep(1)  # times have whole seconds
    run.resume()
    (second,) = waiting(sandbox)
    assert second["time_to_send"] > first["time_to_send"]


@full_size
def test_an_alert_that_was_cancelled_is_scheduled_anew(deploy, sandbox):
    deadline = {"time_to_send": "2099-01-01T09:00"}
    run = deploy(lambda: None, **deadline)
    assert [message["state"] for message in sandbox.messages] == ["cancelled"]
    run = deploy(fails, AFTER, run, **deadline)
    run.clear(latest_version=True)
    assert max_tries(run, "by_nine.arm") == BEFORE
    run.resume()
    assert len(waiting(sandbox)) == 1


def test_an_alert_that_is_still_right_is_kept_at_each_clear(deploy, sandbox):
    deadline = {"time_to_send": "2099-01-01T09:00"}
    run = deploy(fails, **deadline)
    (before,) = waiting(sandbox)
    run = deploy(fails, AFTER, run, **deadline)
    for _ in range(2):
        run.clear(latest_version=True)
        run.resume()
        assert waiting(sandbox) == [before]
