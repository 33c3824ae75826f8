"""Which runs that start after their deadline send an alert: by run type, and by when the next run is due."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from types import SimpleNamespace

import pytest

from airflow_provider_omnimessage.alerts.late_starts import silent_because

NOW = datetime(2026, 11, 23, 10, 0, tzinfo=timezone.utc)
HOUR = timedelta(hours=1)


def context(run_type, run_after, schedule="0 6 * * *", end_date=None):
    from airflow.sdk import DAG

    run = SimpleNamespace(
        run_type=run_type, run_after=run_after, data_interval_start=run_after, data_interval_end=run_after
    )
    return {"dag_run": run, "dag": DAG("dag", schedule=schedule, start_date=datetime(2020, 1, 1), end_date=end_date)}


@pytest.mark.parametrize(
    ("run_type", "due", "gone_for", "alerts"),
    [
        ("scheduled", NOW - 4 * HOUR, HOUR, True),
        ("scheduled", NOW - 28 * HOUR, 25 * HOUR, False),
        ("scheduled", NOW - 400 * HOUR, 390 * HOUR, False),
        ("backfill", NOW - 4 * HOUR, HOUR, False),
        ("manual", NOW - HOUR, HOUR, True),
        ("manual", NOW - HOUR, 25 * HOUR, False),
        ("asset_triggered", NOW - HOUR, HOUR, True),
    ],
)
def test_only_the_run_that_is_due_alerts(run_type, due, gone_for, alerts):
    assert (silent_because(context(run_type, due), NOW - gone_for, NOW) is None) is alerts


def test_the_latest_run_of_a_weekly_dag_alerts_after_days():
    monday = datetime(2026, 11, 16, 6, 0, tzinfo=timezone.utc)
    late = monday + timedelta(days=5)
    assert silent_because(context("scheduled", monday, "0 6 * * 1"), monday + 3 * HOUR, late) is None
    assert silent_because(context("scheduled", monday, "0 6 * * 1"), monday + 3 * HOUR, late + timedelta(days=3))


@pytest.mark.parametrize(("ends_after", "alerts"), [(timedelta(hours=12), True), (timedelta(days=3), False)])
def test_the_last_run_before_the_end_date_alerts_although_the_next_one_would_be_due(ends_after, alerts):
    due = NOW - 26 * HOUR
    late = context("scheduled", due, end_date=due + ends_after)
    assert (silent_because(late, NOW - 20 * HOUR, NOW) is None) is alerts


def test_without_a_usable_timetable_the_limit_is_24_hours():
    assert silent_because(context("scheduled", NOW - 4 * HOUR, None), NOW - HOUR, NOW) is None
    assert "24 hours" in str(silent_because(context("scheduled", NOW - 40 * HOUR, None), NOW - 30 * HOUR, NOW))
