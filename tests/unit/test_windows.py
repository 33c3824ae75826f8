"""Send windows: how they are written, and the earliest time in them."""

from __future__ import annotations

import copy
import pickle
import sys
from datetime import date, datetime, timedelta, timezone
from functools import cache
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from windows_by_hand import NAMES, is_open_by_hand

from airflow_provider_omnimessage.api.errors import InvalidInputError
from airflow_provider_omnimessage.api.timing import resolve_zone
from airflow_provider_omnimessage.api.windows import SendWindow

UTC = timezone.utc
TALLINN = ZoneInfo("Europe/Tallinn")
NEW_YORK = ZoneInfo("America/New_York")

#: Half-hour offsets, half-hour clock changes, changes at midnight, changes for Ramadan, a day that was left out.
ZONES = (
    "UTC",
    "Europe/Tallinn",
    "America/New_York",
    "America/Los_Angeles",
    "America/Sao_Paulo",
    "America/St_Johns",
    "Africa/Cairo",
    "Africa/Casablanca",
    "Asia/Beirut",
    "Asia/Kathmandu",
    "Asia/Tokyo",
    "Atlantic/Azores",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Pacific/Chatham",
    "Pacific/Kiritimati",
)
ZONES_THAT_CHANGE = (
    "Europe/Tallinn",
    "America/New_York",
    "Africa/Cairo",
    "Africa/Casablanca",
    "Asia/Beirut",
    "Australia/Lord_Howe",
)
#: UTC times shortly before clock changes, and of a day that Samoa left out.
EDGES = (
    "2026-03-29T01:00", "2026-10-25T01:00", "2026-03-08T07:00", "2026-11-01T06:00", "2026-10-03T15:30",
    "2026-04-04T15:00", "2018-11-04T03:00", "2018-02-18T02:00", "2011-12-30T10:00", "2026-02-15T02:00",
    "2026-03-22T02:00", "2026-10-29T21:00", "2026-04-24T00:00", "2026-03-28T22:00",
)  # fmt: skip


def at(text: str, zone: ZoneInfo = TALLINN) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=zone)


def earliest(window: SendWindow, wanted: str, zone: ZoneInfo = TALLINN) -> str:
    return f"{window.earliest(at(wanted, zone), [zone]).astimezone(zone):%Y-%m-%dT%H:%M:%S}"


@pytest.mark.parametrize(
    ("window", "wanted", "chosen"),
    [
        (SendWindow("09:00-20:00"), "2026-11-24T03:00:00", "2026-11-24T09:00:00"),
        (SendWindow("09:00-20:00"), "2026-11-24T09:00:00", "2026-11-24T09:00:00"),
        (SendWindow("09:00-20:00"), "2026-11-24T19:59:59", "2026-11-24T19:59:59"),
        (SendWindow("09:00-20:00"), "2026-11-24T20:00:00", "2026-11-25T09:00:00"),
        (SendWindow("09:00-12:00, 14:00-20:00"), "2026-11-24T12:00:01", "2026-11-24T14:00:00"),
        (SendWindow("09:00-20:00", days="mon-fri"), "2026-11-27T21:00:00", "2026-11-30T09:00:00"),
        (SendWindow("09:00-20:00", holidays="EE"), "2026-12-23T21:00:00", "2026-12-27T09:00:00"),
        (SendWindow("09:00-20:00", holidays=["2026-11-24"]), "2026-11-24T08:00:00", "2026-11-25T09:00:00"),
        (SendWindow("22:00-06:00"), "2026-11-24T05:59:00", "2026-11-24T05:59:00"),
        (SendWindow("22:00-06:00"), "2026-11-24T06:00:00", "2026-11-24T22:00:00"),
        (SendWindow("22:00-06:00", days="fri"), "2026-11-28T05:00:00", "2026-11-28T05:00:00"),
        (SendWindow("22:00-06:00", days="fri"), "2026-11-27T05:00:00", "2026-11-27T22:00:00"),
        (SendWindow("22:00-06:00", holidays=["2026-11-27"]), "2026-11-27T23:00:00", "2026-11-28T22:00:00"),
        (SendWindow("00:00-24:00"), "2026-11-24T03:04:05", "2026-11-24T03:04:05"),
        (SendWindow("03:30-04:30"), "2026-03-29T02:00:00", "2026-03-29T04:00:00"),
        (SendWindow("03:00-04:00"), "2026-03-29T02:00:00", "2026-03-30T03:00:00"),
    ],
)
def test_the_earliest_time_in_a_window(window, wanted, chosen):
    assert earliest(window, wanted) == chosen


def test_a_span_that_a_clock_change_repeats_is_open_both_times():
    window = SendWindow("03:00-03:30")
    first, second = at("2026-10-25T03:10"), at("2026-10-25T03:10").replace(fold=1)
    assert window.earliest(first, [TALLINN]) == first.astimezone(UTC)
    assert window.earliest(second, [TALLINN]) == second.astimezone(UTC)
    between = at("2026-10-25T03:40")
    assert window.earliest(between, [TALLINN]) == at("2026-10-25T03:00").replace(fold=1).astimezone(UTC)


def test_a_window_holds_in_every_zone():
    chosen = SendWindow("09:00-20:00").earliest(at("2026-11-24T09:00"), [TALLINN, NEW_YORK])
    assert chosen == at("2026-11-24T09:00", NEW_YORK)


def test_a_window_that_never_opens_in_all_zones_is_an_error():
    words = (
        "'09:00-10:00' does not open in the 370 days after 2026-11-24 10:00 UTC, in Europe/Tallinn, America/New_York"
    )
    with pytest.raises(InvalidInputError, match=words):
        SendWindow("09:00-10:00").earliest(datetime(2026, 11, 24, 10, tzinfo=UTC), [TALLINN, NEW_YORK])


def test_more_than_a_year_of_holidays_is_not_never():
    tuesdays = [date(2026, 11, 24) + timedelta(7 * week) for week in range(60)]
    assert earliest(SendWindow("02:00-02:30", days="tue", holidays=tuesdays), "2026-11-24T01:00").startswith(
        "2028-01-18"
    )


def test_the_calendar_ends():
    with pytest.raises(InvalidInputError, match="does not open"):
        SendWindow("09:00-10:00").earliest(datetime(9999, 12, 31, 23, tzinfo=UTC), [UTC])


@pytest.mark.parametrize(
    ("value", "field", "words"),
    [
        ("", "window.hours", "is not accepted; use times such as"),
        ("9-20", "window.hours", "'9-20' is not a span; use times such as"),
        ("09:00-09:00", "window.hours", "is empty; for the whole day use 00:00-24:00"),
        ("24:00-09:00", "window.hours", "starts at the end of the day"),
        ("09:00-25:00", "window.hours", "has no such time of day"),
        ("09:60-10:00", "window.hours", "has no such time of day"),
        ("09:00-20:00,", "window.hours", "'09:00-20:00,' is not a span"),
        ("09:00-20:00; days=funday", "window.days", "is not a day of the week"),
        ("09:00-20:00; timezone=Tallinn", "window.timezone", "is not a time zone.* or 'recipient'"),
        ("09:00-20:00; holidays=Estonia", "window.holidays", "is not accepted; use a country such as 'EE'"),
        ("09:00-20:00; holidays=2026-13-01", "window.holidays", "is not a date"),
        ("09:00-20:00; mon-fri", "window", "'mon-fri' is not a setting"),
        ("09:00-20:00; zone=UTC", "window", "has no field 'zone'; the fields are hours, days, timezone, holidays"),
        ("09:00-20:00; =mon", "window", "'=mon' is not a setting"),
        ("{'hours'", "window", "is not valid JSON"),
        ({"days": "mon"}, "window", "has no hours"),
        (7, "window", "7 is not a window"),
    ],
)
def test_what_is_not_a_window_is_rejected_by_field(value, field, words):
    with pytest.raises(InvalidInputError, match=f"{field}: .*{words}"):
        SendWindow.of(value)


@pytest.mark.parametrize(("code", "words"), [("ZZ", "has no holidays"), ("US-QQ", "has no holidays")])
def test_an_unknown_country_is_rejected_when_it_is_needed(code, words):
    with pytest.raises(InvalidInputError, match=words):
        SendWindow("09:00-20:00", holidays=code).earliest(at("2026-11-24T03:00"), [TALLINN])


def test_without_the_extra_the_error_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "holidays", None)
    with pytest.raises(InvalidInputError, match=r"pip install '.\[holidays\]'"):
        SendWindow("09:00-20:00", holidays="FR-57").earliest(at("2026-11-24T03:00"), [TALLINN])


def test_templates_are_checked_once_they_are_rendered():
    window = SendWindow("{{ params.hours }}", days="{{ params.days }}", holidays=["{{ ds }}"], timezone="{{ zone }}")
    assert window.as_dict()["hours"] == "{{ params.hours }}"
    assert SendWindow.of({"hours": "09:00-20:00", "days": "None", "timezone": ""}) == SendWindow("09:00-20:00")


def test_a_window_can_be_copied_pickled_and_compared():
    window = SendWindow("09:00-20:00", days=["mon", "tue"], holidays=[date(2026, 12, 24)])
    window.earliest(at("2026-11-24T03:00"), [TALLINN])
    assert pickle.loads(pickle.dumps(window)) == copy.deepcopy(window) == window
    assert hash(window) == hash(SendWindow.of(window.as_dict()))


@cache
def changes_of(zone) -> tuple[datetime, ...]:
    """The minutes of 2026 from which a zone has another offset."""
    times = [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=30 * step) for step in range(365 * 48)]
    offsets = [time.astimezone(zone).utcoffset() for time in times]
    return tuple(times[step] for step in range(1, len(times)) if offsets[step] != offsets[step - 1])


def clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


any_minute = st.integers(0, 24 * 60 - 1)
near_edges = st.builds(
    lambda edge, minutes: datetime.fromisoformat(edge).replace(tzinfo=UTC) + timedelta(minutes=minutes),
    st.sampled_from(EDGES),
    st.integers(-12, 12).map(lambda quarter: quarter * 15) | st.integers(-3000, 3000),
)
any_time = st.datetimes(datetime(2015, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))


@st.composite
def wishes(draw):
    """A window, the zones of a recipient, and a wanted time: often all close to a clock change or a holiday."""
    zones = draw(
        st.lists(st.sampled_from(ZONES), min_size=1, max_size=3).map(lambda names: [*map(resolve_zone, names)])
    )
    wanted = draw(near_edges | any_time).replace(microsecond=0)
    local = wanted.astimezone(zones[0])
    close = st.integers(-8, 8).map(lambda quarter: (local.hour * 60 + local.minute + quarter * 15) % (24 * 60))
    spans = draw(st.lists(st.tuples(close | any_minute, close | any_minute), min_size=1, max_size=3))
    hours = [f"{clock(start)}-{clock(end)}" for start, end in spans if start != end] or ["00:00-24:00"]
    days = draw(st.none() | st.lists(st.sampled_from(NAMES), min_size=1))
    dates = st.lists(st.integers(-1, 2).map(lambda days: local.date() + timedelta(days)), min_size=1, max_size=3)
    holidays = draw(st.none() | st.just("EE") | dates)
    return SendWindow(", ".join(hours), days=days, holidays=holidays), zones, wanted


@st.composite
def wishes_at_a_clock_change(draw):
    """The same, with a span that begins in the time that a clock change leaves out or repeats."""
    zone = resolve_zone(draw(st.sampled_from(ZONES_THAT_CHANGE)))
    change = draw(st.sampled_from(changes_of(zone)))
    before, after = ((change + timedelta(minutes=each)).astimezone(zone) for each in (-1, 0))
    first = (
        (after.hour * 60 + after.minute)
        if after.utcoffset() < before.utcoffset()
        else before.hour * 60 + before.minute + 1
    )
    start = (first + draw(st.integers(0, 3)) * 15) % (24 * 60)
    hours = f"{clock(start)}-{clock((start + draw(st.integers(1, 6)) * 15) % (24 * 60))}"
    return SendWindow(hours), [zone], change + timedelta(minutes=draw(st.integers(-8, 4)) * 15)


@settings(max_examples=2 * settings.default.max_examples)
@given(wishes() | wishes_at_a_clock_change())
@example((SendWindow("22:00-06:00"), [UTC], datetime(2026, 11, 24, 5, tzinfo=UTC)))
@example((SendWindow("03:30-04:30"), [TALLINN], datetime(2026, 3, 29, 0, 30, tzinfo=UTC)))
@example((SendWindow("03:00-03:30"), [TALLINN], datetime(2026, 10, 25, 0, 40, tzinfo=UTC)))
@example((SendWindow("09:00-10:00", holidays=[date(2026, 11, 24)]), [UTC], datetime(2026, 11, 24, 8, tzinfo=UTC)))
@example((SendWindow("09:00-12:00, 14:00-20:00"), [UTC], datetime(2026, 11, 24, 13, tzinfo=UTC)))
def test_the_chosen_time_is_the_first_one_that_lies_in_the_window_in_every_zone(wish):
    window, zones, wanted = wish
    try:
        chosen = window.earliest(wanted, zones)
    except InvalidInputError:
        # not even once in a fortnight
        assert not any(is_open_by_hand(window, each, zones) for each in every(wanted, wanted + timedelta(14), 30))
        return
    assert is_open_by_hand(window, chosen, zones)
    assert chosen >= wanted
    assert window.earliest(chosen, zones) == chosen
    assert chosen == wanted or chosen.second == 0
    shortly_before = max(wanted, chosen - timedelta(hours=3))
    assert not any(is_open_by_hand(window, each, zones) for each in every(wanted, shortly_before, 15))
    assert not any(is_open_by_hand(window, each, zones) for each in every(shortly_before, chosen, 1))


def every(begin: datetime, end: datetime, step: int):
    """Every so many whole minutes of a range, its end excluded; and its begin."""
    if begin < end:
        yield begin
    time = begin.replace(second=0) + timedelta(minutes=1)
    while time < end:
        yield time
        time += timedelta(minutes=step)
