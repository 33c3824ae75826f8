"""
Compose the omnimessage of each row of a bulk send, and collect what is wrong with the other rows.

A row is one entry of ``omnimessages`` or ``recipients``. Rows are counted from 1 in the order of the input. That order
alone decides which entry of a response belongs to which row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from airflow_provider_omnimessage.api.calls import Call, send_bulk
from airflow_provider_omnimessage.api.channels import rule_of
from airflow_provider_omnimessage.api.errors import InvalidInputError, Problem, UnknownZoneError
from airflow_provider_omnimessage.api.fields import Problems, Rule, describe, phone_number
from airflow_provider_omnimessage.api.lists import plain_argument
from airflow_provider_omnimessage.api.messages import checked_omnimessage
from airflow_provider_omnimessage.api.number_zones import require_possible
from airflow_provider_omnimessage.api.placeholders import Filler, compile_placeholders
from airflow_provider_omnimessage.api.records import as_plain, is_mapping
from airflow_provider_omnimessage.api.responses import Accepted, NotAccepted, Response
from airflow_provider_omnimessage.api.send_times import ChosenTime, TimeChooser, TimeRules
from airflow_provider_omnimessage.api.windows import RECIPIENT

#: The largest number of messages in one call: what Messente recommends.
MOST_IN_A_CALL = 1000
#: How many problems are reported one by one. The others are counted.
PROBLEMS_REPORTED = 20


class Composed(NamedTuple):
    """
    A row that can be sent.

    :param to: the recipient in E.164.
    :param choice: when it is sent.
    :param body: the omnimessage, without its time.
    """

    to: str
    choice: ChosenTime
    body: dict[str, Any]


class Composer:
    """
    Build the omnimessage of each row, checked against every known rule.

    Example::

        composer = Composer(
            messages=[sms("Hello $name")],
            defaults={"priority": "low"},
            sender=None,
            rules=TimeRules("2026-11-24T09:00", "Europe/Tallinn"),
            now=datetime.now(timezone.utc),
        )
        composer.compose({"to": "+37255555555", "name": "Mari"}).body

    :param messages: what each recipient gets, with ``$name`` for their fields; ``None`` if each row is a whole
        omnimessage.
    :param defaults: ``dlr_url``, ``text_store`` and ``priority`` for rows without their own.
    :param sender: for messages without their own.
    :param rules: the time of rows without their own, its zone, and the window of all.
    :param now: with a zone; a ``timedelta`` is added to it.
    :raises InvalidInputError: if the messages or the time are wrong for every row.
    """

    def __init__(
        self,
        *,
        messages: object,
        defaults: Mapping[str, object],
        sender: str | None,
        rules: TimeRules,
        now: datetime,
    ) -> None:
        self._messages = messages
        self._defaults = {name: value for name, value in defaults.items() if value is not None}
        self._sender = sender
        self._drops_unknown_zones = rules.on_unknown_zone == "drop"
        self._asks_for_zones = rules.asks_for_zones
        self._any_time = rules.time_to_send is None and rules.window is None
        self.chooser = TimeChooser(rules, now=now)
        self._fill: Filler | None = None
        self._filled_texts: list[_FilledText] | None = None
        self._checked_body: dict[str, Any] | None = None
        if messages is not None:
            problems = Problems()
            self._messages = plain_argument(messages)
            self._fill = compile_placeholders(self._messages, "messages", problems)
            problems.raise_if_any()
            self._filled_texts = _find_filled_texts(self._messages)

    def compose(self, row: object) -> Composed:
        """
        Build the omnimessage of one row.

        :param row: a recipient, ``{"to", "time_to_send", "timezone", and any fields}``, or a whole omnimessage.
        :raises InvalidInputError: with everything that is wrong with it.
        """
        fields = as_plain(row)
        if not is_mapping(fields):
            raise InvalidInputError.of("row", f"{describe(row)} is not accepted; pass a dict with 'to'")
        problems = Problems()
        body = self._compose_quickly(fields)
        if body is None:
            body = self._compose_and_check(fields, problems)
        choice = _NOW
        own_time = fields.get("time_to_send")
        own_zone = fields.get("timezone")
        is_sound = not problems  # otherwise it may lack its number
        try:
            if is_sound:
                require_possible(body["to"])
            asks_for_zones = self._asks_for_zones or own_zone == RECIPIENT
            if (own_time is not None or not self._any_time) and (is_sound or not asks_for_zones):
                # an empty cell of a CSV file means that the row has no time of its own, and so does a None as text
                has_none = isinstance(own_time, str) and own_time in ("", "None")
                choice = self.chooser.choose(str(body.get("to")), None if has_none else own_time, own_zone)
        except UnknownZoneError as error:
            if self._drops_unknown_zones and not problems:
                raise
            problems.extend(error.problems)
        except InvalidInputError as error:
            problems.extend(error.problems)
        problems.raise_if_any()
        return Composed(body["to"], choice, body)

    def _compose_and_check(self, fields: Mapping[str, object], problems: Problems) -> dict[str, Any]:
        if self._messages is not None:
            messages = self._fill(fields, problems) if self._fill else self._messages
            message = {"to": fields.get("to"), "messages": messages}
        else:
            message = {
                name: value
                for name, value in fields.items()
                if value is not None and name not in ("time_to_send", "timezone")
            }
        if problems:  # a text with a missing field would only cause more problems
            return message
        body = checked_omnimessage({**self._defaults, **message}, self._sender, problems)
        if self._filled_texts is not None and not problems:
            self._checked_body = body
        return body

    def _compose_quickly(self, fields: Mapping[str, object]) -> dict[str, Any] | None:
        """
        Build a message like an earlier one that passed all checks, and check only the texts that differ.

        Return ``None`` if there is no earlier one, or if anything is wrong: the full check then reports it.
        """
        if self._checked_body is None or self._filled_texts is None:
            return None
        problems = Problems()
        messages = [*self._checked_body["messages"]]
        for position, name, fill, rule in self._filled_texts:
            filled = rule(fill(fields, problems), name, problems)
            messages[position] = {**messages[position], name: filled}
        to = _PHONE_NUMBER(fields.get("to"), "to", problems)
        return None if problems else {**self._checked_body, "to": to, "messages": messages}


class RowProblems:
    """Collect what is wrong with which rows: the first problems in words, all of them counted."""

    def __init__(self) -> None:
        self.rows = 0
        self.problems = 0
        self._reported: list[Problem] = []

    def add(self, row: int, problems: Sequence[Problem]) -> None:
        """Add all problems of one row."""
        self.rows += 1
        self.problems += len(problems)
        for problem in problems[: PROBLEMS_REPORTED - len(self._reported)]:
            name = "" if problem.field == "row" else f", {problem.field}"
            self._reported.append(Problem(f"row {row:,}{name}", problem.reason))

    @property
    def reported(self) -> list[Problem]:
        """The first problems, each with its row as the field."""
        return list(self._reported)

    def as_error(self, rows: int) -> InvalidInputError:
        """
        Return one error that reports all problems.

        :param rows: how many rows there are in total.
        """
        reported = list(self._reported)
        more = self.problems - len(reported)
        if more:
            reported.append(Problem("and", f"{more:,} more problem{'s' if more > 1 else ''}"))
        first, *others = reported
        summary = f"{self.rows:,} of {rows:,} rows cannot be sent: {first.field}"
        return InvalidInputError([Problem(summary, first.reason), *others])


@dataclass(frozen=True)
class BulkCall(Call[list[Accepted | NotAccepted]]):
    """
    ``POST /omnimessages`` whose messages are chosen anew before each attempt.

    A call that is rate limited can wait for minutes. Meanwhile the time of some messages may pass.

    :param choose: returns the messages as JSON. What it raises ends the call, and nothing is sent.
    """

    choose: Callable[[], Sequence[bytes]] = list
    _attempt: list[Call[list[Accepted | NotAccepted]]] = field(default_factory=list, repr=False)

    @classmethod
    def of(cls, choose: Callable[[], Sequence[bytes]]) -> BulkCall:
        """Return the call for messages that ``choose`` returns."""
        call = send_bulk([])
        return cls(call.name, call.method, call.path, call.read, choose=choose)

    @property
    def content(self) -> bytes | None:
        """The JSON of the next attempt."""
        self._attempt[:] = [send_bulk(self.choose())]
        return self._attempt[0].content

    def result(self, response: Response) -> list[Accepted | NotAccepted]:
        """Return an entry for each message of the last attempt, in order."""
        return self._attempt[0].result(response)


class _FilledText(NamedTuple):
    """A text that differs for each recipient, with the rule that checks it."""

    position: int
    field: str
    fill: Filler
    rule: Rule


_PHONE_NUMBER = phone_number()
_NOW = ChosenTime()


def _find_filled_texts(messages: object) -> list[_FilledText] | None:
    """Find the texts with placeholders; ``None`` if anything but a whole text of a message has one."""
    found: list[_FilledText] = []
    for position, message in enumerate(messages if isinstance(messages, list) else ()):
        for name, value in message.items() if is_mapping(message) else ():
            path = f"messages[{position}].{name}"
            fill = compile_placeholders(value, path, Problems())
            rule = rule_of(message.get("channel"), str(name))
            if fill is None or name == "channel":
                continue
            if not isinstance(value, str) or rule is None:
                return None
            found.append(_FilledText(position, str(name), fill, rule))
    return found


def too_many_rejected(rejected: int, of: int, max_failed: float) -> bool:
    """
    Return whether Messente rejected more messages than allowed.

    :param rejected: how many messages were rejected.
    :param of: how many were accepted or rejected.
    :param max_failed: a number of messages (int), or a share of them (float, 0 to 1).
    """
    return rejected > (max_failed if isinstance(max_failed, int) else math.floor(max_failed * of + 1e-9))
