"""Choose the time of a message by what a call says and, for what it leaves out, by the connection."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Protocol

from airflow_provider_omnimessage.api.errors import InvalidInputError, UnknownZoneError
from airflow_provider_omnimessage.api.masking import mask_number
from airflow_provider_omnimessage.api.number_zones import require_possible
from airflow_provider_omnimessage.api.send_times import ChosenTime, TimeChooser, TimeRules, window_of
from airflow_provider_omnimessage.api.timing import TimeToSend, as_time_to_send, require_after
from airflow_provider_omnimessage.api.windows import RECIPIENT

if TYPE_CHECKING:
    from airflow_provider_omnimessage.api.types import Messages
    from airflow_provider_omnimessage.api.windows import SendWindow
    from airflow_provider_omnimessage.hooks.settings import Settings


#: As the window of an alert: that of the connection.
CONNECTION = "connection"


class _Log(Protocol):
    def info(self, message: str, /, *args: object) -> Any:
        """Log a fact."""

    def warning(self, message: str, /, *args: object) -> Any:
        """Log a warning."""


class Composer(Protocol):
    """What is needed of a hook."""

    @property
    def log(self) -> Any:
        """The hook's logger."""

    @property
    def settings(self) -> Settings:
        """What the connection says."""

    @property
    def compose(self) -> Callable[..., dict[str, Any]]:
        """Returns the body of a message without its time."""


def rules_of(
    settings: Settings,
    *,
    time_to_send: Any = None,
    timezone: str | None = None,
    window: Any = None,
    on_unknown_zone: str | None = None,
) -> TimeRules:
    """
    Return the rules of a call.

    :param timezone: IANA name, or ``"recipient"``; ``None``: the connection's, else UTC.
    :param window: as :meth:`SendWindow.of` takes it; ``None``: the connection's.
    :param on_unknown_zone: ``None``: ``"fail"``.
    """
    return TimeRules(
        time_to_send=time_to_send,
        timezone=timezone or settings.timezone,
        window=window_of(window, settings.window),
        on_unknown_zone=on_unknown_zone or "fail",
    )


def choose_time(rules: TimeRules, to: str, log: _Log) -> ChosenTime:
    """
    Return when a message is sent; log what clock changes and the window do to the wanted time.

    :param to: the recipient in E.164 format.
    :raises InvalidInputError: as :meth:`TimeChooser.choose` does.
    """
    chooser = TimeChooser(rules, now=current_time())
    choice = chooser.choose(to)
    for warning in chooser.warnings:
        log.warning(warning)
    if choice.reason:
        log.info("Wanted: %s. Chosen: %s: %s", choice.wanted or "now", choice.chosen or "now", choice.reason)
    return choice


def prepare(
    hook: Composer,
    to: str,
    messages: Messages,
    *,
    time_to_send: Any = None,
    timezone: str | None = None,
    window: SendWindow | str | None = None,
    on_unknown_zone: str = "fail",
    **options: Any,
) -> dict[str, Any]:
    """
    Return the whole body of a message, with its time, all of it checked.

    The parameters are those of the hook's ``send``.

    :param options: what the hook's ``compose`` takes.
    """
    if on_unknown_zone == "drop":
        raise InvalidInputError.of(
            "on_unknown_zone", "'drop' is for tasks; use 'fail' and catch UnknownZoneError, or use a time zone"
        )
    draft = hook.compose(to, messages, **options)
    require_possible(draft["to"])
    chosen: TimeToSend | None
    if isinstance(time_to_send, TimeToSend):
        chosen = time_to_send
    else:
        rules = rules_of(
            hook.settings,
            time_to_send=time_to_send,
            timezone=timezone,
            window=window,
            on_unknown_zone=on_unknown_zone,
        )
        try:
            chosen = choose_time(rules, draft["to"], hook.log).chosen
        except UnknownZoneError:
            number = mask_number(draft["to"])
            raise UnknownZoneError.of(
                "timezone", f"the time zone of {number} is unknown; pass a time zone as on_unknown_zone"
            ) from None
        if chosen is not None:
            require_future(chosen)
    return {**draft, "time_to_send": as_time_to_send(chosen.utc)} if chosen else draft


def alert_time(
    settings: Settings,
    to: str,
    log: _Log,
    *,
    time_to_send: Any = None,
    timezone: str | None = None,
    window: object = None,
) -> ChosenTime:
    """
    Return when an alert is sent. A time in the past means now, or the next time in the window.

    Neither an unknown zone nor a window stops an alert: a window that cannot be applied is ignored, and if the zone of
    the recipient is unknown, the time is in that of the connection.

    :param to: the recipient in E.164 format.
    :param time_to_send: ``None``: now.
    :param timezone: IANA name, or ``"recipient"``; ``None``: the connection's, else UTC.
    :param window: as :meth:`SendWindow.of` takes it; ``"connection"``: the connection's; ``None``: any time.
    :raises InvalidInputError: if the time itself is wrong.
    """
    zone = timezone or settings.timezone

    def choose(value: Any) -> ChosenTime:
        try:
            own = settings.window if window == CONNECTION else window_of(window, None)
            return choose_time(TimeRules(value, zone, own, "drop"), to, log)
        except InvalidInputError as error:
            if window is not None:
                log.warning("The window of this alert is ignored: %s", error)
        try:
            return choose_time(TimeRules(value, zone, on_unknown_zone="drop"), to, log)
        except InvalidInputError as error:
            if zone != RECIPIENT:
                raise
            log.warning("The time of this alert is in the time zone of the connection: %s", error)
        return choose_time(TimeRules(value, settings.timezone), to, log)

    choice = choose(time_to_send)
    if choice.chosen is not None and choice.chosen.utc <= current_time():
        choice = replace(choose(None), wanted=choice.wanted)
    return choice


def require_future(time_to_send: TimeToSend) -> None:
    """
    Raise if a time is in the past: Messente would send the message at once.

    :raises PastTimeToSendError: if it is.
    """
    require_after(time_to_send, current_time())


def current_time() -> datetime:
    """Return the current time, in UTC."""
    return datetime.now(timezone.utc)
