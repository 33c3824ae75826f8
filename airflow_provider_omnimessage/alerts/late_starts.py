"""Decide whether a run that starts after its deadline still alerts."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow_provider_omnimessage.alerts.next_run import expected_run, run_time, run_type

LONG_PAST = timedelta(hours=24)
"""A deadline that passed longer ago than this alerts nobody, if the timetable has no next run to compare with."""


def silent_because(context: Mapping[str, Any], deadline: datetime, now: datetime) -> str | None:
    """Return why a run that starts after its deadline alerts nobody, or ``None`` if it does.

    :param context: Airflow's context of the running task.
    :param deadline: when the work should have been done; in the past.
    """
    kind = run_type(context)
    if kind == "backfill":
        return "this is a backfill"
    if kind == "scheduled":
        following = _following_run(context)
        if following is not None:
            return f"the next run was due at {following:%Y-%m-%d %H:%M} UTC already" if following <= now else None
    if now - deadline > LONG_PAST:
        return f"that is more than {LONG_PAST.total_seconds() / 3600:.0f} hours ago"
    return None


def _following_run(context: Mapping[str, Any]) -> datetime | None:
    """Return when the run after this one is due, or ``None`` if there is none, or the timetable cannot be queried."""
    try:
        return expected_run(context, after=run_time(context) or datetime.min.replace(tzinfo=timezone.utc))
    except Exception:
        # no further run; or a custom timetable that needs what a worker does not have
        return None
