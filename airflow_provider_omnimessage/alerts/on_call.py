"""Who is on call, read from an iCalendar file: what PagerDuty, Opsgenie and Google Calendar export."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta, timezone, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_omnimessage._compat import is_parsed_for_a_task, object_storage_path
from airflow_provider_omnimessage.alerts.recipients import TimedRecipients
from airflow_provider_omnimessage.api import timing
from airflow_provider_omnimessage.api.errors import InvalidInputError
from airflow_provider_omnimessage.api.recipients import parse_recipients

if TYPE_CHECKING:
    from icalendar import Calendar, Event

#: How far ahead a gap is an error while the DAG is parsed.
LOOK_AHEAD = timedelta(days=7)
_AROUND = timedelta(hours=3)

_log = logging.getLogger(__name__)


class OnCall(TimedRecipients):
    """Pass as ``to``: the people who are on call when the message goes out.

    Requires the extra ``[oncall]``. Each message is resolved for its own time, in the calendar's time zone: the alert
    of a switch for its deadline, each escalation step for its time, an immediate message for now. If several events
    overlap, everybody in them is alerted.

    While the DAG is parsed by Airflow's DAG processor, an invalid number, a file that cannot be read and, without
    ``default``, a gap within the next seven days are errors. An ``ObjectStoragePath`` is read only when a message is
    sent. What is found then never stops an alert that has a ``default``.

    Example::

        OnCall("rota.ics", people={"Ann": "+37255555555", "bob@example.com": "+37255555556"}, default="+37255555550")

    :param calendar: the iCalendar file: a path, an ``ObjectStoragePath``, or its URL, such as
        ``"s3://aws@bucket/rota.ics"``. A relative path is relative to the file that makes the ``OnCall``.
    :param people: number, or list of numbers, by name. An event belongs to a person if its title contains the name as
        a whole word in any case ("On call: Ann"), or if an attendee has it as name or email address.
    :param default: who is alerted if nobody is on call, or if that cannot be found out; the log says so. Default:
        nobody, and the message is not sent.
    :raises InvalidInputError: names what is wrong.
    """

    def __init__(self, calendar: Any, *, people: Mapping[str, Any], default: Any = None) -> None:
        if not people or not isinstance(people, Mapping):
            raise InvalidInputError.of(
                "people", "is empty; pass a number for each name, such as {'Ann': '+37255555555'}"
            )
        self._people = {str(name): parse_recipients(to, f"people[{str(name)!r}]") for name, to in people.items()}
        self._default = None if default is None else parse_recipients(default, "default")
        self._path = _path(calendar, sys._getframe(1).f_globals.get("__file__"))
        self._parsed: tuple[bytes, _Rota] | None = None
        if isinstance(self._path, Path) and not is_parsed_for_a_task():
            self._check(datetime.now(timezone.utc))

    def __repr__(self) -> str:
        """Name the file only: Airflow's UI shows this."""
        return f"OnCall('{self._path}')"

    def at(self, when: datetime) -> list[str]:
        """Return the numbers of those who are on call at a time, else the default.

        :param when: a time with a zone.
        """
        try:
            names = self._rota().names_at(when)
            reason = f"{self!r}: nobody is on call at {when:%Y-%m-%d %H:%M %Z}; add an event, or set default"
        except InvalidInputError as error:
            names, reason = [], str(error.problems[0].reason)
        if names:
            return list(dict.fromkeys(number for name in names for number in self._people[name]))
        if self._default is None:
            raise InvalidInputError.of("to", reason)
        _log.warning("Alerting the default recipient: %s", reason)
        return self._default

    def _check(self, now: datetime) -> None:
        """Raise for what a message would stumble over in the near future."""
        gap = self._rota().first_gap(now, now + LOOK_AHEAD)
        if gap is None:
            return
        problem = f"{self!r}: nobody is on call from {gap:%Y-%m-%d %H:%M %Z}"
        if self._default is None:
            raise InvalidInputError.of("to", f"{problem}; add an event whose title names one of people, or set default")
        _log.info("%s; the default recipient is alerted then", problem)

    def _rota(self) -> _Rota:
        try:
            content = self._path.read_bytes()
        except Exception as error:  # object storage raises its own
            raise InvalidInputError.of(
                "to", f"{self!r}: cannot be read ({type(error).__name__}: {error}); check the path"
            ) from error
        if self._parsed is None or self._parsed[0] != content:
            self._parsed = content, _Rota(content, list(self._people), repr(self))
        return self._parsed[1]


class _Rota:
    """The events of a calendar, and the people in them."""

    def __init__(self, content: bytes, people: Sequence[str], shown: str) -> None:
        try:
            from icalendar import Calendar
            from recurring_ical_events import of
        except ImportError as error:
            raise InvalidInputError.of("to", f"{shown}: {error}; pip install '.[oncall]'") from error
        try:
            calendar = Calendar.from_ical(content)
            self._zone = _zone(calendar)
            self._query = of(calendar)
        except Exception as error:
            raise InvalidInputError.of(
                "to", f"{shown}: is not a calendar ({type(error).__name__}: {error}); export it again as iCalendar"
            ) from error
        self._shown = shown
        # the longest first, so that 'Ann Lee' is not taken for 'Ann'
        names = sorted(people, key=len, reverse=True)
        self._pattern = re.compile("|".join(rf"(?<!\w){re.escape(name)}(?!\w)" for name in names), re.IGNORECASE)
        self._names = {name.casefold(): name for name in people}

    def names_at(self, when: datetime) -> list[str]:
        """Return who is on call at a time, each name once, in the order of the calendar."""
        local = when.astimezone(self._zone)
        # more than that time, since a local time that a clock change repeats is compared by its wall clock
        near = self._events(local - _AROUND, local + _AROUND)
        return list(dict.fromkeys(name for names, begin, end in near if begin <= when < end for name in names))

    def first_gap(self, begin: datetime, end: datetime) -> datetime | None:
        """Return the first time between two at which nobody is on call; ``None``: there is none."""
        begin, end = begin.astimezone(self._zone), end.astimezone(self._zone)
        covered = begin
        for names, first, last in sorted(self._events(begin, end), key=lambda row: row[1]):
            if first > covered:
                break
            covered = max(covered, last) if names else covered
        return covered.astimezone(self._zone) if covered < end else None

    def _events(self, begin: datetime, end: datetime) -> Iterator[tuple[list[str], datetime, datetime]]:
        """Find events with their people, begin and end. Times without a zone are meant in the calendar's."""
        try:
            found = self._query.between(begin, end)
        except Exception as error:  # a rule that only shows to be broken when it is applied
            raise InvalidInputError.of(
                "to",
                f"{self._shown}: cannot be evaluated ({type(error).__name__}: {error}); export it again as iCalendar",
            ) from error
        for event in found:
            if str(event.get("STATUS", "")).upper() != "CANCELLED":
                yield self._people_in(event), self._moment(event.start), self._moment(event.end)

    def _people_in(self, event: Event) -> list[str]:
        attendees = event.get("ATTENDEE", [])
        attendees = attendees if isinstance(attendees, list) else [attendees]
        texts = [str(event.get("SUMMARY", ""))]
        for attendee in attendees:
            texts += [re.sub(r"^mailto:", "", str(attendee), flags=re.IGNORECASE), str(attendee.params.get("CN", ""))]
        return [self._names[match.casefold()] for text in texts for match in self._pattern.findall(text)]

    def _moment(self, value: date) -> datetime:
        if not isinstance(value, datetime):
            value = datetime(value.year, value.month, value.day)
        # in UTC, since two times of the same zone are compared by their wall clocks
        return (value if value.tzinfo else value.replace(tzinfo=self._zone)).astimezone(timezone.utc)


def _path(calendar: Any, caller: str | None) -> Any:
    """Return something with ``read_bytes``: a path, or an ``ObjectStoragePath``."""
    if isinstance(calendar, (str, Path)) and "://" not in str(calendar):
        return Path(caller).parent / calendar if caller else Path(calendar)
    try:
        return object_storage_path(calendar)
    except Exception as error:
        raise InvalidInputError.of(
            "calendar", f"{calendar!r} is not accepted ({error}); pass a path, a URL or an ObjectStoragePath"
        ) from error


def _zone(calendar: Calendar) -> tzinfo:
    """Return the calendar's zone: ``X-WR-TIMEZONE``, else that of its first ``VTIMEZONE``, else UTC."""
    name = calendar.get("X-WR-TIMEZONE")
    if name is None:
        name = next((zone.get("TZID") for zone in calendar.walk("VTIMEZONE")), None)
    try:
        return timing.resolve_zone(None if name is None else str(name))
    except InvalidInputError:
        # an id of the exporting program's own, which the events' own definitions explain
        zones: list[Any] = calendar.walk("VTIMEZONE")
        if not zones:
            raise
        found: tzinfo = zones[0].to_tz()
        return found
