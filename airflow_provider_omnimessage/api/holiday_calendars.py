"""Holidays of a window: those of a country, by the library ``holidays``, or a list of dates."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date, datetime
from functools import lru_cache
from typing import Protocol

from airflow_provider_omnimessage.api.errors import InvalidInputError
from airflow_provider_omnimessage.api.fields import describe

FIELD = "window.holidays"

_WANTED = "use a country such as 'EE', a part of one such as 'US-CA', or a list of dates such as ['2026-12-24']"
_CODE = re.compile(r"([A-Z]{2})(?:-([A-Z0-9]{1,10}))?")


class Holidays(Protocol):
    """Days that count as holidays."""

    def __contains__(self, day: date, /) -> bool: ...


def check_holidays(value: object) -> None:
    """Raise unless ``value`` can be holidays. Whether the country is known is checked when the holidays are read."""
    if value is None:
        return
    if isinstance(value, str):
        if not _CODE.fullmatch(value):
            raise InvalidInputError.of(FIELD, f"{value[:20]!r} is not accepted; {_WANTED}")
    elif isinstance(value, Iterable):
        for day in value:
            _read_date(day)
    else:
        raise InvalidInputError.of(FIELD, f"{describe(value)} is not accepted; {_WANTED}")


def read_holidays(value: object) -> Holidays:
    """Return the holidays that a value names.

    :raises InvalidInputError: if they are of a country, and the library ``holidays`` is missing or does not know it.
    """
    check_holidays(value)
    if isinstance(value, str):
        return _calendar_of(value)
    return frozenset(_read_date(day) for day in value) if isinstance(value, Iterable) else frozenset()


def _read_date(value: object) -> date:
    if isinstance(value, datetime):
        return value.date()
    if isinstance(value, date):
        return value
    try:
        return date.fromisoformat(str(value).strip())
    except ValueError:
        raise InvalidInputError.of(FIELD, f"{str(value)[:20]!r} is not a date; {_WANTED}") from None


@lru_cache
def _calendar_of(code: str) -> Holidays:
    try:
        from holidays import country_holidays  # 20 ms
    except ImportError:
        raise InvalidInputError.of(
            FIELD,
            f"'{code}' needs the package holidays; pip install '.[holidays]', or use a list of dates",
        ) from None
    country, _, part = code.partition("-")
    try:
        return country_holidays(country, subdiv=part or None)
    except NotImplementedError:
        raise InvalidInputError.of(FIELD, f"'{code}' has no holidays in the package holidays; {_WANTED}") from None
