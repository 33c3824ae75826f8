"""Who is on call, read from an iCalendar file: what PagerDuty, Opsgenie and Google Calendar export."""

from __future__ import annotations

import logging
import re
import sys
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, timedelta, timezone, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

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

_Found = TypeVar("_Found")

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
        a whole word in any case ("On call: Ann"), or if an attendee has it as name or email address. If several names
        match at the same place, the longest counts.
    :param default: who is alerted if nobody is on call, or if that cannot be found out; the log says so. Default:
        nobody, and the message is not sent.
    :raises InvalidInputError: names what is wrong.
    """

    def __init__(self, calendar: Any, *, people: Mapping[str, Any], default: Any = None) -> None:
        if not people or not isinstance(people, Mapping):
            raise InvalidInputError.of(
                "people", "is empty; pass a number for each name, such as {'Ann': '+37255555555'}"
            )
        self._people: dict[str, list[str]] = {}
        for name, to in people.items():
            key = _normalized(str(name))
            if not key:
                raise InvalidInputError.of("people", f"the name {str(name)!r} is empty; pass the name of a person")
            # two spellings of one name: all of their numbers
            self._people.setdefault(key, []).extend(parse_recipients(to, f"people[{str(name)!r}]"))
        self._default = None if default is None else parse_recipients(default, "default")
        self._path = _path(calendar, sys._getframe(1).f_globals.get("__file__"))
        self._parsed: tuple[bytes, _Rota] | None = None
        if isinstance(self._path, Path) and not is_parsed_for_a_task():
            self._check(datetime.now(timezone.utc))

    def __repr__(self) -> str:
        """Name the file only: Airflow's UI shows this."""
        return f"OnCall('{self._path}')"

    def __getstate__(self) -> dict[str, Any]:
        """Leave the parsed calendar out of copies, which read it again: a copy of its rules does not work."""
        return {**self.__dict__, "_parsed": None}

    def at(self, when: datetime) -> list[str]:
        """Return the numbers of those who are on call at a time, else the default.

        :param when: a time with a zone.
        """
        try:
            numbers = self._evaluate(lambda rota: rota.numbers_at(when))
            reason = f"{self!r}: nobody is on call at {when:%Y-%m-%d %H:%M %Z}; add an event, or set default"
        except InvalidInputError as error:
            numbers, reason = [], str(error.problems[0].reason)
        if numbers:
            return numbers
        if self._default is None:
            raise InvalidInputError.of("to", reason)
        _log.warning("Alerting the default recipient: %s", reason)
        return self._default

    def _check(self, now: datetime) -> None:
        """Raise for what a message would stumble over in the near future."""
        gap = self._evaluate(lambda rota: rota.first_gap(now, now + LOOK_AHEAD))
        if gap is None:
            return
        problem = f"{self!r}: nobody is on call from {gap:%Y-%m-%d %H:%M %Z}"
        if self._default is None:
            raise InvalidInputError.of("to", f"{problem}; add an event whose title names one of people, or set default")
        _log.info("%s; the default recipient is alerted then", problem)

    def _evaluate(self, find: Callable[[_Rota], _Found]) -> _Found:
        """Look something up in the calendar.

        :raises InvalidInputError: whatever the calendar's library raises: the default covers nothing else.
        """
        rota = self._rota()
        try:
            return find(rota)
        except Exception as error:  # a rule or an event that only shows to be broken when it is evaluated
            raise InvalidInputError.of(
                "to", f"{self!r}: cannot be evaluated ({type(error).__name__}: {error}); export it again as iCalendar"
            ) from error

    def _rota(self) -> _Rota:
        try:
            content = self._path.read_bytes()
        except Exception as error:  # object storage raises its own
            raise InvalidInputError.of(
                "to", f"{self!r}: cannot be read ({type(error).__name__}: {error}); check the path"
            ) from error
        if self._parsed is None or self._parsed[0] != content:
            self._parsed = content, _Rota(content, self._people, repr(self))
        return self._parsed[1]


class _Rota:
    """The events of a calendar, and the people in them."""

    def __init__(self, content: bytes, people: Mapping[str, list[str]], shown: str) -> None:
        """Read a calendar.

        :param people: numbers by normalized name.
        :param shown: how errors name the calendar.
        """
        try:
            from icalendar import Calendar
            from recurring_ical_events import of
        except ImportError as error:
            raise InvalidInputError.of("to", f"{shown}: {error}; pip install '.[oncall]'") from error
        try:
            calendar = Calendar.from_ical(content)
            self._zone = _zone(calendar)
            self._queries = [of(part) for part in _parts(calendar, self._zone)]
        except Exception as error:
            raise InvalidInputError.of(
                "to", f"{shown}: is not a calendar ({type(error).__name__}: {error}); export it again as iCalendar"
            ) from error
        self._people = people
        # the longest first, so that 'Ann Lee' is not taken for 'Ann'
        names = sorted(people, key=len, reverse=True)
        # no flags: what it finds in a normalized text is one of the names, letter by letter
        self._pattern = re.compile("|".join(rf"(?<!\w){re.escape(name)}(?!\w)" for name in names))

    def numbers_at(self, when: datetime) -> list[str]:
        """Return the numbers of those on call at a time, each number once, in the order of the calendar."""
        local = when.astimezone(self._zone)
        # more than that time, since a local time that a clock change repeats is compared by its wall clock
        near = self._events(local - _AROUND, local + _AROUND)
        names = [name for names, begin, end in near if begin <= when < end for name in names]
        return list(dict.fromkeys(number for name in names for number in self._people[name]))

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
        for event in (event for query in self._queries for event in query.between(begin, end)):
            if str(event.get("STATUS", "")).upper() != "CANCELLED":
                yield self._people_in(event), self._moment(event.start), self._moment(event.end)

    def _people_in(self, event: Event) -> list[str]:
        attendees = event.get("ATTENDEE", [])
        attendees = attendees if isinstance(attendees, list) else [attendees]
        texts = [str(event.get("SUMMARY", ""))]
        for attendee in attendees:
            texts += [re.sub(r"^mailto:", "", str(attendee), flags=re.IGNORECASE), str(attendee.params.get("CN", ""))]
        return [name for text in texts for name in self._pattern.findall(_normalized(text))]

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


def _normalized(text: str) -> str:
    """Return the form in which names are compared: however their case, accents and spaces are written."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    # the Turkish letters: which one a capital or small i stands for depends on the language
    folded = unicodedata.normalize("NFKC", folded.replace("i\N{COMBINING DOT ABOVE}", "i").replace("ı", "i"))
    # \w does not match the marks that are part of words in many scripts, so each gets word characters around it
    marked = (f"_{char}_" if unicodedata.category(char).startswith("M") else char for char in folded)
    # characters without a width, such as a zero width space, come along when a name is copied
    return " ".join("".join(char for char in marked if unicodedata.category(char[-1]) != "Cf").split())


def _parts(calendar: Calendar, zone: tzinfo) -> list[Calendar]:
    """Split off the events that recur in UTC, whatever ``X-WR-TIMEZONE`` says.

    With that property, the library lets events in UTC recur in the calendar's zone, as their exports mean it. But if
    such an event has exceptions at its time in UTC, it was written to recur in UTC. In the calendar's zone, no
    occurrence would be at the time of an exception after a clock change, and the exception would be ignored.
    """
    if "X-WR-TIMEZONE" not in calendar:
        return [calendar]
    series: dict[str, list[Any]] = {}
    for number, event in enumerate(calendar.walk("VEVENT")):
        series.setdefault(str(event.get("UID", number)), []).append(event)
    in_utc = [event for events in series.values() if _recurs_in_utc(events, zone) for event in events]
    if not in_utc:
        return [calendar]
    others, utc = calendar.copy(), calendar.copy()
    # by identity: two events with the same fields are equal
    moved = set(map(id, in_utc))
    others.subcomponents = [part for part in calendar.subcomponents if id(part) not in moved]
    utc.subcomponents = in_utc
    del utc["X-WR-TIMEZONE"]
    return [others, utc]


def _recurs_in_utc(events: list[Any], zone: tzinfo) -> bool:
    """Return whether the exceptions of an event are at its time in UTC, and not at its time in the calendar's zone."""
    starts = [event["DTSTART"].dt for event in events if "RECURRENCE-ID" not in event and "DTSTART" in event]
    exceptions: list[Any] = [event["RECURRENCE-ID"].dt for event in events if "RECURRENCE-ID" in event]
    for event in events:
        lists = event.get("EXDATE", [])
        exceptions += [date.dt for dates in (lists if isinstance(lists, list) else [lists]) for date in dates.dts]
    return any(
        exception.time() == start.time() and exception.astimezone(zone).time() != start.astimezone(zone).time()
        for start in filter(_is_in_utc, starts)
        for exception in filter(_is_in_utc, exceptions)
    )


def _is_in_utc(value: date) -> bool:
    return isinstance(value, datetime) and value.tzname() == "UTC"


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
