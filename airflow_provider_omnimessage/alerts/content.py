"""What an alert says and whom it goes to, checked while the DAG is parsed as far as it is known by then."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow_provider_omnimessage.alerts.recipients import (
    TimedRecipients,
    as_recipients,
    check_alert_recipients_at_parse,
)
from airflow_provider_omnimessage.api import timing
from airflow_provider_omnimessage.api.errors import InvalidInputError, Problem
from airflow_provider_omnimessage.api.fields import is_deferred
from airflow_provider_omnimessage.api.messages import draft_messages, draft_omnimessage, sms
from airflow_provider_omnimessage.tasks.arguments import RECIPIENT, check_window_at_parse

_RENDERED_LATER = "{{ to }}"


def alert_messages(text: Any, messages: Any) -> Any:
    """Return the messages of an alert: those passed in, or one SMS with ``text``.

    :raises InvalidInputError: if neither or both are passed, or a message is invalid.
    """
    if (text is None) == (messages is None):
        found = "neither of them" if text is None else "both"
        raise InvalidInputError.of(
            "text", f"found {found}; pass either text, for an SMS, or messages, for any channels"
        )
    return [sms(text)] if messages is None else draft_messages(messages)


def check_alert_at_parse(
    *,
    to: Any,
    messages: Any,
    timezone: Any = None,
    dlr_url: Any = None,
    text_store: Any = None,
    priority: Any = None,
) -> None:
    """Raise for everything that is wrong with an alert by the time the DAG is parsed.

    What a template renders later is let through here, and checked when the task runs.

    :param messages: as :func:`alert_messages` returns them; ``None``: the text is not known yet.
    :raises InvalidInputError: names each invalid parameter.
    """
    problems: list[Problem] = []

    def collect(check: Any, *args: Any, **kwargs: Any) -> None:
        try:
            check(*args, **kwargs)
        except InvalidInputError as error:
            problems.extend(error.problems)

    collect(check_alert_recipients_at_parse, to)
    collect(
        draft_omnimessage,
        _RENDERED_LATER,
        [sms("text")] if messages is None else messages,
        dlr_url=dlr_url,
        text_store=text_store,
        priority=priority,
    )
    if timezone == RECIPIENT:
        reason = (
            "'recipient' is not accepted: this alert has one time for all recipients; use an IANA name, or "
            "window='09:00-20:00; timezone=recipient'"
        )
        problems.append(Problem("timezone", reason))
    elif not is_deferred(timezone):
        collect(timing.resolve_zone, timezone)
    if problems:
        raise InvalidInputError(problems)


def check_alert_window(window: Any, to: Any, steps: Sequence[Mapping[str, Any]] = ()) -> Any:
    """Check the window of an alert while the DAG is parsed, and return it as plain data.

    :param window: a window, ``"connection"``, or ``None``: any time.
    :param to: the alert's recipients.
    :param steps: of its escalation.
    :raises InvalidInputError: also if it is known for a time only who is alerted: the window would move the alert to a
        time at which somebody else is.
    """
    if window is None:
        return None
    recipients = [to, *(step["to"] for step in steps)]
    if any(isinstance(as_recipients(each), TimedRecipients) for each in recipients):
        raise InvalidInputError.of(
            "window",
            "cannot be combined with recipients that depend on the time; pass numbers as to, or leave it out",
        )
    return window if window == "connection" else check_window_at_parse(window, "fail")
