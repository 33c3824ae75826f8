"""The hours in which messages may be sent, and the earliest time in them. Pure: the caller passes the current time.

::

    window = SendWindow("09:00-12:00, 14:00-20:00", days="mon-fri", timezone="recipient", holidays="EE")
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone, tzinfo
from functools import cached_property
from typing import Any

from airflow_provider_omnimessage.api.errors import InvalidInputError
from airflow_provider_omnimessage.api.fields import describe, is_deferred
from airflow_provider_omnimessage.api.holiday_calendars import (
    Holidays,
    PlainHolidays,
    plain_holidays,
    read_holidays,
)
from airflow_provider_omnimessage.api.lists import as_tuple, structure_in
from airflow_provider_omnimessage.api.timing import resolve_zone
from airflow_provider_omnimessage.api.weekdays import parse_weekdays

#: The zone of each recipient, by their number.
RECIPIENT = "recipient"
#: How far ahead an opening is looked for: every date comes once, and every day of the week on most dates.
DAYS_AHEAD = 370

_NAMES = ("hours", "days", "timezone", "holidays")
_FIELDS = "the fields are hours, days, timezone, holidays"
_DAY = 24 * 60
_HOURS_WANTED = "use times such as '09:00-20:00', or several such as '09:00-12:00, 14:00-20:00'"
_SPAN = re.compile(r"(\d{1,2}):(\d{2})\s*[-–]\s*(\d{1,2}):(\d{2})")


@dataclass(frozen=True, init=False)
class SendWindow:
    """The hours of the day, on some days, in which messages may be sent.

    Example::

        SendWindow("09:00-20:00", days="mon-fri", timezone="recipient", holidays="EE")

    As text, for templates, connections and the command line:
    ``"09:00-20:00; days=mon-fri; timezone=recipient; holidays=EE"``.

    A span includes its start and not its end. A span such as ``22:00-06:00`` ends on the next day; days and holidays
    apply to the day on which it starts. Spans are wall clock times: if a clock change skips a part of a span, that part
    does not exist on that day, and if it repeats a part, the window is open both times.

    :param hours: one span or several, separated by commas. ``"00:00-24:00"`` is the whole day.
    :param days: names and ranges such as ``"mon-fri"`` or ``"sat,sun"``, or a list of them; default: every day.
    :param timezone: an IANA name, or the object of such a zone; ``"recipient"``: the zone of each recipient's number;
        default: the ``timezone`` of the row, the task or the connection; else the zone of ``time_to_send``; else UTC.
    :param holidays: days on which no span starts: a country such as ``"EE"`` or a part of one such as ``"US-CA"``, by
        the extra ``[holidays]``; or a date, or a list of dates. The date of a datetime is that of its own time zone.
        Default: none.
    :raises InvalidInputError: names each field that is wrong. Templates are checked once they are rendered.
    """

    hours: str
    days: str | tuple[str, ...] | None
    timezone: str | None
    holidays: PlainHolidays

    def __init__(
        self,
        hours: str,
        days: str | Iterable[str] | None = None,
        timezone: str | tzinfo | None = None,
        holidays: str | date | Iterable[date | str] | None = None,
    ) -> None:
        # plain from the start: it can be hashed, compared, and written into a template field
        plain = {
            "hours": hours,
            "days": as_tuple(days),
            "timezone": _zone_name(timezone),
            "holidays": plain_holidays(holidays),
        }
        for name, value in plain.items():
            object.__setattr__(self, name, value)
        if not is_deferred(self.hours):
            _parse_hours(self.hours)
        if not _has_template(self.days):
            parse_weekdays(self.days, "window.days")

    @classmethod
    def of(cls, value: object) -> SendWindow:
        """Return the window that a value describes.

        :param value: a ``SendWindow``; a mapping of its parameters; or text: the form of ``str(window)``, or a mapping
            as JSON, or as a template renders it.
        :raises InvalidInputError: for anything else.
        """
        if isinstance(value, SendWindow):
            return value
        if isinstance(value, str):
            value = _read_text(value)
        if not isinstance(value, Mapping):
            raise InvalidInputError.of("window", f"{describe(value)} is not a window; {_HOURS_WANTED}")
        for name in value:
            if name not in _NAMES:
                raise InvalidInputError.of("window", f"has no field '{str(name)[:30]}'; {_FIELDS}")
        if "hours" not in value:
            raise InvalidInputError.of("window", f"has no hours; {_FIELDS}")
        return cls(**{name: _none_if_empty(part) for name, part in value.items()})

    def as_dict(self) -> dict[str, Any]:
        """Return the parameters as plain data, without those that are not set."""
        return {name: _plain(value) for name in _NAMES if (value := getattr(self, name)) is not None}

    def __str__(self) -> str:
        parts = [str(self.hours).strip()]
        for name, value in list(self.as_dict().items())[1:]:
            parts.append(f"{name}={','.join(map(str, value)) if isinstance(value, list) else value}")
        return "; ".join(parts)

    def load_holidays(self) -> None:
        """Read the calendar of the holidays, if there are any.

        :raises InvalidInputError: if there is none of that name, or if the library is not installed.
        """
        _ = self._holidays

    def is_open(self, time: datetime, zones: Sequence[tzinfo]) -> bool:
        """Return whether the window is open at ``time`` in every one of ``zones``."""
        return all(self._is_open(time, zone) for zone in zones)

    def earliest(self, wanted: datetime, zones: Sequence[tzinfo]) -> datetime:
        """Return the earliest time, not before ``wanted``, at which the window is open in every one of ``zones``.

        :param wanted: with a zone.
        :return: in UTC: ``wanted`` itself, or a whole minute.
        :raises InvalidInputError: if there is none within about a year.
        """
        time = start = wanted.astimezone(timezone.utc)
        dates = len(self.holidays) if isinstance(self.holidays, tuple) else 0
        try:
            end = time + timedelta(days=DAYS_AHEAD + dates)
            while True:
                before = time
                for zone in zones:
                    time = self._next_opening(time, zone, end)
                if time == before:
                    return time
        except (OverflowError, _NeverOpensError):
            shown = ", ".join(map(str, zones[:3])) + (f" and {len(zones) - 3} more" if len(zones) > 3 else "")
            raise InvalidInputError.of(
                "window",
                f"'{self}' does not open in the {DAYS_AHEAD + dates} days after {start:%Y-%m-%d %H:%M} UTC, in {shown}"
                f"{' at the same time' if len(zones) > 1 else ''}; use longer hours, more days, or another time zone",
            ) from None

    @cached_property
    def _spans(self) -> tuple[tuple[int, int], ...]:
        return _parse_hours(self.hours)

    @cached_property
    def _weekdays(self) -> frozenset[int]:
        return parse_weekdays(self.days, "window.days")

    @cached_property
    def _holidays(self) -> Holidays:
        return read_holidays(self.holidays)

    @cached_property
    def _open_dates(self) -> dict[date, bool]:
        return {}

    def _opens_on(self, day: date) -> bool:
        known = self._open_dates.get(day)
        if known is None:
            known = self._open_dates[day] = day.weekday() in self._weekdays and day not in self._holidays
        return known

    def _is_open(self, time: datetime, zone: tzinfo) -> bool:
        local = time.astimezone(zone)
        minute, day = local.hour * 60 + local.minute, local.date()
        return any(
            (start <= minute < end and self._opens_on(day))
            or (minute < end - _DAY and self._opens_on(day - timedelta(days=1)))
            for start, end in self._spans
        )

    def _next_opening(self, time: datetime, zone: tzinfo, end: datetime) -> datetime:
        if self._is_open(time, zone):
            return time
        while time < end:
            until = time + timedelta(days=1)
            opening = min((each for each in self._edges(time, until, zone) if self._is_open(each, zone)), default=None)
            if opening is not None:
                return opening
            time = until
        raise _NeverOpensError

    def _edges(self, time: datetime, until: datetime, zone: tzinfo) -> Iterator[datetime]:
        """Yield the times in a range at which the window may open: starts of spans, and clock changes."""
        day = time.astimezone(zone).date() - timedelta(days=1)
        last = until.astimezone(zone).date() + timedelta(days=1)
        while day <= last:
            if self._opens_on(day):
                for start, _ in self._spans:
                    for fold in (0, 1):
                        local = datetime(day.year, day.month, day.day, start // 60, start % 60, tzinfo=zone, fold=fold)
                        edge = local.astimezone(timezone.utc)
                        if time <= edge < until:
                            yield edge
            day += timedelta(days=1)
        yield from _clock_changes(time, until, zone)


def _zone_name(zone: object) -> Any:
    """Return the name of a time zone; what is deferred stays."""
    if zone is None or is_deferred(zone) or zone == RECIPIENT:
        return zone
    name = _name_of(zone) if isinstance(zone, tzinfo) else zone
    if name is None:
        raise InvalidInputError.of(
            "window.timezone",
            f"a {type(zone).__name__} without an IANA name is not accepted; use a name such as 'Europe/Tallinn', or "
            "'recipient'",
        )
    try:
        resolve_zone(name)
    except InvalidInputError as error:
        raise InvalidInputError.of("window.timezone", f"{error.problems[0].reason}, or 'recipient'") from None
    return str(name)


def _name_of(zone: tzinfo) -> str | None:
    # zoneinfo and Pendulum; pytz; Pendulum 2. Not str(): that of a fixed offset can be 'EET', which changes its clock
    for attribute in ("key", "zone", "name"):
        name = getattr(zone, attribute, None)
        if isinstance(name, str):
            return name
    return "UTC" if zone.utcoffset(None) == timedelta(0) else None


class _NeverOpensError(Exception):
    """No opening was found."""


def _clock_changes(time: datetime, until: datetime, zone: tzinfo) -> Iterator[datetime]:
    """Yield the times in a range from which the zone has another offset from UTC."""
    step = timedelta(hours=6)
    while time < until:
        before, after = time, min(time + step, until)
        offset = before.astimezone(zone).utcoffset()
        if after.astimezone(zone).utcoffset() != offset:
            while after - before > timedelta(seconds=1):
                middle = (before + (after - before) / 2).replace(microsecond=0)
                if middle <= before:
                    break
                if middle.astimezone(zone).utcoffset() == offset:
                    before = middle
                else:
                    after = middle
            yield after
        time += step


def _parse_hours(hours: object) -> tuple[tuple[int, int], ...]:
    """Return the spans as minutes of the day. The end of one over midnight is greater than a day."""
    if not isinstance(hours, str) or not hours.strip():
        raise InvalidInputError.of("window.hours", f"{describe(hours)} is not accepted; {_HOURS_WANTED}")
    spans = []
    for part in hours.split(","):
        match = _SPAN.fullmatch(part.strip())
        if match is None:
            shown = (part.strip() or hours.strip())[:20]  # '09:00-20:00,', not ''
            raise InvalidInputError.of("window.hours", f"{shown!r} is not a span; {_HOURS_WANTED}")
        start, end = (_minute(part, *match.groups()[index : index + 2]) for index in (0, 2))
        if start == _DAY:
            raise InvalidInputError.of("window.hours", f"{part.strip()!r} starts at the end of the day; use 00:00")
        if start == end:
            raise InvalidInputError.of("window.hours", f"{part.strip()!r} is empty; for the whole day use 00:00-24:00")
        spans.append((start, end if end > start else end + _DAY))
    return tuple(spans)


def _minute(span: str, hour: str, minute: str) -> int:
    total = int(hour) * 60 + int(minute)
    if int(minute) > 59 or total > _DAY:
        raise InvalidInputError.of("window.hours", f"{span.strip()!r} has no such time of day; {_HOURS_WANTED}")
    return total


def _read_text(text: str) -> object:
    structure = structure_in(text)
    if structure is not None:
        return structure
    if text.lstrip().startswith("{") and not is_deferred(text):
        raise InvalidInputError.of("window", 'is not valid JSON; write it as {"hours": "09:00-20:00"}')
    hours, *settings = text.split(";")
    fields: dict[str, object] = {"hours": hours.strip()}
    for setting in filter(str.strip, settings):
        name, equals, value = map(str.strip, setting.partition("="))
        if not equals or not name:
            raise InvalidInputError.of(
                "window", f"{setting.strip()[:30]!r} is not a setting; write it as '09:00-20:00; days=mon-fri'"
            )
        if name in fields and name in _NAMES:
            raise InvalidInputError.of(f"window.{name}", "is set twice; leave one of them out")
        fields[name] = value
    return fields


def _none_if_empty(value: Any) -> Any:
    return None if value in ("", "None") else value  # a template renders None as text


def _plain(value: Any) -> Any:
    if not isinstance(value, tuple):
        return value
    return [each.isoformat() if isinstance(each, date) else each for each in value]


def _has_template(value: object) -> bool:
    if isinstance(value, Iterable) and not isinstance(value, str):
        return is_deferred(value) or any(is_deferred(each) for each in value)
    return is_deferred(value)
