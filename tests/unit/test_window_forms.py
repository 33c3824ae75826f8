"""A window takes its parameters in every form in which people and templates write them, and keeps them plain."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import holidays as library
import pendulum
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_omnimessage.api.errors import InvalidInputError
from airflow_provider_omnimessage.api.messages import sms
from airflow_provider_omnimessage.api.timing import resolve_zone
from airflow_provider_omnimessage.api.weekdays import parse_weekdays
from airflow_provider_omnimessage.api.windows import SendWindow
from airflow_provider_omnimessage.operators.omnimessage import SendOmnimessageOperator

HOURS = "09:00-20:00"
TROUBLESHOOTING = Path(__file__).parent.parent.parent / "docs" / "troubleshooting.md"
#: How a list reaches a window: written in a DAG, from a task, or rendered by a template.
LISTS: dict[str, Callable[[list[Any]], Any]] = {
    "list": list,
    "tuple": tuple,
    "generator": lambda values: (value for value in values),
    "JSON": json.dumps,
    "what a template renders": str,
    "names with commas": ",".join,
    "names with commas and spaces": ", ".join,
}


@pytest.fixture(params=LISTS, ids=lambda form: form.replace(" ", "-"))
def listed(request) -> Callable[[list[Any]], Any]:
    return LISTS[request.param]


class TestLists:
    @pytest.mark.parametrize("days", [["mon"], ["mon", "tue"], ["mon-wed", "sat"]])
    def test_days(self, listed, days):
        expected = parse_weekdays(",".join(days))
        window = SendWindow(HOURS, days=listed(days))
        assert parse_weekdays(window.days) == expected
        assert parse_weekdays(listed(days)) == expected, "as for deadlines, which have days, too"
        assert f"days={','.join(days)}" in str(window).replace(", ", ",")

    @pytest.mark.parametrize("days", [["2026-11-30"], ["2026-11-30", "2026-12-24"]])
    def test_holidays(self, listed, days):
        window = SendWindow(HOURS, holidays=listed(days))
        assert window.holidays == tuple(map(date.fromisoformat, days))
        assert str(window) == f"{HOURS}; holidays={','.join(days)}"

    def test_the_text_form(self, listed):
        days, dates = listed(["mon", "tue"]), listed(["2026-11-30", "2026-12-24"])
        if isinstance(days, str):
            window = SendWindow.of(f"{HOURS}; days={days}; holidays={dates}")
            assert str(window).replace(", ", ",") == f"{HOURS}; days=mon,tue; holidays=2026-11-30,2026-12-24"

    @pytest.mark.parametrize("empty", [[], (), "[]", "()"])
    def test_no_holidays(self, empty):
        assert SendWindow(HOURS, holidays=empty) == SendWindow(HOURS)

    def test_a_calendar_that_is_filled_when_it_is_asked_is_not_taken_for_no_holidays(self):
        with pytest.raises(InvalidInputError, match=r"window\.holidays: .* is not accepted; use a country such as"):
            SendWindow(HOURS, holidays=library.country_holidays("EE"))

    def test_an_invalid_entry_beside_a_template_is_seen_while_the_dag_is_parsed(self):
        with pytest.raises(InvalidInputError, match=r"'24\.12' is not a date"):
            SendWindow(HOURS, holidays=["{{ ds }}", "24.12"])


@pytest.mark.parametrize(
    "day",
    [
        date(2026, 12, 24),
        datetime(2026, 12, 24, 23, 59),
        datetime(2026, 12, 24, 1, tzinfo=timezone.utc),
        pendulum.date(2026, 12, 24),
        pendulum.datetime(2026, 12, 24),
        pendulum.datetime(2026, 12, 24, 1, tz="Europe/Tallinn"),
        "2026-12-24",
        str(datetime(2026, 12, 24, tzinfo=timezone.utc)),
        str(pendulum.datetime(2026, 12, 24)),
        pendulum.datetime(2026, 12, 24).isoformat(),
    ],
    ids=repr,
)
@pytest.mark.parametrize("form", [lambda day: day, lambda day: [day], lambda day: (day, "{{ ds }}")])
def test_a_holiday_is_a_date_at_once(day, form):
    window = SendWindow(HOURS, holidays=form(day))
    assert window.as_dict()["holidays"][0] == "2026-12-24"
    assert type(window.holidays[0]) is date


@pytest.mark.parametrize(
    ("zone", "name"),
    [
        (ZoneInfo("Europe/Tallinn"), "Europe/Tallinn"),
        (pendulum.timezone("Europe/Tallinn"), "Europe/Tallinn"),
        (pendulum.UTC, "UTC"),
        (timezone.utc, "UTC"),
        (pendulum.datetime(2026, 1, 1, tz="Asia/Tokyo").tzinfo, "Asia/Tokyo"),
    ],
    ids=repr,
)
def test_a_zone_object_becomes_its_name(zone, name):
    window = SendWindow(HOURS, timezone=zone)
    assert window == SendWindow(HOURS, timezone=name)
    assert str(window) == f"{HOURS}; timezone={name}"
    operator = SendOmnimessageOperator(task_id="t", to="+37255555555", messages=[sms("a")], window=window)
    assert operator.window == {"hours": HOURS, "timezone": name}
    assert SendWindow.of({"hours": HOURS, "timezone": zone}) == window


@pytest.mark.parametrize(
    "zone",
    [
        timezone(timedelta(hours=2)),
        timezone(timedelta(hours=2), "EET"),  # the zone EET changes its clock in summer, and this does not
        pendulum.timezone(7200),
        5,
        ["UTC"],
    ],
    ids=repr,
)
def test_what_has_no_iana_name_is_rejected(zone):
    with pytest.raises(InvalidInputError, match=r"^window\.timezone: .* 'Europe/Tallinn', or 'recipient'$"):
        SendWindow(HOURS, timezone=zone)


NAMES = ["EET", "CET", "EST", "EEST", "MSK", "GMT", "GMT+2", "Etc/GMT+2", "+02:00", "UTC", "utc", "Tallinn", "Z"]


@pytest.mark.parametrize("name", NAMES)
def test_a_window_accepts_the_zones_that_every_other_parameter_accepts(name):
    def accepts(read: Callable[[], object]) -> bool:
        try:
            read()
        except InvalidInputError:
            return False
        return True

    assert accepts(lambda: SendWindow(HOURS, timezone=name)) == accepts(lambda: resolve_zone(name))


def test_troubleshooting_names_the_right_abbreviations():
    row = next(line for line in TROUBLESHOOTING.read_text().splitlines() if line.startswith("| `… is not a time zone;"))
    rejected, _, accepted = row.split(" | ")[1].partition(" are not accepted. ")
    accepted, _, _ = accepted.partition(" are, ")
    for name in re.findall("`(.+?)`", accepted):
        resolve_zone(name)
    for name in re.findall("`(.+?)`", rejected):
        with pytest.raises(InvalidInputError):
            resolve_zone(name)
    assert "`EET`" in accepted


class TestText:
    FIELDS = {"hours": HOURS, "days": ["mon", "tue"], "timezone": "UTC", "holidays": ["2026-12-24"]}

    @pytest.mark.parametrize("fields", [FIELDS, {"hours": HOURS}, {"hours": HOURS, "days": None}])
    @pytest.mark.parametrize("form", [str, json.dumps, lambda fields: f"\n {fields}\n"])
    def test_a_dict_as_json_or_as_a_template_renders_it(self, fields, form):
        assert SendWindow.of(form(fields)) == SendWindow(**fields)

    @pytest.mark.parametrize("text", ["{'hours'", "{", '{"hours": "09:00-20:00"', "{'hours': date(2026, 1, 1)}"])
    def test_the_advice_for_any_other_dict_works(self, text):
        with pytest.raises(InvalidInputError, match="is not valid JSON; write it as ") as caught:
            SendWindow.of(text)
        advice = str(caught.value).partition("write it as ")[2]
        assert SendWindow.of(json.loads(advice)) == SendWindow.of(advice) == SendWindow(HOURS)

    @pytest.mark.parametrize("text", ["[1]", "['09:00-20:00']", "[]", "(1, 2)"])
    def test_a_list_is_not_a_window(self, text):
        with pytest.raises(InvalidInputError, match=r"window: a list is not a window; use times such as"):
            SendWindow.of(text)

    @pytest.mark.parametrize("end", [";", "; ", ";;", " ; ; "])
    @pytest.mark.parametrize("text", [HOURS, f"{HOURS}; days=mon-fri", f"{HOURS};; days=mon-fri; timezone=UTC"])
    def test_an_empty_setting_is_harmless(self, text, end):
        assert SendWindow.of(text + end) == SendWindow.of(text.replace(";;", ";"))

    @pytest.mark.parametrize(
        ("name", "values"),
        [
            ("hours", (HOURS, "10:00-11:00")),
            ("days", ("mon", "tue")),
            ("days", ("mon", "mon")),
            ("days", ("", "tue")),
            ("timezone", ("UTC", "recipient")),
            ("holidays", ("EE", "FI")),
        ],
    )
    def test_a_setting_that_is_set_twice_is_rejected_by_name(self, name, values):
        with pytest.raises(InvalidInputError, match=f"^window.{name}: is set twice; leave one of them out$"):
            SendWindow.of("; ".join([HOURS, *(f"{name}={value}" for value in values)]))

    @pytest.mark.parametrize(
        ("days", "shown"),
        [
            (["mon", 5], "5"),
            (["mon", None], "None"),
            (["mon", ["tue"]], "['tue']"),
            ("['mon', 5]", "5"),
            (["mon", "funday"], "'funday'"),
            ("mon, funday", "'funday'"),
            ("mon,", "'mon,'"),
            ("mon,,fri", "'mon,,fri'"),
            ("{'mon': 1}", "\"{'mon': 1}\""),
        ],
    )
    def test_the_error_shows_the_day_that_is_wrong(self, days, shown):
        with pytest.raises(InvalidInputError) as caught:
            SendWindow(HOURS, days=days)
        assert str(caught.value).startswith(f"window.days: {shown} is not a day of the week")

    @pytest.mark.parametrize(
        ("holidays", "shown"),
        [(["2026-12-24", 5], "'5'"), ("2026-12-24,", "'2026-12-24,'"), ("['2026-13-01']", "'2026-13-01'")],
    )
    def test_the_error_shows_the_date_that_is_wrong(self, holidays, shown):
        with pytest.raises(InvalidInputError, match=re.escape(f"window.holidays: {shown} is not a date")):
            SendWindow(HOURS, holidays=holidays)


@pytest.mark.parametrize("days", [[], (), "[]", iter([])])
def test_no_days_are_not_every_day(days):
    with pytest.raises(InvalidInputError, match="is empty; leave it out for every day"):
        SendWindow(HOURS, days=days)
    with pytest.raises(InvalidInputError, match="is empty; leave it out for every day"):
        parse_weekdays(days)


names = st.sampled_from(["mon", "Tue", "wednesday", "fri-mon", "sat - sun"])
name_lists = st.lists(names, min_size=1, max_size=3)
zones = st.sampled_from(["Europe/Tallinn", "EET", "UTC", "America/New_York"])
times = st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1))
any_day = (
    st.dates(date(2020, 1, 1), date(2035, 1, 1))
    | times
    | times.map(lambda time: pendulum.instance(time, tz="Europe/Tallinn"))
    | times.map(lambda time: str(time.date()))
    | times.map(str)
)
day_lists = st.lists(any_day, max_size=3)
text_lists = st.lists(times.map(lambda time: str(time.date())), max_size=3)
windows = st.builds(
    SendWindow,
    hours=st.sampled_from([HOURS, "22:00-06:00", " 9:00 - 12:00, 14:00–20:00 ", "00:00-24:00"]),
    days=st.none() | names | name_lists | name_lists.map(set) | name_lists.map(str) | name_lists.map(",".join),
    timezone=st.none() | st.just("recipient") | zones | zones.map(ZoneInfo) | zones.map(pendulum.timezone),
    holidays=st.none()
    | st.sampled_from(["EE", "US-CA"])
    | any_day
    | day_lists
    | day_lists.map(tuple)
    | text_lists.map(str)
    | text_lists.map(json.dumps),
)


@given(windows)
def test_a_window_survives_every_form_in_which_it_is_kept(window):
    plain = window.as_dict()
    for kept in (plain, json.loads(json.dumps(plain)), json.dumps(plain), str(plain)):
        assert SendWindow.of(kept) == window
        assert hash(SendWindow.of(kept)) == hash(window)
    as_text = SendWindow.of(str(window))
    assert str(as_text) == str(window)
    assert (as_text.timezone, as_text.holidays) == (window.timezone, window.holidays)
    assert parse_weekdays(as_text.days) == parse_weekdays(window.days)


def test_a_set_is_the_same_list_in_each_process():
    dates = [date(2026, 12, day) for day in range(1, 32)]
    days = ["fri", "mon", "sat", "sun", "thu", "tue", "wed"]
    window = SendWindow(HOURS, days=set(days), holidays=set(dates))
    assert window.as_dict()["days"] == days
    assert window.as_dict()["holidays"] == [day.isoformat() for day in dates]
