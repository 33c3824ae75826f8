"""Read days of the week as people write them: ``mon-fri``, ``sat,sun``."""

from __future__ import annotations

import re

from airflow_provider_omnimessage.api.errors import InvalidInputError
from airflow_provider_omnimessage.api.fields import describe
from airflow_provider_omnimessage.api.lists import as_tuple

#: The names, Monday first: the index is what ``datetime.weekday()`` returns.
NAMES = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
EVERY_DAY = frozenset(range(7))

_WANTED = "use names and ranges such as 'mon-fri', 'sat,sun' or 'fri-mon'"


def parse_weekdays(value: object, field: str = "days") -> frozenset[int]:
    """
    Return the days of the week that a value names; Monday is 0.

    Example: ``parse_weekdays("mon-wed,sat") == {0, 1, 2, 5}``.

    :param value: names of at least three letters, alone, in ranges, or several of both: as text, as a list, or as a
        list that a template rendered as text. ``None``: every day.
    :raises InvalidInputError: for anything else.
    """
    if value is None:
        return EVERY_DAY
    entries = as_tuple(value)
    if isinstance(entries, str):
        entries = entries.split(",")
    elif not isinstance(entries, tuple):
        raise InvalidInputError.of(field, f"{describe(value)} does not name days; {_WANTED}")
    days: set[int] = set()
    for entry in entries:
        text = entry.strip().lower() if isinstance(entry, str) else ""
        match = re.fullmatch(r"([a-z]{3,9})(?:\s*[-–]\s*([a-z]{3,9}))?", text)
        first = _index(match[1]) if match else None
        last = _index(match[2]) if match and match[2] else first
        if first is None or last is None:
            shown = value if text == "" and isinstance(value, str) else entry  # 'mon,,fri', not ''
            raise InvalidInputError.of(field, f"{_shown(shown)} is not a day of the week; {_WANTED}")
        days.update((first + step) % 7 for step in range((last - first) % 7 + 1))
    if not days:
        raise InvalidInputError.of(field, "is empty; leave it out for every day")
    return frozenset(days)


def _shown(value: object) -> str:
    return repr(value.strip()[:20]) if isinstance(value, str) else repr(value)[:20]


def _index(name: str) -> int | None:
    full = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
    return next((index for index, day in enumerate(full) if day.startswith(name)), None)
