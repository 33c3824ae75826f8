"""Every accepted form of a time becomes one time in UTC; everything else is rejected by name."""

from __future__ import annotations

import zoneinfo
from datetime import date, datetime, time, timedelta, timezone

import pendulum
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from airflow_provider_omnimessage.api.errors import InvalidInputError
from airflow_provider_omnimessage.api.timing import as_time_to_send, resolve, resolve_zone

UTC = timezone.utc
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
TALLINN = zoneinfo.ZoneInfo("Europe/Tallinn")

ZONES = st.sampled_from(sorted(zoneinfo.available_timezones() - {"localtime", "Factory"}))
SECONDS = st.datetimes(datetime(1975, 1, 1), datetime(2080, 1, 1)).map(lambda moment: moment.replace(microsecond=0))


def when(value, zone=None) -> datetime:
    return resolve(value, zone=zone, now=NOW).utc


class TestEveryFormOfOneTime:
    @given(moment=SECONDS, zone=ZONES)
    @example(moment=datetime(2026, 3, 29, 1, 0), zone="Europe/Tallinn")
    @example(moment=datetime(2026, 10, 25, 0, 30), zone="Europe/Tallinn")
    @example(moment=datetime(2026, 10, 25, 1, 30), zone="Europe/Tallinn")
    @example(moment=datetime(2011, 12, 30, 10, 0), zone="Pacific/Apia")
    @example(moment=datetime(2026, 4, 4, 15, 15), zone="Australia/Lord_Howe")
    def test_is_the_same_time(self, moment, zone):
        utc = moment.replace(tzinfo=UTC)
        local = utc.astimezone(zoneinfo.ZoneInfo(zone))
        assume(local.utcoffset().total_seconds() % 60 == 0)  # ISO 8601 has no offsets with seconds
        shown_by_pendulum = pendulum.instance(utc).in_tz(zone)
        ways = [
            utc,
            local,
            local.isoformat(),
            str(local),
            f"  {local.isoformat()}\n",
            shown_by_pendulum,
            str(shown_by_pendulum),
            shown_by_pendulum.isoformat(),
            utc.isoformat().replace("+00:00", "Z"),
            utc.replace(tzinfo=None).isoformat(),  # naive is UTC
            utc.replace(tzinfo=None),
            utc - NOW,
        ]
        assert {when(way) for way in ways} == {utc}

    @given(moment=SECONDS, zone=ZONES)
    def test_an_offset_in_the_value_wins_over_the_zone(self, moment, zone):
        utc = moment.replace(tzinfo=UTC)
        assert when(utc.isoformat(), zone) == when(utc, zone) == utc

    @given(local=SECONDS, zone=ZONES)
    @example(local=datetime(2026, 3, 29, 3, 30), zone="Europe/Tallinn")
    @example(local=datetime(2026, 10, 25, 3, 30), zone="Europe/Tallinn")
    @example(local=datetime(2011, 12, 30, 9, 0), zone="Pacific/Apia")
    def test_a_naive_value_means_the_local_time_of_the_zone(self, local, zone):
        there = zoneinfo.ZoneInfo(zone)
        moment = resolve(local, zone=zone, now=NOW)
        exists = local.replace(tzinfo=there, fold=0).astimezone(UTC).astimezone(there).replace(tzinfo=None) == local
        if exists:
            assert moment.utc.astimezone(there).replace(tzinfo=None, fold=0) == local
            twin = local.replace(tzinfo=there, fold=1).astimezone(UTC)
            assert moment.utc <= twin  # of a repeated time, the earlier
            assert (moment.warning is None) == (moment.utc == twin)
        else:
            assert moment.utc.astimezone(there).replace(tzinfo=None) > local  # moved forward
            assert "does not exist" in moment.warning
        assert resolve(local.isoformat(), zone=zone, now=NOW) == moment
        assert resolve(pendulum.naive(*local.timetuple()[:6]), zone=zone, now=NOW) == moment

    @given(moment=SECONDS)
    def test_what_is_sent_is_utc_with_an_explicit_offset_and_says_the_same(self, moment):
        utc = moment.replace(tzinfo=UTC)
        sent = as_time_to_send(utc.astimezone(TALLINN))
        assert sent.endswith("+00:00")
        assert when(sent) == utc


class TestClockChanges:
    def test_a_skipped_time_moves_forward_with_a_warning(self):
        moment = resolve("2026-03-29T03:30", zone="Europe/Tallinn", now=NOW)
        assert moment.utc == datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
        assert moment.warning == (
            "time_to_send: 2026-03-29 03:30 does not exist in Europe/Tallinn, where the clock is put forward; "
            "the message is sent at 04:30 there"
        )

    def test_a_repeated_time_means_the_earlier(self):
        moment = resolve("2026-10-25T03:30", zone="Europe/Tallinn", now=NOW)
        assert moment.utc == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
        assert "the earlier of the two" in moment.warning

    def test_a_datetime_that_names_the_later_of_two_keeps_it(self):
        later = datetime(2026, 10, 25, 3, 30, tzinfo=TALLINN, fold=1)
        assert when(later) == datetime(2026, 10, 25, 1, 30, tzinfo=UTC)

    def test_a_skipped_time_is_noticed_in_an_aware_datetime_too(self):
        moment = resolve(datetime(2026, 3, 29, 3, 30, tzinfo=TALLINN), now=NOW)
        assert "does not exist" in moment.warning

    def test_a_skipped_time_moves_forward_whatever_its_fold(self):
        moment = resolve(datetime(2026, 3, 29, 3, 30, tzinfo=TALLINN, fold=1), now=NOW)
        assert moment.utc == datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
        assert "does not exist" in moment.warning

    def test_nine_in_the_morning_is_another_utc_time_on_either_side(self):
        hours = [when(f"2026-03-{day}T09:00", "Europe/Tallinn").hour for day in (28, 29, 30)]
        assert hours == [7, 6, 6]


class TestFromNow:
    def test_a_timedelta_counts_from_now(self):
        assert when(timedelta(minutes=30)) == NOW + timedelta(minutes=30)

    def test_a_timedelta_is_real_time_across_a_clock_change(self):
        before = datetime(2026, 3, 29, 0, 30, tzinfo=UTC)
        moment = resolve(timedelta(hours=1), zone="Europe/Tallinn", now=before)
        assert moment.utc == before + timedelta(hours=1)

    def test_a_pendulum_duration_of_a_month_is_a_month_of_the_calendar(self):
        assert when(pendulum.duration(months=1)) == datetime(2026, 12, 23, 12, 0, tzinfo=UTC)

    def test_a_fraction_of_a_second_is_rounded_up_so_that_nothing_is_early(self):
        assert when(timedelta(milliseconds=1)) == NOW + timedelta(seconds=1)


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (date(2026, 11, 23), "a date without a time"),
        ("2026-11-23", "a date without a time"),
        ("2026-11", "a date without a time"),
        (time(9, 0), "a time without a date"),
        ("09:00", "a time without a date"),
        ("P1D", "a duration"),
        ("PT30M", "a duration"),
        ("2026-11-23T09:00/PT1H", "a duration"),
        (1763888400, "a number"),
        (1763888400.5, "a number"),
        (True, "a number"),
        ("1763888400", "not ISO 8601"),
        (None, "nothing"),
        ("None", "not a time"),
        ("now", "not a time"),
        ("", "not a time"),
        ("tomorrow at nine", "not ISO 8601"),
        ("0:30:00", "ISO 8601"),
        ("2026-11-23T25:00", "not ISO 8601"),
        ("2026-02-30T09:00", "not ISO 8601"),
        ("{{ data_interval_end }}", "not ISO 8601"),
        (["2026-11-23T09:00"], "a list"),
        (datetime.max, "outside the calendar"),
        (timedelta.max, "outside the calendar"),
    ],
)
def test_what_is_not_a_time_is_rejected_by_name(value, named):
    with pytest.raises(InvalidInputError) as caught:
        resolve(value, zone="America/New_York", now=NOW)
    said = str(caught.value)
    assert said.startswith("time_to_send: ")
    assert named in said
    assert "ISO 8601" in said


@given(
    st.one_of(
        st.text(), st.floats(), st.integers(), st.dates(), st.times(), st.timedeltas(), st.datetimes(), st.binary()
    )
)
def test_any_value_is_a_time_or_is_rejected(value):
    try:
        moment = resolve(value, zone="Europe/Tallinn", now=NOW)
    except InvalidInputError as error:
        assert str(error).startswith("time_to_send: ")  # noqa: PT017
    else:
        assert moment.utc.utcoffset() == timedelta(0)


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "Europe", "../etc/passwd", "+02:00", "\0", "EEST"])
def test_a_zone_that_does_not_exist_is_rejected_by_name(zone):
    with pytest.raises(InvalidInputError, match=r"^timezone: .*IANA name"):
        resolve_zone(zone)


def test_a_time_is_shown_in_its_own_zone_and_in_utc():
    shown = str(resolve("2026-11-24T09:00", zone="Europe/Tallinn", now=NOW))
    assert shown == "2026-11-24 09:00:00 Europe/Tallinn (2026-11-24 07:00:00 UTC)"
    assert str(resolve("2026-11-24T09:00", now=NOW)) == "2026-11-24 09:00:00 UTC"
