"""A file of its own: after a callback, Airflow parses its file, and another callback of it waits for the next parse."""

from __future__ import annotations

from datetime import datetime, timezone

try:
    from airflow.sdk import DAG, task
except ImportError:  # Airflow 2
    from airflow.decorators import task
    from airflow.models.dag import DAG

from airflow_provider_omnimessage.notifications.omnimessage import OmnimessageNotifier

with DAG(
    "matrix_notifies_success",
    schedule="@once",
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    on_success_callback=OmnimessageNotifier(to="+37255551518"),
):

    @task(on_success_callback=OmnimessageNotifier(to="+37255551519"))
    def succeeds() -> None:
        """Succeed."""

    succeeds()
