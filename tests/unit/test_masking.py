"""No error and no log line shows a whole phone number, however it is written."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_omnimessage.api.errors import InvalidInputError, OmnimessageError
from airflow_provider_omnimessage.api.masking import mask_number, mask_numbers

DIGITS = st.text("0123456789", min_size=9, max_size=15)
SEPARATORS = st.sampled_from(["", "", "", " ", "-", ".", "/", " (", ") ", ")", "\u00a0", "\u2011", " - ", "\u200b"])
BEFORE = st.sampled_from(["", "call ", "to: ", "(", "[", "'", '{"to": "', "tel:", "a,", "2026-11-23 ", "10.0.0.1 "])
AFTER = st.sampled_from(["", " now", ".", ", and", ")", "]", "'", '"}', "!", " 2026-11-23 09:00", " (2 h ago)"])


@st.composite
def written_numbers(draw: st.DrawFn) -> str:
    """A phone number as people write them."""
    digits = draw(DIGITS)
    first, *others = digits
    written = draw(st.sampled_from(["", "+", "+", "(", "+(", "+ "])) + first
    return written + "".join(draw(SEPARATORS) + digit for digit in others)


def only_digits(text: str) -> str:
    return "".join(filter(str.isdigit, text))


@given(number=written_numbers(), before=BEFORE, after=AFTER)
def test_a_number_in_a_text_is_masked_however_it_is_written(number, before, after):
    masked = mask_numbers(f"{before}{number}{after}")
    if mask_numbers(number) == number:
        # what reads as a date or begins as an IP address is not taken for a number
        assert number[:2] in ("19", "20") or re.match(r"(\d{1,3}\.){3}\d", number)
        return
    assert only_digits(number) not in only_digits(masked)
    assert "•••" in masked


@given(number=written_numbers())
def test_no_error_shows_a_whole_number(number):
    for error in (OmnimessageError(f"to {number}: no"), InvalidInputError.of("to", f"'{number}' is wrong")):
        assert only_digits(number) not in only_digits(str(error)) or mask_numbers(number) == number


@given(number=written_numbers())
def test_at_least_four_digits_of_a_number_stay_hidden(number):
    assert len(only_digits(mask_number(number))) <= len(only_digits(number)) - 4


@pytest.mark.parametrize("plus", ["", "+", "%2B", "%2b"])
def test_a_number_in_a_url_is_masked(plus):
    masked = mask_numbers(f"dlr_url: https://example.com/report?to={plus}37255555555&run=7 is not accepted")
    assert masked == f"dlr_url: https://example.com/report?to={plus}37255•••55&run=7 is not accepted"


@pytest.mark.parametrize(
    "number", ["(372) 5555-5555", "+372 5555 5555", "+372-5555-5555", "372.5555.5555", "+(372)55555555"]
)
def test_a_number_looks_the_same_however_it_is_written(number):
    assert mask_numbers(f"no route to {number}, try later").replace("+", "") == "no route to 37255•••55, try later"


@pytest.mark.parametrize(
    "text",
    [
        "time_to_send: 2026-11-23 09:00 EET is in the past",
        "time_to_send: 2026-11-23 09:00:00 Europe/Tallinn (2026-11-23 07:00:00 UTC) is in the past",
        "row 8 (2026-11-23), row 1,234 2026-11-23 07:00:00, 12:00 (2026-11-23)",
        "2026-11-23T09:00:00+00:00",
        "https://192.168.100.200:8443/v1",
        "6bd8c1ee-6ac2-4eb5-a0a1-6d46b2f42ae6",
        "00000000-0000-0000-0000-000000000000",
        "12345678-1234-4123-8123-123456789012",
        "10,000 of 12,345 messages, attempt 3; the next is in 2.5 s",
        "doctor-6bd8c1ee: status 200, 1024 bytes, 60 s",
    ],
)
def test_other_text_is_not_masked(text):
    assert mask_numbers(text) == text
