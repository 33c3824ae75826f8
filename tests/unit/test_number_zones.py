"""The time zones of phone numbers, and numbers that no country has."""

from __future__ import annotations

import random

import phonenumbers
import pytest
from phonenumbers import timezone as library

from airflow_provider_omnimessage.api import number_zones
from airflow_provider_omnimessage.api.errors import InvalidInputError, UnknownZoneError
from airflow_provider_omnimessage.api.number_zones import require_possible, zones_of_number


def names(number: str) -> set[str]:
    return {str(zone) for zone in zones_of_number(number)}


@pytest.fixture
def without_library(monkeypatch):
    monkeypatch.setattr(number_zones, "is_installed", lambda: False)


@pytest.mark.parametrize(
    ("number", "zones"),
    [
        ("+12025550142", {"America/New_York"}),
        ("+14155550142", {"America/Los_Angeles"}),
        ("+819012345678", {"Asia/Tokyo"}),
        ("+390612345678", {"Europe/Rome"}),
    ],
)
def test_a_number_of_one_zone(number, zones):
    assert names(number) == zones


@pytest.mark.parametrize(("number", "count"), [("+61412345678", 8), ("+79123456789", 16), ("+61099999999", 8)])
def test_a_number_of_many_zones_or_one_that_is_not_assigned_has_all_zones_of_its_country(number, count):
    assert len(names(number)) == count


@pytest.mark.parametrize("number", ["+80012345678", "+882123456789", "+9991234567"])
def test_a_number_without_a_country_has_an_unknown_zone(number):
    with pytest.raises(UnknownZoneError, match="is unknown; set the recipient's own timezone, or set on_unknown_zone"):
        zones_of_number(number)


def test_the_zones_are_those_of_the_library_for_every_country():
    """Compare with the library's own zones for its example numbers."""
    generator = random.Random(17)
    for region in phonenumbers.SUPPORTED_REGIONS:
        for kind in (phonenumbers.PhoneNumberType.MOBILE, phonenumbers.PhoneNumberType.FIXED_LINE):
            example = phonenumbers.example_number_for_type(region, kind)
            if example is None:
                continue
            number = phonenumbers.format_number(example, phonenumbers.PhoneNumberFormat.E164)
            number = number[:-2] + f"{generator.randrange(100):02}"
            theirs = set(library.time_zones_for_number(phonenumbers.parse(number))) - {"Etc/Unknown"}
            is_north_american = number.startswith("+1")  # the area code of a mobile number decides there too
            assert names(number) == theirs or not theirs or (is_north_american and names(number) < theirs)
            require_possible(number)


def test_numbers_that_share_their_first_digits_have_the_zones_of_the_library():
    """Zones are kept by first digits, so numbers that differ only behind them are compared."""
    generator = random.Random(18)
    kept = len(number_zones._known_zones)
    for code in ("44", "61", "62", "7", "55", "599", "976", "86", "52"):
        region = phonenumbers.region_code_for_country_code(int(code))
        lengths = phonenumbers.PhoneMetadata.metadata_for_region(region).general_desc.possible_length
        every_zone = {str(zone) for zone in number_zones._zones_of_country(code)}
        for start in (f"+{code}{generator.randrange(1000):03}" for _ in range(20)):
            for _ in range(20):
                number = f"{start}{generator.randrange(10**12):012}"[: 1 + len(code) + generator.choice(lengths)]
                library_number = number_zones._library_number(number, code)
                theirs = set(library.time_zones_for_number(library_number)) - {"Etc/Unknown"}
                assert names(number) == (theirs or every_zone)
    assert kept < len(number_zones._known_zones) < kept + 1500


@pytest.mark.parametrize(
    ("number", "words"),
    [
        ("+3725", "has 1 digits after +372 (EE), too few"),
        ("+1202555014", "has 9 digits after +1 (US), too few"),
        ("+120255501421", "has 11 digits after +1 (US), too many"),
        ("+5491123456789", ""),
        ("+999123456", "begins with a country code that does not exist"),
        ("+4402079460018", "has 11 digits after +44 (GB), too many"),
        ("+2125550", "has 4 digits after +212 (MA), too few"),
    ],
)
def test_a_number_that_its_country_cannot_have_is_rejected(number, words):
    if not words:
        require_possible(number)
        return
    with pytest.raises(InvalidInputError) as caught:
        require_possible(number)
    assert words in str(caught.value)
    assert number not in str(caught.value)


def test_without_the_extra_the_error_names_it_and_numbers_are_not_checked(without_library):
    require_possible("+3725")
    with pytest.raises(InvalidInputError, match=r"needs the package phonenumbers; pip install '.\[zones\]'"):
        zones_of_number("+37255555555")
