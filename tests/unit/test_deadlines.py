"""When the work of a run must be done: by a time of day, or within a span after the run was due, all year round."""

from __future__ import annotations

from datetime import datetime, time, timedelta, timezone
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import pendulum
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_omnimessage.alerts.deadlines import Deadline, due_time, next_time_of_day
from airflow_provider_omnimessage.api.errors import InvalidInputError

TALLINN = "Europe/Tallinn"
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=timezone.utc)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=timezone.utc)


def dag(schedule, zone="UTC"):
    from airflow.sdk import DAG

    return DAG("report", schedule=schedule, start_date=pendulum.datetime(2020, 1, 1, tz=zone))


class TestBy:
    @pytest.mark.parametrize("month", range(1, 13))
    def test_a_morning_report_is_due_on_the_same_morning_in_every_month(self, month):
        due = datetime(2026, month, 15, 6, 0, tzinfo=ZoneInfo(TALLINN))
        found = Deadline(by="09:00", timezone=TALLINN).resolve(due, NOW, None)
        assert found.utc - due == timedelta(hours=3)
        assert (found.local.hour, found.local.date()) == (9, due.date())

    def test_a_nightly_run_is_due_on_the_next_morning(self):
        due = datetime(2026, 11, 23, 23, 0, tzinfo=ZoneInfo(TALLINN))
        found = Deadline(by="07:30", timezone=TALLINN).resolve(due, NOW, None)
        assert found.local.replace(tzinfo=None) == datetime(2026, 11, 24, 7, 30)

    def test_only_the_chosen_days_count(self):
        friday_evening = datetime(2026, 11, 27, 18, 0, tzinfo=ZoneInfo(TALLINN))
        found = Deadline(by="09:00", days="mon-fri", timezone=TALLINN).resolve(friday_evening, NOW, None)
        assert found.local.replace(tzinfo=None) == datetime(2026, 11, 30, 9, 0)

    def test_a_run_that_is_due_at_that_very_time_has_until_the_next_day(self):
        found = Deadline(by="09:00").resolve(utc("2026-11-23 09:00"), NOW, None)
        assert found.utc == utc("2026-11-24 09:00")

    def test_the_zone_of_the_connection_is_used_if_there_is_no_other(self):
        found = Deadline(by="09:00").resolve(utc("2026-11-23 04:00"), NOW, TALLINN)
        assert found.utc == utc("2026-11-23 07:00")

    def test_a_time_that_a_clock_change_skips_moves_forward(self):
        found = Deadline(by="03:30", timezone=TALLINN).resolve(utc("2026-03-28 22:00"), NOW, None)
        assert (found.local.hour, found.local.minute) == (4, 30)
        assert "does not exist" in str(found.warning)

    @given(
        due=st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1)),
        at=st.times(),
        zone=st.sampled_from(
            [TALLINN, "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Pacific/Apia", "UTC"]
        ),
        days=st.sets(st.integers(0, 6), min_size=1),
    )
    def test_it_lies_after_the_run_and_on_one_of_the_days_within_eight_days(self, due, at, zone, days):
        due = due.replace(tzinfo=timezone.utc)
        found = next_time_of_day(due, at.replace(second=0, microsecond=0), pendulum.timezone(zone), frozenset(days))
        assert due < found.utc <= due + timedelta(days=9)
        # a clock change may move it past midnight, into the next day
        assert {found.local.weekday(), (found.local - timedelta(hours=1)).weekday()} & days or found.warning


class TestWithin:
    def test_it_counts_from_when_the_run_was_due_and_not_from_now(self):
        due = utc("2026-11-23 06:00")
        assert Deadline(within=timedelta(hours=3)).resolve(due, due + timedelta(hours=2), None).utc == utc(
            "2026-11-23 09:00"
        )


class TestDue:
    def run(self, **dates):
        return {"dag_run": SimpleNamespace(**{"data_interval_end": None, "run_after": None, **dates})}

    def test_it_is_the_end_of_the_data_interval(self):
        assert due_time(self.run(data_interval_end=utc("2026-11-23 06:00"), run_after=NOW), NOW) == utc(
            "2026-11-23 06:00"
        )

    def test_a_run_without_a_data_interval_is_due_when_it_may_start(self):
        assert due_time(self.run(run_after=utc("2026-11-23 07:00")), NOW) == utc("2026-11-23 07:00")

    def test_a_run_that_knows_neither_is_due_now(self):
        assert due_time(self.run(), NOW) == NOW


class TestParsing:
    @pytest.mark.parametrize(
        ("deadline", "message"),
        [
            (Deadline(), "by: found none of them; pass exactly one"),
            (Deadline(by="09:00", within=timedelta(hours=1)), "by: found by and within; pass exactly one"),
            (Deadline(by="9.30"), "by: '9.30' is not a time of day; use 'HH:MM'"),
            (Deadline(by="24:00"), "by: '24:00' is not a time of day"),
            (Deadline(by=9), "by: 9 is not a time of day"),
            (Deadline(by=time(9, 0, 30)), "is not a time of day"),
            (Deadline(by="09:00", days="mon-fry"), "days: 'mon-fry' is not a day of the week"),
            (Deadline(by="09:00", days="m"), "days: 'm' is not a day of the week"),
            (Deadline(by="09:00", days=5), "days: 5 does not name days"),
            (Deadline(within=timedelta(0)), "within: 0:00:00 is not accepted; use a timedelta of more than 0"),
            (Deadline(within=3600), "within: 3600 is not accepted"),
            (Deadline(within=timedelta(hours=1), days="mon"), "days: works with by only"),
            (Deadline(time_to_send="9:00"), "time_to_send"),
            (Deadline(time_to_send=timedelta(hours=-1)), "time_to_send: -1 day, 23:00:00 is not accepted"),
            (Deadline(by="09:00", timezone="Europe/Talin"), "timezone: 'Europe/Talin' is not a time zone"),
        ],
    )
    def test_what_is_wrong_is_named(self, deadline, message):
        with pytest.raises(InvalidInputError) as error:
            deadline.check_at_parse()
        assert message in str(error.value)

    @pytest.mark.parametrize(
        "deadline",
        [
            Deadline(by="{{ var.value.by }}", days="{{ var.value.days }}", timezone="{{ var.value.zone }}"),
            Deadline(by="9:00", days=["mon", "wed-fri"]),
            Deadline(by=time(9)),
            Deadline(time_to_send="{{ data_interval_end }}"),
            Deadline(time_to_send=timedelta(hours=1)),
        ],
    )
    def test_what_is_right_or_rendered_later_passes(self, deadline):
        deadline.check_at_parse()

    def test_a_run_that_is_due_at_its_deadline_is_an_error(self):
        with pytest.raises(InvalidInputError, match=r"by: 09:00 Europe/Tallinn is when the run itself is due"):
            Deadline(by="09:00", timezone=TALLINN).check_at_parse(dag("0 9 * * *", TALLINN))

    def test_so_it_is_with_the_timetables_that_have_cron_expressions(self):
        from airflow.sdk import Asset, AssetOrTimeSchedule, CronTriggerTimetable, MultipleCronTriggerTimetable

        trigger = CronTriggerTimetable("0 9 * * *", timezone=TALLINN)
        several = MultipleCronTriggerTimetable("0 6 * * *", "0 9 * * 1", timezone=TALLINN)
        for schedule in (trigger, several, AssetOrTimeSchedule(timetable=trigger, assets=[Asset("orders")])):
            with pytest.raises(InvalidInputError, match=r"by: 09:00 Europe/Tallinn is when the run itself is due"):
                Deadline(by="09:00", timezone=TALLINN).check_at_parse(dag(schedule))
        with pytest.raises(InvalidInputError, match="because of a clock change"):
            Deadline(by="09:00", timezone=TALLINN).check_at_parse(
                dag(CronTriggerTimetable("30 6 * * *", timezone="UTC"))
            )
        Deadline(by="09:00", timezone=TALLINN).check_at_parse(dag(CronTriggerTimetable("0 6 * * *", timezone=TALLINN)))

    def test_a_schedule_in_utc_that_reaches_the_deadline_in_summer_only_is_an_error(self):
        with pytest.raises(InvalidInputError, match="is when the run itself is due"):
            Deadline(by="09:00", timezone=TALLINN).check_at_parse(dag("0 6 * * *"))

    def test_a_schedule_that_a_clock_change_moves_past_the_deadline_is_an_error(self):
        with pytest.raises(InvalidInputError, match=r"because of a clock change; write the schedule in that time zone"):
            Deadline(by="09:00", timezone=TALLINN).check_at_parse(dag("30 6 * * *"))

    @pytest.mark.parametrize(
        ("schedule", "zone"),
        [
            ("0 6 * * *", TALLINN),
            ("0 23 * * *", TALLINN),
            ("0 3 * * *", "UTC"),
            ("30 18 * * 1-5", TALLINN),
            ("@monthly", TALLINN),
            (timedelta(hours=1), "UTC"),
            (None, "UTC"),
            ("@continuous", "UTC"),
        ],
    )
    def test_other_schedules_pass(self, schedule, zone):
        Deadline(by="09:00", timezone=TALLINN).check_at_parse(
            dag(schedule, zone) if schedule != "@continuous" else None
        )

    def test_without_timezone_the_schedule_is_not_compared_because_the_zone_is_the_connections(self):
        Deadline(by="06:00").check_at_parse(dag("0 6 * * *"))
