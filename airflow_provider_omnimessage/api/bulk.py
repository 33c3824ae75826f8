"""
Many messages at once: what each row of the input becomes, and what is wrong with the rest.

A row is one entry of ``omnimessages`` or ``recipients``. Rows are counted from 1, in the order in which they come, and
nothing but that order is needed to know which answer belongs to which row.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from airflow_provider_omnimessage.api import timing
from airflow_provider_omnimessage.api.channels import rule_of
from airflow_provider_omnimessage.api.errors import InvalidInputError, Problem
from airflow_provider_omnimessage.api.fields import Problems, Rule, as_plain, describe, is_mapping, phone_number
from airflow_provider_omnimessage.api.messages import checked_omnimessage
from airflow_provider_omnimessage.api.placeholders import Filler, compile_placeholders
from airflow_provider_omnimessage.api.timing import TimeToSend

#: The most messages that one call may take: what Messente recommends.
MOST_IN_A_CALL = 1000
#: So many problems are told one by one, the rest by their number.
PROBLEMS_TOLD = 20
#: Distinct moments that are remembered, so that a common one is worked out once.
_MOMENTS_KEPT = 1024


class Composed(NamedTuple):
    """
    A row that can be sent.

    :param to: the recipient in E.164.
    :param moment: when it is to be sent; ``None``: at once.
    :param body: what is posted, without its time.
    """

    to: str
    moment: TimeToSend | None
    body: dict[str, Any]


class Composer:
    """
    Makes an omnimessage of each row, checked against every rule that is known.

    :param messages: for rows that are recipients: what each of them gets, with ``$name`` for their fields; ``None``
        where each row is a whole omnimessage.
    :param defaults: ``dlr_url``, ``text_store`` and ``priority`` for rows that have none.
    :param sender: for messages that name none.
    :param time_to_send: for rows that have none; ``None``: at once.
    :param timezone: for moments without an offset, where the row names no zone.
    :param now: what a ``timedelta`` is counted from, with a zone.
    :raises InvalidInputError: for messages or a time that no row can be sent with.
    """

    def __init__(
        self,
        *,
        messages: Any,
        defaults: Mapping[str, Any],
        sender: str | None,
        time_to_send: Any,
        timezone: str | None,
        now: datetime,
    ) -> None:
        self._messages = messages
        self._defaults = {name: value for name, value in defaults.items() if value is not None}
        self._sender = sender
        self._time_to_send = time_to_send
        self._timezone = timezone
        self._now = now
        self._moments: dict[Any, TimeToSend] = {}
        self._fill: Filler | None = None
        self._quick: list[_Part] | None = None
        self._model: dict[str, Any] | None = None
        self.warnings: list[str] = []
        if messages is not None:
            problems = Problems()
            self._messages = plain_messages(messages)
            self._fill = compile_placeholders(self._messages, "messages", problems)
            problems.raise_if_any()
            self._quick = _parts(self._messages)
        if time_to_send is not None:
            self._moment(time_to_send, timezone)

    def compose(self, row: Any) -> Composed:
        """
        Make the omnimessage of one row.

        :param row: a recipient, ``{"to", "time_to_send", "timezone", and any fields}``, or a whole omnimessage.
        :raises InvalidInputError: with everything that is wrong with it.
        """
        given = as_plain(row)
        if not is_mapping(given):
            raise InvalidInputError.of("row", f"{describe(row)} is not accepted; give a dict with 'to'")
        problems = Problems()
        body = self._quickly(given)
        if body is not None:
            time_to_send, timezone = given.get("time_to_send"), given.get("timezone")
        elif self._messages is not None:
            message = {"to": given.get("to"), "messages": self._filled(given, problems)}
            time_to_send, timezone = given.get("time_to_send"), given.get("timezone")
        else:
            message = {name: value for name, value in given.items() if value is not None}
            time_to_send, timezone = message.pop("time_to_send", None), message.pop("timezone", None)
        moment = None
        if body is None and not problems:
            body = checked_omnimessage({**self._defaults, **message}, self._sender, problems)
            if self._quick is not None and not problems:
                self._model = body
        # an empty cell of a CSV is no time of its own
        time_to_send = self._time_to_send if time_to_send in (None, "") else time_to_send
        if time_to_send is not None:
            try:
                moment = self._moment(time_to_send, timezone or self._timezone)
            except InvalidInputError as error:
                problems.extend(error.problems)
        problems.raise_if_any()
        assert body is not None
        return Composed(body["to"], moment, body)

    def _quickly(self, fields: Mapping[str, Any]) -> dict[str, Any] | None:
        """
        Make a message like one that was checked as a whole: only what is filled in is looked at again.

        ``None`` where there is none yet, or anything is wrong with this one, which is then to be told in full.
        """
        if self._model is None or self._quick is None:
            return None
        problems = Problems()
        messages = [*self._model["messages"]]
        for position, field, fill, rule in self._quick:
            filled = rule(fill(fields, problems), field, problems)
            messages[position] = {**messages[position], field: filled}
        to = _PHONE_NUMBER(fields.get("to"), "to", problems)
        return None if problems else {**self._model, "to": to, "messages": messages}

    def _filled(self, fields: Mapping[str, Any], problems: Problems) -> Any:
        return self._fill(fields, problems) if self._fill else self._messages

    def _moment(self, value: Any, zone: Any) -> TimeToSend:
        try:
            known = self._moments.get((value, zone))
        except TypeError:  # a list or a dict, in the place of a moment or a zone: refused by name
            return timing.resolve(value, zone=zone, now=self._now)
        if known is None:
            known = timing.resolve(value, zone=zone, now=self._now)
            if len(self._moments) < _MOMENTS_KEPT:
                self._moments[(value, zone)] = known
                if known.warning:
                    self.warnings.append(known.warning)
        return known


class RowProblems:
    """What is wrong with which rows: the first few in words, all of them counted."""

    def __init__(self) -> None:
        self.rows = 0
        self.problems = 0
        self.told: list[Problem] = []

    def add(self, row: int, problems: tuple[Problem, ...]) -> None:
        """
        Note what is wrong with a row.

        :param row: which, from 1.
        :param problems: everything that was found.
        """
        self.rows += 1
        self.problems += len(problems)
        for problem in problems[: PROBLEMS_TOLD - len(self.told)]:
            field = "" if problem.field == "row" else f", {problem.field}"
            self.told.append(Problem(f"row {row:,}{field}", problem.reason))

    def as_error(self, rows: int) -> InvalidInputError:
        """
        Say it in one report.

        :param rows: how many rows there were in all.
        """
        told = list(self.told)
        untold = self.problems - len(told)
        if untold:
            told.append(Problem("and", f"{untold:,} more problem{'s' if untold > 1 else ''}"))
        first, *others = told
        head = f"{self.rows:,} of {rows:,} rows cannot be sent: {first.field}"
        return InvalidInputError([Problem(head, first.reason), *others])


class _Part(NamedTuple):
    """A text of one of the messages that is filled for each recipient, with the rule for it."""

    position: int
    field: str
    fill: Filler
    rule: Rule


_PHONE_NUMBER = phone_number()


def _parts(messages: Any) -> list[_Part] | None:
    """Find what is filled in; ``None`` where it is not whole texts of the messages alone."""
    parts: list[_Part] = []
    for position, message in enumerate(messages if isinstance(messages, list) else ()):
        for field, value in message.items() if is_mapping(message) else ():
            fill = compile_placeholders({field: value}, f"messages[{position}]", Problems())
            rule = rule_of(message.get("channel"), str(field))
            if fill is None:
                continue
            if not isinstance(value, str) or rule is None:
                return None
            filler = compile_placeholders(value, f"messages[{position}].{field}", Problems())
            assert filler is not None
            parts.append(_Part(position, str(field), filler, rule))
    return parts


def plain_messages(messages: Any) -> Any:
    """
    Turn the official client's objects into the dicts that they stand for.

    :param messages: a list of messages.
    """
    if isinstance(messages, (list, tuple)):
        return [as_plain(message) for message in messages]
    return messages


def too_many_failed(failed: int, of: int, max_failed: float) -> bool:
    """
    Tell whether more messages were refused than are put up with.

    :param failed: how many Messente refused.
    :param of: how many it was asked for.
    :param max_failed: a number of messages (int), or a share of them (float, 0 to 1).
    """
    return failed > (max_failed if isinstance(max_failed, int) else math.floor(max_failed * of + 1e-9))


def require_limit(field: str, value: object) -> None:
    """
    Demand a number of messages or a share of them.

    :param field: what it is called.
    :param value: an int from 0, or a float from 0 to 1.
    :raises InvalidInputError: for anything else.
    """
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or value < 0 or (isinstance(value, float) and not value <= 1):  # type: ignore[operator]
        raise InvalidInputError.of(
            field, f"{value!r} is not accepted; give a whole number of messages, or a share of them from 0.0 to 1.0"
        )
