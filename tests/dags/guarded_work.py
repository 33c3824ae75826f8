"""Tasks to put into a dead man's switch, and a switch's usual arguments."""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import task

TO = "+37255555555"
SOON = timedelta(hours=1)
ALERT = {"to": TO, "text": "Late: {{ dag.dag_id }} {{ run_id }}", "time_to_send": SOON}


def ok(name="ok", **settings):
    return EmptyOperator(task_id=name, **settings)


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
