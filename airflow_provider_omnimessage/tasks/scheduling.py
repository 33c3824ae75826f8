"""When the message of a task is sent: its time, zone and window, and what to do if that time is in the past."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from airflow_provider_omnimessage._compat import AirflowSkipException
from airflow_provider_omnimessage.api.errors import PastTimeToSendError, UnknownZoneError
from airflow_provider_omnimessage.api.number_zones import require_possible
from airflow_provider_omnimessage.api.send_times import ChosenTime, TimeChooser, TimeRules
from airflow_provider_omnimessage.hooks.choosing import choose_time, current_time, require_future, rules_of

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

    from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook


@dataclass(frozen=True)
class Schedule:
    """
    When to send, and what to do if that time is in the past.

    :param time_to_send: an ISO 8601 date and time, a datetime, or a timedelta from now; ``None``: now.
    :param why_now: why a message whose time is in the past is sent now, for the log.
    :param timezone: IANA name for a time without an offset, or ``"recipient"``; ``None``: the connection's, else UTC.
    :param window: as the operators take it; ``None``: the connection's.
    :param on_unknown_zone: as the operators take it.
    """

    time_to_send: object = None
    timezone: str | None = None
    on_past: Literal["fail", "skip", "send_now"] = "fail"
    window: object = None
    on_unknown_zone: str = "fail"
    why_now: str = "on_past='send_now'"

    def but_now_if_past(self, why: str) -> Schedule:
        """Return the same for a message that must be sent, whatever ``on_past`` says."""
        return replace(self, on_past="send_now", why_now=why)

    def choose(self, hook: OmnimessageHook, to: str, log: Logger) -> ChosenTime:
        """
        Return when to send, whether or not that is in the past.

        :param to: the recipient in E.164 format.
        :raises AirflowSkipException: if the recipient's zone is unknown and ``on_unknown_zone`` is ``"drop"``.
        """
        require_possible(to)
        try:
            return choose_time(self._rules(hook), to, log)
        except UnknownZoneError as error:
            if self.on_unknown_zone == "drop":
                raise AirflowSkipException(f"Not sent, because on_unknown_zone='drop': {error}") from None
            raise

    def judge(self, hook: OmnimessageHook, choice: ChosenTime, log: Logger) -> ChosenTime:
        """
        Return the choice if its time is in the future, or one for now, also if only the window delayed the message.

        :raises PastTimeToSendError: if it is in the past and ``on_past`` is ``"fail"``.
        :raises AirflowSkipException: if it is in the past and ``on_past`` is ``"skip"``.
        """
        if choice.chosen is None:
            return choice
        try:
            require_future(choice.chosen)
            return choice
        except PastTimeToSendError as error:
            if not choice.is_for_now:
                if self.on_past == "skip":
                    raise AirflowSkipException(f"Not scheduled: {error}") from None
                if self.on_past == "fail":
                    raise
                log.warning("%s is in the past: sending now, because %s", choice.chosen, self.why_now)
        now = current_time()
        return TimeChooser(self._rules(hook), now=now).send_now(choice, now)

    def _rules(self, hook: OmnimessageHook) -> TimeRules:
        return rules_of(
            hook.settings,
            time_to_send=self.time_to_send,
            timezone=self.timezone,
            window=self.window,
            on_unknown_zone=self.on_unknown_zone,
        )
