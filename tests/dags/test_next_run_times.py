"""Which run the alert for a next run waits for: what the timetable says, and which runs have started."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from types import SimpleNamespace

import pytest
from airflow.sdk import DAG, Asset, AssetOrTimeSchedule, CronTriggerTimetable, MultipleCronTriggerTimetable
from airflow.timetables.events import EventsTimetable
from full_size import full_size

from airflow_provider_omnimessage.alerts import next_run
from airflow_provider_omnimessage.alerts.beats import HeartbeatState
from airflow_provider_omnimessage.alerts.next_run import (
    NoFurtherRunError,
    _still_waits,
    awaited_run,
    expected_run,
    is_awaited,
    started_run,
)


def utc(*numbers):
    return datetime(*numbers, tzinfo=timezone.utc)


NOW = utc(2026, 3, 27, 12)  # a Friday; the clocks of Tallinn change on Sunday


def context_of(schedule, *, due=NOW, kind="scheduled", **settings):
    with DAG("timetable", schedule=schedule, start_date=utc(2026, 1, 1), catchup=False, **settings) as dag:
        pass
    run = SimpleNamespace(run_type=kind, run_after=due, data_interval_start=due, data_interval_end=due)
    return {"dag": dag, "dag_run": run}


@pytest.mark.parametrize(
    ("schedule", "after", "expected"),
    [
        ("0 6 * * *", NOW, utc(2026, 3, 28, 6)),
        ("0 6 * * 1-5", NOW, utc(2026, 3, 30, 6)),
        (timedelta(hours=1), NOW, utc(2026, 3, 27, 13)),
        (CronTriggerTimetable("0 6 * * *", timezone="Europe/Tallinn"), NOW, utc(2026, 3, 28, 4)),
        (CronTriggerTimetable("0 6 * * 1", timezone="Europe/Tallinn"), NOW, utc(2026, 3, 30, 3)),
        (None, NOW, None),
        ([Asset("orders")], NOW, None),
        ("@continuous", NOW, None),
    ],
)
def test_the_timetable_says_when_the_next_run_is_due(schedule, after, expected):
    more = {"max_active_runs": 1} if schedule == "@continuous" else {}
    assert expected_run(context_of(schedule, **more), after) == expected


DAY = timedelta(days=1)


def stored_run(due):
    return {"due": due.isoformat(), "start": (due - DAY).isoformat(), "end": due.isoformat()}


@pytest.mark.parametrize(
    ("kind", "due", "last", "expected"),
    [
        # the run of the 26th ends after the one of the 27th is due, which has not started, or has
        ("scheduled", utc(2026, 3, 26, 6), utc(2026, 3, 26, 6), utc(2026, 3, 27, 6)),
        ("scheduled", utc(2026, 3, 26, 6), utc(2026, 3, 27, 6), utc(2026, 3, 28, 6)),
        # it is cleared weeks later
        ("scheduled", utc(2026, 3, 1, 6), utc(2026, 3, 27, 6), utc(2026, 3, 28, 6)),
        ("scheduled", utc(2026, 3, 1, 6), None, utc(2026, 3, 28, 6)),
        ("manual", NOW, utc(2026, 3, 26, 6), utc(2026, 3, 28, 6)),
    ],
)
def test_the_first_run_that_has_not_started_is_awaited(monkeypatch, kind, due, last, expected):
    monkeypatch.setattr(next_run, "now", lambda: NOW)
    context = context_of("0 6 * * *", due=due, kind=kind)
    assert awaited_run(context, stored_run(last) if last else {}) == expected


def test_a_manual_run_awaits_a_time_at_which_a_scheduled_run_is_due():
    last, now = utc(2026, 3, 27, 11, 20), datetime.now(timezone.utc)
    last_run = {name: last.isoformat() for name in ("due", "start", "end")}
    manual = context_of(timedelta(hours=1), due=NOW + timedelta(minutes=7), kind="manual")
    assert expected_run(manual, NOW + timedelta(minutes=8), last_run) == utc(2026, 3, 27, 12, 20)
    # if no scheduled run is known, no later than the interval after now
    expected = expected_run(manual, now)
    assert now < expected <= datetime.now(timezone.utc) + timedelta(hours=1)
    daily = expected_run(context_of("0 6 * * *", due=now, kind="manual"), now)
    assert (daily.hour, daily.minute, timedelta(0) < daily - now <= DAY) == (6, 0, True)


def test_manual_runs_do_not_put_off_the_alert_of_a_timedelta_again_and_again():
    manual = context_of(timedelta(hours=1), kind="manual")
    now = datetime.now(timezone.utc)
    waiting_for = now + timedelta(minutes=20)
    state = HeartbeatState(expected=waiting_for.isoformat())
    assert _still_waits(manual, state, expected_run(manual, now))
    # after a scheduled run it is known that none is due then
    last = now - timedelta(minutes=5)
    state.last_run = {name: last.isoformat() for name in ("due", "start", "end")}
    assert not _still_waits(manual, state, expected_run(manual, now, state.last_run))


TIMES = {"hour": 6, "minute": 0, "second": 0, "microsecond": 0}
TOMORROW = datetime.now(timezone.utc).replace(**TIMES) + DAY


@pytest.mark.parametrize(
    "schedule",
    [
        "0 6 * * *",
        CronTriggerTimetable("0 6 * * *", timezone="UTC"),
        MultipleCronTriggerTimetable("0 6 * * *", "0 6 1 * *", timezone="UTC"),
        AssetOrTimeSchedule(
            timetable=CronTriggerTimetable("0 6 * * *", timezone="UTC"), assets=[Asset("orders", uri="s3://orders")]
        ),
        EventsTimetable([TOMORROW, TOMORROW + DAY]),
    ],
    ids=["cron", "trigger", "several", "assets too", "events"],
)
def test_an_alert_for_a_time_that_a_schedule_no_longer_has_is_replaced_before_any_scheduled_run(schedule):
    manual, now = context_of(schedule, kind="manual"), datetime.now(timezone.utc)
    expected = expected_run(manual, now)
    for before, waits in ((timedelta(), True), (timedelta(minutes=1), False)):
        state = HeartbeatState(expected=(max(expected - before, now + timedelta(seconds=1))).isoformat())
        assert _still_waits(manual, state, expected) is waits


@pytest.mark.parametrize(
    ("kind", "tries", "last", "newest"),
    [
        ("scheduled", 1, None, NOW),
        ("scheduled", 2, None, None),
        ("scheduled", 1, NOW - DAY, NOW),
        ("scheduled", 2, NOW + DAY, NOW + DAY),
        ("manual", 1, None, None),
    ],
)
def test_the_newest_scheduled_run_that_has_started_is_stored(kind, tries, last, newest):
    context = {**context_of("0 12 * * *", kind=kind), "ti": SimpleNamespace(try_number=tries)}
    found = started_run(context, stored_run(last) if last else {})
    assert found.get("due") == (newest and newest.isoformat())


@full_size
def test_a_run_that_is_cleared_months_later_finds_the_next_one():
    assert expected_run(context_of("* * * * *", due=utc(2026, 1, 1)), NOW) == NOW + timedelta(minutes=1)


def test_no_run_follows_the_end_of_a_dag():
    with pytest.raises(NoFurtherRunError):
        expected_run(context_of("0 6 * * *", end_date=utc(2026, 3, 28)), NOW)


@pytest.mark.parametrize(
    ("kind", "expected", "awaited"),
    [
        ("scheduled", NOW, True),
        ("scheduled", NOW + timedelta(hours=1), False),
        ("scheduled", NOW - timedelta(days=1), True),
        ("asset_triggered", NOW, True),
        ("manual", NOW, False),
        ("operator_triggered", NOW, False),
        ("asset_materialization", NOW, False),
        ("backfill", NOW, False),
        ("scheduled", None, True),
        ("asset_triggered", None, True),
        ("manual", None, True),
        ("operator_triggered", None, True),
        ("backfill", None, False),
    ],
)
def test_only_the_run_that_is_awaited_cancels_it(kind, expected, awaited):
    assert (
        is_awaited(context_of(None if expected is None else "0 6 * * *", kind=kind), expected and expected.isoformat())
        is awaited
    )
