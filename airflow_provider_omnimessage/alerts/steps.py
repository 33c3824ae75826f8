"""Escalation: further messages after an alert, all of which are scheduled together with it.

A step is another alert of the same kind, with a later time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from airflow_provider_omnimessage.alerts.recipients import (
    UnknownRecipients,
    as_recipients,
    check_alert_recipients_at_parse,
)
from airflow_provider_omnimessage.api.errors import InvalidInputError, Problem
from airflow_provider_omnimessage.api.messages import draft_messages, sms
from airflow_provider_omnimessage.tasks.rendering import AlertTemplates, unrendered

#: The latest time of a step after its alert. Much later ones are no dates.
LATEST = timedelta(days=365)


class Step(NamedTuple):
    """One step of an escalation: a message that goes out after the alert, unless the alert is cancelled.

    All steps are scheduled at Messente together with the alert, so they go out even if Airflow is down.

    Example::

        escalate=[
            Step(after=timedelta(minutes=15), to="+37255555556"),
            Step(after=timedelta(minutes=30), to=["+37255555556", "+37255555557"], text="Nobody reacts: {{ run_id }}"),
        ]

    :param after: time after the alert, a timedelta of more than 0 and at most 365 days.
    :param to: the recipients, as the alert takes them; default: those of the alert.
    :param text: the message, as one SMS. Default: the alert's messages, with "2nd notice: " before each text.
    :param messages: the message on any channels, instead of ``text``.
    """

    after: timedelta
    to: Any = None
    text: Any = None
    messages: Any = None


class StepTemplates(AlertTemplates):
    """Render the steps of an escalation one by one: a template that fails costs its own step only."""

    def render_template(self, content: Any, *args: Any, **kwargs: Any) -> Any:
        """Render ``content``; a step that cannot be rendered has recipients that name the reason."""
        if not isinstance(content, StepDraft):
            return super().render_template(content, *args, **kwargs)
        rendered = {**content}
        for field in ("to", "messages"):
            try:
                rendered[field] = self.render_template(content[field], *args, **kwargs)
            except Exception as error:
                return {**content, "messages": None, "to": UnknownRecipients(field, unrendered(error))}
        return rendered


class StepDraft(dict[str, Any]):
    """A step as an operator keeps it: ``after``, ``to`` and ``messages``, with their templates."""


class Notice(NamedTuple):
    """One message of an alert: the alert itself, or a step of its escalation.

    :param number: 0: the alert itself.
    :param after: time after the alert.
    """

    number: int
    after: timedelta
    to: Any
    messages: Any

    def __str__(self) -> str:
        """Return its name for a log line."""
        return f"{_ordinal(self.number + 1)} notice" if self.number else "alert"


def plan_escalation(escalate: Any) -> list[dict[str, Any]]:
    """Return the steps as an operator keeps them: dicts that Airflow renders, in the order of their times.

    :param escalate: a list of :class:`Step`; ``None``: no steps.
    :raises InvalidInputError: names everything that is wrong with them.
    """
    if escalate is None:
        return []
    if isinstance(escalate, (str, Mapping, Step)) or not isinstance(escalate, Iterable):
        raise InvalidInputError.of("escalate", "is not a list; pass a list of Step(after=timedelta(minutes=15), ...)")
    problems: list[Problem] = []
    steps: list[dict[str, Any]] = []
    for index, step in enumerate(escalate):
        try:
            steps.append(_checked(step))
        except InvalidInputError as error:
            problems += [Problem(f"escalate[{index}].{field}", reason) for field, reason in error.problems]
    if problems:
        raise InvalidInputError(problems)
    return sorted(steps, key=lambda step: step["after"])


def notices(to: Any, messages: Sequence[Any], escalate: Sequence[Mapping[str, Any]]) -> list[Notice]:
    """Return the alert and its steps, with texts that differ: identical ones to one number are blocked for an hour.

    :param to: the alert's recipients.
    :param messages: the alert's messages, rendered.
    :param escalate: as :func:`plan_escalation` returns it, rendered.
    """
    found = [Notice(0, timedelta(0), to, messages)]
    seen = set(_texts(messages))
    for number, step in enumerate(escalate, 1):
        own = messages if step["messages"] is None else step["messages"]
        if not seen.isdisjoint(_texts(own)):
            own = [_with_prefix(message, f"{_ordinal(number + 1)} notice: ") for message in own]
        seen.update(_texts(own))
        found.append(Notice(number, step["after"], to if step["to"] is None else step["to"], own))
    return found


def _checked(step: Any) -> StepDraft:
    if not isinstance(step, Step):
        raise InvalidInputError.of(
            "after", f"is missing in {type(step).__name__}; use Step(after=timedelta(minutes=15), ...)"
        )
    if not isinstance(step.after, timedelta) or not timedelta(0) < step.after <= LATEST:
        raise InvalidInputError.of(
            "after", f"{step.after!r} is not accepted; use a timedelta of more than 0 and at most {LATEST.days} days"
        )
    if step.text is not None and step.messages is not None:
        raise InvalidInputError.of("text", "found both; pass either text, for an SMS, or messages, for any channels")
    if step.to is not None:
        check_alert_recipients_at_parse(step.to)
    own = [sms(step.text)] if step.text is not None else None
    own = draft_messages(step.messages) if step.messages is not None else own
    return StepDraft(after=step.after, to=as_recipients(step.to), messages=own)


def _texts(messages: Any) -> list[str]:
    if not isinstance(messages, (list, tuple)):
        # a template may render anything; what is no list of messages is rejected when the message is composed
        return []
    texts = [message.get("text") for message in messages if isinstance(message, Mapping)]
    return [str(text.get("body") if isinstance(text, Mapping) else text) for text in texts if text]


def _with_prefix(message: Any, prefix: str) -> Any:
    text = message.get("text") if isinstance(message, Mapping) else None
    if isinstance(text, Mapping) and isinstance(text.get("body"), str):
        return {**message, "text": {**text, "body": prefix + text["body"]}}
    return {**message, "text": prefix + text} if isinstance(text, str) else message


def _ordinal(number: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{'th' if number % 100 in (11, 12, 13) else ending}"
