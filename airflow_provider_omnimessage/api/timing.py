"""
Any way to say when -> one UTC moment.

An offset in the value wins. A naive value takes the time zone that is given, else UTC, which is Messente's own rule.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from typing import Any

import pendulum

from airflow_provider_omnimessage.api.errors import InvalidInputError

FIELD = "time_to_send"

_ACCEPTED = (
    "give an ISO 8601 date and time as '2026-11-23T09:00' or '2026-11-23T09:00+02:00', "
    "a datetime, or a timedelta from now"
)


@dataclass(frozen=True)
class TimeToSend:
    """
    A moment to send at.

    :param utc: the moment, in UTC, in whole seconds: a fraction is rounded up, so that nothing is sent early.
    :param local: the same moment in the zone in which it was given.
    :param warning: what the author should know: a clock change moved it, or made it ambiguous.
    """

    utc: datetime
    local: datetime
    warning: str | None = None

    def __str__(self) -> str:
        """Show it in its own zone and in UTC, for people."""
        utc = f"{self.utc:%Y-%m-%d %H:%M:%S} UTC"
        zone = _zone_name(self.local)
        return utc if zone == "UTC" else f"{self.local:%Y-%m-%d %H:%M:%S} {zone} ({utc})"


def resolve(value: Any, *, zone: str | tzinfo | None = None, now: datetime) -> TimeToSend:
    """
    Turn any accepted way to say when into one moment.

    :param value: an ISO 8601 date and time (what Jinja renders from a datetime included), a datetime, or a timedelta
        (from now). Dates, times, durations and numbers are refused: they leave too much to guess.
    :param zone: IANA name or tzinfo in which a value without an offset is meant; default UTC.
    :param now: the current moment, with a zone.
    :raises InvalidInputError: names ``time_to_send`` or ``timezone``, and what would be accepted.
    """
    local_zone = resolve_zone(zone)
    try:
        if isinstance(value, timedelta):
            later = _in_zone(pendulum.instance(now.astimezone(timezone.utc)) + value, local_zone).utc
            return TimeToSend(later, later.astimezone(local_zone))
        if isinstance(value, str):
            value = _parse(value)
        if isinstance(value, datetime):
            return _in_zone(value, local_zone)
    except (OverflowError, ValueError) as error:
        if isinstance(error, InvalidInputError):
            raise
        raise InvalidInputError.of(FIELD, f"{_shown(value)} is outside the calendar; {_ACCEPTED}") from None
    raise InvalidInputError.of(FIELD, f"{_shown(value)} is {_kind(value)}, which does not say when; {_ACCEPTED}")


def is_local(value: Any) -> bool:
    """Return whether a time has no offset, so that it means another time in each time zone."""
    if isinstance(value, str):
        value = _parse(value)
    return isinstance(value, datetime) and value.utcoffset() is None


def resolve_zone(zone: str | tzinfo | None) -> tzinfo:
    """
    Find a time zone.

    :param zone: an IANA name as ``"Europe/Tallinn"``, a tzinfo, or ``None`` for UTC.
    :raises InvalidInputError: where there is no such zone.
    """
    if zone is None:
        return timezone.utc
    if isinstance(zone, tzinfo):
        return zone
    try:
        return pendulum.timezone(str(zone))
    except (ValueError, LookupError, OSError):
        shown = repr(zone) if len(str(zone)) <= 40 else f"a text of {len(str(zone))} characters"
        raise InvalidInputError.of(
            "timezone", f"{shown} is not a time zone; give an IANA name as 'Europe/Tallinn'"
        ) from None


def as_time_to_send(moment: datetime) -> str:
    """
    Write a moment as it is sent: ISO 8601 in UTC with an explicit offset.

    :param moment: a datetime with a zone.
    """
    return moment.astimezone(timezone.utc).isoformat(timespec="seconds")


def _parse(value: str) -> Any:
    stripped = value.strip()
    if not stripped or stripped.lower() in ("none", "null", "now", "nan", "nat"):
        raise InvalidInputError.of(FIELD, f"{stripped!r} is not a moment; {_ACCEPTED}")
    try:
        return pendulum.parse(stripped, exact=True, tz=None)
    except (ValueError, OverflowError, AttributeError, TypeError):
        raise InvalidInputError.of(FIELD, f"{_shown(value)} is not ISO 8601; {_ACCEPTED}") from None


def _in_zone(value: datetime, zone: tzinfo) -> TimeToSend:
    # Pendulum's datetimes move a skipped time either way, and call a repeated one the later, as their fold says;
    # the standard library's follow PEP 495, where fold=0 moves a skipped time forward and means the earlier.
    is_naive = value.utcoffset() is None
    local = datetime(
        *value.timetuple()[:6],
        value.microsecond,
        tzinfo=zone if is_naive else value.tzinfo,
        fold=0 if is_naive else value.fold,
    )
    written = local.replace(tzinfo=None)
    if local.fold and _moment(local).local.replace(tzinfo=None) < written - timedelta(seconds=1):
        local = local.replace(fold=0)
    moment = _moment(local)
    if moment.local.replace(tzinfo=None) - written >= timedelta(minutes=1):
        return replace(
            moment,
            warning=f"{FIELD}: {written:%Y-%m-%d %H:%M} does not exist in {_zone_name(local)}, where the clock is put "
            f"forward; it is sent at {moment.local:%H:%M} there",
        )
    if is_naive and local.utcoffset() != local.replace(fold=1).utcoffset():
        return replace(
            moment,
            warning=f"{FIELD}: {written:%Y-%m-%d %H:%M} comes twice in {_zone_name(local)}, where the clock is put "
            "back; it is sent at the earlier of the two",
        )
    return moment


def _moment(local: datetime) -> TimeToSend:
    utc = local.astimezone(timezone.utc)
    if utc.microsecond:
        utc = utc.replace(microsecond=0) + timedelta(seconds=1)
    return TimeToSend(utc, utc.astimezone(local.tzinfo))


def _zone_name(moment: datetime) -> str:
    name = getattr(moment.tzinfo, "name", None) or getattr(moment.tzinfo, "key", None) or str(moment.tzinfo)
    return "UTC" if name in ("UTC", "+00:00", "Etc/UTC", "utc") else str(name)


def _shown(value: Any) -> str:
    shown = repr(value) if isinstance(value, (str, int, float)) else str(value)
    return shown if len(shown) <= 40 else f"{shown[:39]}…"


def _kind(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, date):
        return "a date without a time"
    if isinstance(value, time):
        return "a time without a date"
    if isinstance(value, timedelta):  # parsed from a text: as an object it would have been accepted
        return "a duration"
    return "a number" if isinstance(value, (int, float)) else f"a {type(value).__name__}"
