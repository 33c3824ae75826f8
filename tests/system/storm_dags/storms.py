"""A hundred tasks that fail at once, and a run that succeeds after that."""

from __future__ import annotations

from airflow.sdk import DAG, task

from airflow_provider_omnimessage.notifications.omnimessage import OmnimessageNotifier

ALERTS = OmnimessageNotifier.callbacks(to="+37255558888", dedup_key="{{ dag.dag_id }}", recovered=True)

with DAG("storm", schedule=None, on_success_callback=ALERTS["on_success_callback"]):

    @task(on_failure_callback=ALERTS["on_failure_callback"])
    def load(number: int, dag_run=None) -> None:
        """Fail if the run's parameter says so."""
        if dag_run.conf["fails"]:
            raise RuntimeError(f"table {number}")

    @task
    def numbers(dag_run=None) -> list[int]:
        """Say how many tasks there are."""
        return list(range(dag_run.conf["tasks"]))

    load.expand(number=numbers())
