"""Where the owner of a phone number may be: the time zones of the number, by the library ``phonenumbers``.

The library is the extra ``[zones]``. It takes 40 ms and 20 MB, so it is imported when it is first needed.
"""

from __future__ import annotations

from datetime import tzinfo
from functools import lru_cache
from typing import TYPE_CHECKING

from airflow_provider_omnimessage.api.errors import InvalidInputError, UnknownZoneError
from airflow_provider_omnimessage.api.masking import mask_number
from airflow_provider_omnimessage.api.timing import resolve_zone

if TYPE_CHECKING:
    from phonenumbers import PhoneNumber

_UNKNOWN = ("Etc/Unknown",)
_CACHED = 65_536
_NORTH_AMERICA = "1"
#: Zones by what decides on them: the first digits, and how many digits there are.
_known_zones: dict[tuple[str, int], tuple[tzinfo, ...]] = {}


def zones_of_number(number: str) -> tuple[tzinfo, ...]:
    """Return the time zones in which the owner of a number may be: several for many mobile numbers.

    A number that is not assigned, as far as the library knows, may be in any zone of its country.

    :param number: in E.164 format.
    :raises UnknownZoneError: if the number has no country, such as ``+800``.
    :raises InvalidInputError: if the library is not installed.
    """
    require_library()
    code = _country_code(number)
    zones = _zones_of_country(code) if code else ()
    if len(zones) > 1:
        zones = _zones_within(number, code) or zones
    if not zones:
        raise UnknownZoneError.of(
            "timezone",
            f"the time zone of {mask_number(number)} is unknown; set the recipient's own timezone, or set "
            "on_unknown_zone to 'drop' or to a time zone",
        )
    return zones


def require_possible(number: str) -> None:
    """Raise if no number of its country has so many digits. Without the library, every number passes.

    :param number: in E.164 format.
    :raises InvalidInputError: says what is wrong.
    """
    if not is_installed():
        return
    code = _country_code(number)
    problem = _problem(code, len(number) - 1 - len(code))
    if problem:
        raise InvalidInputError.of("to", f"{mask_number(number)} {problem}; check the number and its country code")


@lru_cache
def is_installed() -> bool:
    """Return whether the extra ``[zones]`` is installed."""
    try:
        import phonenumbers  # noqa: F401
    except ImportError:
        return False
    return True


def require_library() -> None:
    """Raise unless the extra ``[zones]`` is installed."""
    if not is_installed():
        raise InvalidInputError.of(
            "timezone", "'recipient' needs the package phonenumbers; pip install '.[zones]', or pass a time zone"
        )


def _country_code(number: str) -> str:
    return _country_code_in(number[1:4])


@lru_cache(1000)
def _country_code_in(first_digits: str) -> str:
    candidates = (first_digits[:length] for length in (1, 2, 3))
    return next((digits for digits in candidates if digits in _country_codes()), "")


@lru_cache
def _country_codes() -> frozenset[str]:
    from phonenumbers import COUNTRY_CODE_TO_REGION_CODE

    return frozenset(map(str, COUNTRY_CODE_TO_REGION_CODE))


@lru_cache(512)
def _zones_of_country(code: str) -> tuple[tzinfo, ...]:
    from phonenumbers.tzdata import TIMEZONE_DATA

    return _resolve(tuple(TIMEZONE_DATA.get(code, ())))


def _zones_within(number: str, code: str) -> tuple[tzinfo, ...]:
    """Return the zones of a number in a country with several; empty: it is not assigned."""
    prefix = number[1 : _deciding_digits(code, number[1 + len(code) : 2 + len(code)]) + 1]
    key = (prefix, len(number))
    found = _known_zones.get(key)
    if found is None:
        names = _names_of_area(prefix) if code == _NORTH_AMERICA else _names_of_number(number, code)
        found = () if names == _UNKNOWN else _resolve(names)
        if found and len(_known_zones) < _CACHED:
            _known_zones[key] = found
    return found


@lru_cache(4096)
def _deciding_digits(code: str, next_digit: str) -> int:
    """Return how many digits decide on the zones: one more than the longest prefix that the library knows."""
    from phonenumbers.tzdata import TIMEZONE_DATA

    begin = code if code == _NORTH_AMERICA else code + next_digit
    longest = max((len(prefix) for prefix in TIMEZONE_DATA if prefix.startswith(begin)), default=0)
    return longest if code == _NORTH_AMERICA else max(longest + 1, len(code) + 4)


def _names_of_area(prefix: str) -> tuple[str, ...]:
    """Return the zones of an area code of North America, where area codes decide, also for mobile numbers."""
    from phonenumbers.tzdata import TIMEZONE_DATA

    return next(TIMEZONE_DATA[prefix[:end]] for end in range(len(prefix), 0, -1) if prefix[:end] in TIMEZONE_DATA)


def _names_of_number(number: str, code: str) -> tuple[str, ...]:
    from phonenumbers.timezone import time_zones_for_number

    return tuple(time_zones_for_number(_library_number(number, code)))


@lru_cache(4096)
def _resolve(names: tuple[str, ...]) -> tuple[tzinfo, ...]:
    return tuple(resolve_zone(name) for name in names)


def _library_number(number: str, code: str) -> PhoneNumber:
    """Return a number as the library holds it. Its ``parse`` takes longer, and would accept a wrong leading zero."""
    from phonenumbers import PhoneNumber

    national = number[1 + len(code) :]
    zeros = len(national) - len(national.lstrip("0"))
    return PhoneNumber(
        country_code=int(code),
        national_number=int(national),
        italian_leading_zero=True if zeros else None,
        number_of_leading_zeros=zeros if zeros > 1 else None,
    )


@lru_cache(4096)
def _problem(code: str, digits: int) -> str:
    """Return what is wrong with a number of so many digits after its country code; empty: nothing."""
    if not code:
        return "begins with a country code that does not exist"
    from phonenumbers import ValidationResult, is_possible_number_with_reason, region_code_for_country_code

    if digits < 1:
        return "has nothing after its country code"
    result = is_possible_number_with_reason(_library_number(f"+{code}{'1' * digits}", code))
    words = {
        ValidationResult.TOO_SHORT: "too few",
        ValidationResult.TOO_LONG: "too many",
        ValidationResult.INVALID_LENGTH: "not a possible number of digits",
        ValidationResult.IS_POSSIBLE_LOCAL_ONLY: "too few: the area code is missing",
    }.get(result)
    region = region_code_for_country_code(int(code))
    return f"has {digits} digits after +{code} ({region}), {words}" if words else ""
