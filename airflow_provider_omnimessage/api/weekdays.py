"""Read days of the week as people write them: ``mon-fri``, ``sat,sun``."""

from __future__ import annotations

import re
from collections.abc import Iterable

from airflow_provider_omnimessage.api.errors import InvalidInputError
from airflow_provider_omnimessage.api.fields import describe

#: The names, Monday first: the index is what ``datetime.weekday()`` returns.
NAMES = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
EVERY_DAY = frozenset(range(7))

_WANTED = "use names and ranges such as 'mon-fri', 'sat,sun' or 'fri-mon'"


def parse_weekdays(value: object, field: str = "days") -> frozenset[int]:
    """
    Return the days of the week that a value names; Monday is 0.

    Example: ``parse_weekdays("mon-wed,sat") == {0, 1, 2, 5}``.

    :param value: names of at least three letters, alone, in ranges, or several of both; ``None``: every day.
    :raises InvalidInputError: for anything else.
    """
    if value is None:
        return EVERY_DAY
    if isinstance(value, str):
        parts = [part.strip() for part in value.split(",")]
    elif isinstance(value, Iterable):
        parts = [part.strip() if isinstance(part, str) else "" for part in value]
    else:
        raise InvalidInputError.of(field, f"{describe(value)} does not name days; {_WANTED}")
    days: set[int] = set()
    for part in parts:
        match = re.fullmatch(r"([a-z]{3,9})(?:\s*[-–]\s*([a-z]{3,9}))?", part.lower())
        first = _index(match[1]) if match else None
        last = _index(match[2]) if match and match[2] else first
        if first is None or last is None:
            raise InvalidInputError.of(field, f"{part[:20]!r} is not a day of the week; {_WANTED}")
        days.update((first + step) % 7 for step in range((last - first) % 7 + 1))
    return frozenset(days)


def _index(name: str) -> int | None:
    full = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
    return next((index for index, day in enumerate(full) if day.startswith(name)), None)
