"""What rows would cost, without a task around them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from phonenumbers import COUNTRY_CODE_TO_REGION_CODE

from airflow_provider_omnimessage.api.bulk import Composer
from airflow_provider_omnimessage.api.errors import InvalidInputError
from airflow_provider_omnimessage.api.estimate import Estimate, Prices, unpriced_in_words
from airflow_provider_omnimessage.api.masking import country_code
from airflow_provider_omnimessage.api.messages import sms
from airflow_provider_omnimessage.api.send_times import TimeRules
from airflow_provider_omnimessage.api.windows import SendWindow
from airflow_provider_omnimessage.bulk.estimate import estimate_rows

EVERYWHERE = SendWindow("09:00-20:00", timezone="recipient")
#: Australian mobile numbers may be in any of eight zones, from UTC+7 to UTC+11 in November.
AUSTRALIAN = "+61412345678"


def estimate(rows, *, messages=None, prices=None, on_past="fail", **rules):
    composer = Composer(
        messages=messages or [sms("a")],
        defaults={},
        sender=None,
        rules=TimeRules(**rules),
        now=datetime.now(timezone.utc),
    )
    return estimate_rows(composer, rows, Prices.of(prices) if prices is not None else None, on_past=on_past)


def test_hours_are_in_utc_for_a_number_that_may_be_in_several_zones():
    rows = [{"to": AUSTRALIAN}, {"to": "+37255555555"}]
    found = estimate(rows, time_to_send="2098-11-24T20:30:00+00:00", window=EVERYWHERE)
    assert found["per_hour"] == [
        {"hour": "2098-11-25T02:00", "zone": "UTC (numbers in 8 zones)", "messages": 1},
        {"hour": "2098-11-25T09:00", "zone": "Europe/Bucharest", "messages": 1},
    ]
    assert found["most_parts"][0]["chosen"].startswith("2098-11-25T02:"), "the same hour"


@pytest.mark.parametrize("window", [None, SendWindow("00:00-24:00", timezone="UTC")])
def test_hours_are_in_utc_if_only_the_time_is_in_the_zones_of_the_recipient(window):
    rows = [{"to": AUSTRALIAN}, {"to": "+37255555555"}]
    found = estimate(rows, time_to_send="2098-11-24T09:00", timezone="recipient", window=window)
    assert found["per_hour"] == [
        {"hour": "2098-11-24T02:00", "zone": "UTC (numbers in 8 zones)", "messages": 1},
        {"hour": "2098-11-24T09:00", "zone": "Europe/Bucharest", "messages": 1},
    ]


def test_hours_of_times_with_an_offset_are_in_that_offset():
    rows = [{"to": "+37255555555", "time_to_send": f"2098-11-24T{hour}:30+02:00"} for hour in ("09", "21")]
    zones = [each["zone"] for each in estimate(rows, window=SendWindow("09:00-20:00"))["per_hour"]]
    assert zones == ["UTC+02:00", "UTC+02:00"]


def test_parts_have_one_entry_for_each_row():
    rows = [{"to": "12"}, {"to": "+37255555551"}, {"to": "+37255555552"}, {"to": "13"}, {"to": "14"}]
    assert estimate(rows)["parts"] == [None, 1, 1, None, None]
    assert estimate(rows[3:])["parts"] == [None, None]


def test_problems_are_those_of_the_rows():
    found = estimate([{"to": "12"}, {"to": "+37255555551"}, *[{"to": "13"}] * 24])
    assert [each.partition(",")[0] for each in found["problems"]] == ["row 1", *(f"row {row}" for row in range(3, 22))]
    assert found["rejected"] == 25


def test_rows_in_the_past_are_sent_when_their_window_opens_next():
    now = datetime.now(timezone.utc)
    opens = now + timedelta(hours=2)
    window = SendWindow(f"{opens:%H}:00-{opens:%H}:30", timezone="UTC")
    row = {"to": "+37255555551", "time_to_send": f"2020-01-01T{opens:%H}:10"}
    found = estimate([row], on_past="send_now", window=window)
    assert found["per_hour"] == [{"hour": f"{opens:%Y-%m-%dT%H}:00", "zone": "UTC", "messages": 1}]
    assert found["most_parts"][0]["reason"].startswith("its time has passed; outside the window")


@pytest.mark.parametrize(
    ("on_unknown_zone", "counts"), [("fail", (0, 1, 0)), ("drop", (0, 0, 1)), ("Asia/Tokyo", (1, 0, 0))]
)
def test_on_unknown_zone_decides_whether_a_row_is_sent(on_unknown_zone, counts):
    found = estimate([{"to": "+80012345678"}], window=EVERYWHERE, on_unknown_zone=on_unknown_zone)
    assert (found["recipients"], found["rejected"], found["dropped"]) == counts


def test_a_row_that_is_not_sent_is_not_moved_either():
    row = {"to": "+37255555551", "time_to_send": "2020-01-01T03:00"}
    assert "moved" not in estimate([row], window=SendWindow("09:00-20:00", timezone="UTC"))


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        (["+12025550142"], "1 recipient has no price (+1); add its country prefix to prices"),
        (
            ["+447400123456", "+12025550142", "+447400123457"],
            "3 recipients have no price (+44, +1); add their country prefixes to prices",
        ),
    ],
)
def test_a_budget_names_the_country_codes_that_have_no_price(numbers, words):
    counted = Estimate(Prices({"372": 0.05}))
    for row, to in enumerate(numbers, 1):
        composed = Composer(
            messages=[sms("a")], defaults={}, sender=None, rules=TimeRules(), now=datetime.now(timezone.utc)
        ).compose({"to": to})
        counted.add(row, composed.body, composed.choice)
    with pytest.raises(InvalidInputError) as raised:
        counted.require_within(50)
    assert str(raised.value) == f"budget: {words}"


def test_only_some_country_codes_are_named():
    codes = {f"+{code}": code for code in range(351, 359)}
    assert unpriced_in_words(codes) == "2,836 recipients have no price (+358, +357, +356, +355, +354, …)"


def test_country_codes_are_those_of_the_numbering_plan():
    for code in COUNTRY_CODE_TO_REGION_CODE:
        assert country_code(f"+{code}5555555") == f"+{code}"


def test_autoconvert_is_not_applied():
    text = "õ" * 100
    assert estimate([{"to": "+37255555551"}], messages=[sms(text, autoconvert="full")])["parts"] == [2]
