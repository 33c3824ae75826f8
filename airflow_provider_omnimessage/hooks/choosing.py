"""Choose the time of a message by what a call says and, for what it leaves out, by the connection."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Protocol

from airflow_provider_omnimessage.api.errors import InvalidInputError
from airflow_provider_omnimessage.api.number_zones import require_possible
from airflow_provider_omnimessage.api.send_times import ChosenTime, TimeChooser, TimeRules, window_of
from airflow_provider_omnimessage.api.timing import TimeToSend, as_time_to_send, require_after

if TYPE_CHECKING:
    from airflow_provider_omnimessage.api.types import Messages
    from airflow_provider_omnimessage.api.windows import SendWindow
    from airflow_provider_omnimessage.hooks.settings import Settings


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
        chosen = choose_time(rules, draft["to"], hook.log).chosen
        if chosen is not None:
            require_future(chosen)
    return {**draft, "time_to_send": as_time_to_send(chosen.utc)} if chosen else draft


def alert_time(settings: Settings, window: object, to: str, wanted: TimeToSend | None, log: _Log) -> TimeToSend | None:
    """
    Return when an alert is sent; ``None``: now. An alert whose window cannot be applied is sent at its wanted time.

    :param window: as :meth:`SendWindow.of` takes it; ``"connection"``: the connection's.
    :param to: the recipient in E.164 format.
    """
    try:
        of_alert = settings.window if window == "connection" else window_of(window, None)
        rules = TimeRules(wanted.utc if wanted else None, settings.timezone, of_alert)
        choice = choose_time(rules, to, log)
    except InvalidInputError as error:
        log.warning("The window of this alert is ignored: %s", error)
        return wanted
    return wanted if choice.chosen is None or choice.wanted == choice.chosen else choice.chosen


def require_future(time_to_send: TimeToSend) -> None:
    """
    Raise if a time is in the past: Messente would send the message at once.

    :raises PastTimeToSendError: if it is.
    """
    require_after(time_to_send, current_time())


def current_time() -> datetime:
    """Return the current time, in UTC."""
    return datetime.now(timezone.utc)
