"""Holidays of a window: those of a country, by the library ``holidays``, or a list of dates."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime
from functools import lru_cache
from typing import Protocol, TypeAlias

from airflow_provider_omnimessage.api.errors import InvalidInputError
from airflow_provider_omnimessage.api.fields import describe, is_deferred
from airflow_provider_omnimessage.api.lists import as_tuple

FIELD = "window.holidays"

_WANTED = "use a country such as 'EE', a part of one such as 'US-CA', or a list of dates such as ['2026-12-24']"
_CODE = re.compile(r"([A-Z]{2})(?:-([A-Z0-9]{1,10}))?")

#: A country; or dates, and templates of dates.
PlainHolidays: TypeAlias = "str | tuple[date | str, ...] | None"


class Holidays(Protocol):
    """Days that count as holidays."""

    def __contains__(self, day: date, /) -> bool: ...


def plain_holidays(value: object) -> PlainHolidays:
    """
    Return holidays as a country or as dates. What is deferred stays, and is checked when it is rendered.

    Whether the country is known is checked when the holidays are read.

    :param value: a country, a date or datetime, a list of them, or either as text.
    :raises InvalidInputError: for anything else.
    """
    if value is None or is_deferred(value):
        return value  # type: ignore[return-value]
    entries = (value,) if isinstance(value, date) else as_tuple(value)
    if isinstance(entries, str):
        if _CODE.fullmatch(entries):
            return entries
        if not entries.lstrip()[:1].isdigit():
            raise InvalidInputError.of(FIELD, f"{entries[:20]!r} is not accepted; {_WANTED}")
        entries = tuple(part if part.strip() else entries for part in entries.split(","))
    is_empty_calendar = isinstance(value, Mapping) and not value  # of the library: it fills itself when it is asked
    if not isinstance(entries, tuple) or is_empty_calendar:
        raise InvalidInputError.of(FIELD, f"{describe(value)} is not accepted; {_WANTED}")
    return tuple(day if is_deferred(day) else _read_date(day) for day in entries) or None


def read_holidays(value: object) -> Holidays:
    """Return the holidays that a value names.

    :raises InvalidInputError: if they are of a country, and the library ``holidays`` is missing or does not know it.
    """
    plain = plain_holidays(value)
    if isinstance(plain, str):
        return _calendar_of(plain)
    return frozenset(map(_read_date, plain or ()))


def _read_date(value: object) -> date:
    if isinstance(value, date):
        return date(value.year, value.month, value.day)
    try:
        return datetime.fromisoformat(str(value).strip()).date()
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
