"""Which time a message gets, by the rules of its task and by what its row says itself."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pendulum
import pytest

from airflow_provider_omnimessage.api import number_zones, timing
from airflow_provider_omnimessage.api.errors import InvalidInputError, UnknownZoneError
from airflow_provider_omnimessage.api.send_times import TimeChooser, TimeRules
from airflow_provider_omnimessage.api.windows import SendWindow

NOW = datetime(2026, 11, 24, 1, 0, tzinfo=timezone.utc)
TALLINN, TOKYO, NEW_YORK, BRITISH = "+37255555555", "+819012345678", "+12125550142", "+447911123456"
WITHOUT_COUNTRY = "+80012345678"


def chooser(**rules):
    return TimeChooser(TimeRules(**rules), now=NOW)


def hours(choices):
    return [choice.chosen.utc.hour for choice in choices]


@pytest.mark.parametrize("rules", [{"timezone": "recipient"}, {"timezone": "Europe/Tallinn"}, {}])
@pytest.mark.parametrize("in_rules", [True, False])
def test_each_row_whose_own_zone_is_recipient_has_the_zone_of_its_number(rules, in_rules):
    times = chooser(**rules, time_to_send="2027-01-08T09:00" if in_rules else None)
    own_time = None if in_rules else "2027-01-08T09:00"
    numbers = (TALLINN, TOKYO, NEW_YORK, TALLINN)
    assert hours(times.choose(to, own_time, "recipient") for to in numbers) == [7, 0, 14, 7]


def test_each_row_whose_own_zone_is_recipient_has_the_window_of_its_number():
    times = chooser(window=SendWindow("09:00-20:00"))
    assert hours(times.choose(to, None, "recipient") for to in (TALLINN, NEW_YORK)) == [7, 14]
    assert times.choose(TOKYO, None, "recipient").chosen is None


@pytest.mark.parametrize("text", ["None", ""])
@pytest.mark.parametrize("zone", ["recipient", "Europe/Tallinn"])
def test_a_text_without_a_time_is_rejected_and_does_not_mean_now(text, zone):
    with pytest.raises(InvalidInputError, match=r"time_to_send: .* is not a time"):
        chooser(timezone=zone, time_to_send=text).choose(TALLINN)


@pytest.mark.parametrize(
    "time", [timedelta(hours=2), "2027-01-08T21:00+02:00", datetime(2027, 1, 8, tzinfo=timezone.utc)]
)
@pytest.mark.parametrize("in_rules", [True, False])
def test_an_unknown_zone_is_no_error_where_it_does_not_matter(time, in_rules):
    times = chooser(timezone="recipient", time_to_send=time if in_rules else None)
    assert times.choose(WITHOUT_COUNTRY, None if in_rules else time).chosen is not None


@pytest.mark.parametrize(
    "rules",
    [
        {"time_to_send": "2027-01-08T21:00", "timezone": "recipient"},
        {"time_to_send": "2027-01-08T21:00Z", "timezone": "recipient", "window": SendWindow("09:00-20:00")},
        {"time_to_send": "2027-01-08T21:00Z", "window": SendWindow("09:00-20:00", timezone="recipient")},
    ],
)
def test_an_unknown_zone_is_an_error_where_it_matters(rules):
    with pytest.raises(UnknownZoneError):
        chooser(**rules).choose(WITHOUT_COUNTRY)


def test_a_time_that_is_the_same_in_all_zones_of_a_number_is_not_another_time():
    times = chooser(timezone="recipient", time_to_send="2027-01-08T09:00")
    assert len(number_zones.zones_of_number(BRITISH)) > 1
    assert times.choose(BRITISH).reason == ""
    assert times.choose("+61412345678").reason == "the latest of 8 time zones of the recipient"


def test_a_window_that_never_opens_is_searched_once_for_all_numbers_of_the_same_zones(monkeypatch):
    searched = []
    earliest = SendWindow.earliest
    monkeypatch.setattr(SendWindow, "earliest", lambda *args: searched.append(1) or earliest(*args))
    times = chooser(window=SendWindow("09:00-10:00", timezone="recipient"))
    for number in range(20):
        with pytest.raises(InvalidInputError, match="does not open in the"):
            times.choose(f"+614123456{number:02}")
    assert len(searched) == 1


def test_what_is_wrong_for_every_recipient_is_an_error_of_the_rules(monkeypatch):
    with pytest.raises(InvalidInputError, match=r"window\.holidays"):
        chooser(window=SendWindow("09:00-20:00", holidays="XX"))
    monkeypatch.setattr(number_zones, "is_installed", lambda: False)
    with pytest.raises(InvalidInputError, match="needs the package phonenumbers"):
        chooser(timezone="recipient", time_to_send="2027-01-08T09:00")


PACIFIC = datetime(2027, 1, 8, 13, tzinfo=timezone(timedelta(hours=-8)))


@pytest.mark.parametrize(
    ("time", "rules", "hour"),
    [
        (PACIFIC, {}, 21),
        (PACIFIC.isoformat(), {}, 21),
        (pendulum.datetime(2027, 1, 8, 13, tz="America/Los_Angeles"), {}, 21),
        (PACIFIC, {"timezone": "UTC"}, 9),
        (PACIFIC, {"timezone": "Asia/Tokyo"}, 0),
        (PACIFIC, {"window": SendWindow("09:00-20:00", timezone="Asia/Tokyo")}, 0),
    ],
)
@pytest.mark.parametrize("in_rules", [True, False])
def test_a_window_without_a_zone_is_in_that_of_the_time_unless_a_zone_is_set(time, rules, hour, in_rules):
    rules = {"window": SendWindow("09:00-20:00"), **rules, "time_to_send": time if in_rules else None}
    assert chooser(**rules).choose(TALLINN, None if in_rules else time).chosen.utc.hour == hour


def test_a_late_message_waits_for_the_window_in_the_zone_of_its_time():
    times = chooser(window=SendWindow("09:00-20:00"), time_to_send=datetime.fromisoformat("2026-11-23T10:00-08:00"))
    assert times.send_now(times.choose(TALLINN), NOW).chosen is None, "17:00 there"
    night = times.send_now(times.choose(TALLINN), NOW + timedelta(hours=4))
    assert night.chosen.utc == datetime(2026, 11, 24, 17, tzinfo=timezone.utc)
    assert night.reason == "its time has passed; outside the window '09:00-20:00' (UTC-08:00)"


def test_times_with_equal_offsets_have_the_same_zone():
    zones = {timing.zone_of(timing.resolve(f"2027-01-08T{hour:02}:00+02:00", now=NOW)) for hour in range(24)}
    assert len(zones) == 1
