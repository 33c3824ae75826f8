"""Tasks to put into a dead man's switch, and a switch's usual arguments."""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import task

TO = "+37255555555"
OTHER = "+37255555556"
SOON = timedelta(hours=1)
ALERT = {"to": TO, "text": "Late: {{ dag.dag_id }} {{ run_id }}", "time_to_send": SOON}


def ok(name="ok", **settings):
    return EmptyOperator(task_id=name, **settings)


def ends(name, outcomes, **settings):
    """Make a task whose attempts end as a list says, the last of it repeated: "success", "fail" or "skip"."""
    left = list(outcomes)

    def end():
        from airflow.sdk.exceptions import AirflowSkipException

        outcome = left.pop(0) if len(left) > 1 else left[0]
        if outcome == "fail":
            raise RuntimeError("as the test says")
        if outcome == "skip":
            raise AirflowSkipException

    return PythonOperator(task_id=name, python_callable=end, **settings)


def fails(name="fails", **settings):
    @task(task_id=name, **settings)
    def failing():
        raise RuntimeError("as it should")

    return failing()


def runs(name="runs", **settings):
    @task(task_id=name, **settings)
    def working():
        return [1, 2, 3]

    return working()


def doubles(name="mapped", fail_at=None, **settings):
    @task(task_id=name, **settings)
    def double(number):
        if number == fail_at:
            raise RuntimeError("as it should")
        return number * 2

    return double


def branch_to(chosen):
    @task.branch(task_id="branch")
    def branch():
        return chosen

    return branch()


def state(run, name):
    return run.states()[(name, -1)]


def alerts(sandbox):
    return [message["state"] for message in sandbox.messages]
