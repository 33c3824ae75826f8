"""When the work of a run must be done: by a time of day, within a span after the run was due, or at a given time."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from datetime import datetime, time, timedelta, timezone, tzinfo
from typing import Any, NamedTuple

from airflow_provider_omnimessage._compat import cron_schedules
from airflow_provider_omnimessage.api import timing
from airflow_provider_omnimessage.api.errors import InvalidInputError
from airflow_provider_omnimessage.api.fields import describe, is_deferred
from airflow_provider_omnimessage.api.timing import TimeToSend
from airflow_provider_omnimessage.api.weekdays import EVERY_DAY, parse_weekdays

#: A deadline that a clock change moves by more than this, relative to the run, was not meant that way.
_LARGEST_SHIFT = timedelta(hours=2)
#: Runs looked at in every four weeks: enough for each hour of a day.
_RUNS_A_MONTH = 24


class Deadline(NamedTuple):
    """One of three ways to say when work must be done.

    Example: ``Deadline(by="09:00", days="mon-fri", timezone="Europe/Tallinn")``.

    :param by: a local time of day, ``"HH:MM"``: the next one after the run was due.
    :param within: a timedelta from the time at which the run was due.
    :param time_to_send: anything else: ISO 8601, a datetime, or a timedelta from now.
    :param days: with ``by``: the days of the week that count, such as ``"mon-fri"``; ``None``: every day.
    :param timezone: IANA name for ``by``, and for a ``time_to_send`` without an offset; ``None``: the connection's,
        else UTC.
    """

    by: Any = None
    within: Any = None
    time_to_send: Any = None
    days: Any = None
    timezone: Any = None

    def check_at_parse(self, dag: object = None) -> None:
        """Raise for what is wrong by the time the DAG is parsed.

        :param dag: whose schedule is compared with ``by``; ``None``: it is not.
        :raises InvalidInputError: names the parameter. Also if a run is due at ``by`` itself: its deadline would be a
            day later.
        """
        ways = [name for name in ("by", "within", "time_to_send") if getattr(self, name) is not None]
        if len(ways) != 1:
            found = " and ".join(ways) or "none of them"
            raise InvalidInputError.of("by", f"found {found}; pass exactly one of by, within and time_to_send")
        if self.days is not None and self.by is None:
            raise InvalidInputError.of("days", "works with by only; leave it out, or pass by")
        zone = None if is_deferred(self.timezone) else timing.resolve_zone(self.timezone)
        if self.by is not None and not is_deferred(self.by):
            parse_time_of_day(self.by)
            if not is_deferred(self.days):
                parse_weekdays(self.days)
            if dag is not None and zone is not None and self.timezone is not None:
                self._check_schedule(dag, zone)
        if self.within is not None and not is_deferred(self.within):
            _positive(self.within)
        if self.time_to_send is not None and not is_deferred(self.time_to_send):
            if isinstance(self.time_to_send, timedelta):
                _positive(self.time_to_send, "time_to_send")
            timing.resolve(self.time_to_send, zone=zone, now=datetime.now(timezone.utc))

    def resolve(self, due: datetime, now: datetime, zone: str | tzinfo | None) -> TimeToSend:
        """Return the deadline of a run.

        :param due: when the run was due, with a zone.
        :param now: what a ``time_to_send`` that is a timedelta counts from.
        :param zone: the connection's time zone, used if the deadline has none of its own.
        :raises InvalidInputError: if it does not say when.
        """
        own_zone = timing.resolve_zone(self.timezone or zone)
        if self.by is not None:
            return next_time_of_day(due, parse_time_of_day(self.by), own_zone, parse_weekdays(self.days))
        if self.within is not None:
            return timing.resolve(_positive(self.within), zone=own_zone, now=due)
        return timing.resolve(self.time_to_send, zone=own_zone, now=now)

    def __str__(self) -> str:
        """Describe it for a log line: ``by 09:00 on mon-fri``."""
        if self.by is not None:
            days = self.days if self.days is None or isinstance(self.days, str) else ",".join(map(str, self.days))
            return f"by {self.by}{f' on {days}' if days else ''}"
        return f"within {self.within}" if self.within is not None else f"time_to_send={self.time_to_send}"

    def _check_schedule(self, dag: object, zone: tzinfo) -> None:
        """Raise if runs are due at ``by``, or if a clock change moves them from one side of it to the other."""
        at = parse_time_of_day(self.by)
        gaps: dict[tuple[int, int], tuple[timedelta, datetime]] = {}
        for due in cron_times(dag):
            local = due.astimezone(zone)
            if local.time().replace(second=0, microsecond=0) == at:
                raise InvalidInputError.of(
                    "by",
                    f"{self.by} {zone} is when the run itself is due (for example at {due:%Y-%m-%d %H:%M} UTC), so its "
                    "deadline would be a day later; use a later time, or within=timedelta(...)",
                )
            gap = next_time_of_day(due, at, zone, EVERY_DAY).utc - due
            before, since = gaps.setdefault((due.hour, due.minute), (gap, due))
            if abs(gap - before) > _LARGEST_SHIFT:
                raise InvalidInputError.of(
                    "by",
                    f"{self.by} {zone} is {_hours(before)} after the run of {since:%Y-%m-%d %H:%M} UTC, but "
                    f"{_hours(gap)} after that of {due:%Y-%m-%d %H:%M} UTC, because of a clock change; write the "
                    f"schedule in that time zone: start_date=pendulum.datetime(..., tz='{zone}')",
                )


def due_time(context: Mapping[str, Any], now: datetime) -> datetime:
    """Return when a run was due: ``data_interval_end``, else ``run_after``, else ``now``; in UTC.

    :param context: Airflow's context of a task.
    """
    dag_run = context.get("dag_run")
    for name in ("data_interval_end", "run_after"):
        value = getattr(dag_run, name, None)
        if isinstance(value, datetime):
            return datetime.fromtimestamp(value.timestamp(), timezone.utc)
    return now


def parse_time_of_day(value: object, field: str = "by") -> time:
    """Return a time of day.

    :param value: ``"HH:MM"``, 24 hours, or a ``datetime.time`` in whole minutes without a zone.
    :raises InvalidInputError: for anything else.
    """
    if isinstance(value, time) and value.tzinfo is None and not value.second and not value.microsecond:
        return value
    match = re.fullmatch(r"\s*([01]?\d|2[0-3]):([0-5]\d)\s*", value) if isinstance(value, str) else None
    if match is None:
        shown = repr(value) if isinstance(value, (str, time)) and len(str(value)) <= 20 else describe(value)
        raise InvalidInputError.of(field, f"{shown} is not a time of day; use 'HH:MM' in 24 hours, such as '09:00'")
    return time(int(match[1]), int(match[2]))


def next_time_of_day(after: datetime, at: time, zone: tzinfo, days: frozenset[int]) -> TimeToSend:
    """Return the first ``at`` on one of ``days`` that lies after a time.

    A local time that a clock change skips moves forward; one that it repeats means the earlier.
    """
    first = after.astimezone(zone).date()
    for offset in range(9):
        day = first + timedelta(days=offset)
        if day.weekday() in days:
            found = timing.resolve(datetime.combine(day, at), zone=zone, now=after)
            if found.utc > after:
                return found
    raise AssertionError("unreachable: a week holds each day")


def cron_times(dag: object) -> list[datetime]:
    """Return some of the times in the coming year at which a cron schedule is due, in UTC; none for other schedules.

    Every fourth week's first 24 runs, so that summer and winter are among them.
    """
    schedules = cron_schedules(dag)
    if not schedules:
        return []
    from croniter import croniter

    now = datetime.now(timezone.utc)
    today = now.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    found = []
    for month, (expression, zone) in itertools.product(range(13), schedules):
        begin = today + timedelta(days=28 * month)
        times = croniter(expression, begin)
        for _ in range(_RUNS_A_MONTH):
            local = times.get_next(datetime)
            if local >= begin + timedelta(days=28):
                break
            found.append(timing.resolve(local, zone=timing.resolve_zone(zone), now=now).utc)
    return found


def _positive(value: Any, field: str = "within") -> timedelta:
    if not isinstance(value, timedelta) or value <= timedelta(0):
        shown = value if isinstance(value, timedelta) else describe(value)
        raise InvalidInputError.of(field, f"{shown} is not accepted; use a timedelta of more than 0")
    return value


def _hours(span: timedelta) -> str:
    return f"{span.total_seconds() / 3600:.1f} h"
