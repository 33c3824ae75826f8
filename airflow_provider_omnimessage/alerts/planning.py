"""When an alert and the steps of its escalation are sent, to whom: each at its time, or in a window after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_omnimessage.alerts.recipients import recipients_at
from airflow_provider_omnimessage.alerts.steps import Notice
from airflow_provider_omnimessage.api.errors import InvalidInputError
from airflow_provider_omnimessage.api.masking import mask_number
from airflow_provider_omnimessage.api.timing import later

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

    from airflow_provider_omnimessage.api.send_times import ChosenTime
    from airflow_provider_omnimessage.api.timing import TimeToSend
    from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook


class PlannedNotice(NamedTuple):
    """
    One message of an alert to one recipient.

    :param time: the wanted time, which may be in the past, and the chosen one; ``chosen=None``: now.
    """

    notice: Notice
    to: str
    time: ChosenTime


class Planner:
    """
    Plans the messages of an alert.

    :param window: as :func:`~airflow_provider_omnimessage.hooks.choosing.alert_time` takes it.
    :param zone: of a window without its own; ``None``: the connection's.
    """

    def __init__(self, hook: OmnimessageHook, log: Logger, window: Any = None, zone: str | None = None) -> None:
        self.hook = hook
        self.log = log
        self.window = window
        self.zone = zone

    def plan(
        self, found: Sequence[Notice], begin: TimeToSend, sent_at: datetime | None = None
    ) -> tuple[list[PlannedNotice], list[InvalidInputError]]:
        """
        Return each message with its recipient and time, and what is wrong with the rest.

        Each step waits for the notice before it: if a window moves that one, the steps that follow move too.

        :param found: the alert and its steps, in order.
        :param begin: when the alert is due; a time in the past means now.
        :param sent_at: when an earlier attempt has sent the alert: its steps count from then; ``None``: it has not.
        """
        planned: list[PlannedNotice] = []
        problems: list[InvalidInputError] = []
        start, after = begin, timedelta(0)
        if begin.utc <= _now():
            # in whole seconds: rounded up, it would be a time in the future
            start = self.hook.resolve_time_to_send((sent_at or _now()).replace(microsecond=0))
        for notice in found:
            # whatever is wrong with one of them must not cost the others theirs
            try:
                wanted = later(begin, notice.after)
                start = later(start, notice.after - after)
                after = notice.after
                numbers, wrong = recipients_at(notice.to, start.utc)
            except Exception as error:
                self.log.error("No recipient for the %s: %s", notice, error)
                problems.append(_as_invalid(error))
                continue
            problems += (InvalidInputError([problem]) for problem in wrong)
            for problem in wrong:
                self.log.error("No %s for one recipient: %s", notice, problem)
            times = []
            for to in numbers:
                try:
                    times.append(self._time(to, wanted, start, after))
                except Exception as error:
                    self.log.error("No %s for %s: %s", notice, mask_number(to), error)
                    problems.append(_as_invalid(error))
                else:
                    planned.append(PlannedNotice(notice, to, times[-1]))
            if self.window is not None:
                start = max((start, *(each.chosen for each in times if each.chosen)), key=lambda time: time.utc)
        return planned, problems

    def _time(self, to: str, wanted: TimeToSend, start: TimeToSend, after: timedelta) -> ChosenTime:
        """
        Return the time of one message.

        :param start: not before this time.
        """
        from airflow_provider_omnimessage.api.send_times import ChosenTime
        from airflow_provider_omnimessage.hooks.choosing import alert_time

        if after and start.utc <= _now():
            # its time has passed
            start = self.hook.resolve_time_to_send(_now() + after)
        if self.window is None:
            return ChosenTime(wanted, start if start.utc > _now() else None)
        choice = alert_time(
            self.hook.settings, to, self.log, time_to_send=start.utc, timezone=self.zone, window=self.window
        )
        return replace(choice, wanted=wanted)


def moved_alert(planned: Sequence[PlannedNotice]) -> ChosenTime | None:
    """Return the latest time of an alert that a window moves; ``None``: it moves none."""
    moved = [each.time for each in planned if not each.notice.number and each.time.chosen and each.time.reason]
    return max(moved, key=lambda time: time.chosen.utc if time.chosen else datetime.min, default=None)


def _as_invalid(error: Exception) -> InvalidInputError:
    if isinstance(error, InvalidInputError):
        return error
    return InvalidInputError.of("escalate", f"failed ({type(error).__name__}: {error}); correct this step")


def _now() -> datetime:
    return datetime.now(timezone.utc)
