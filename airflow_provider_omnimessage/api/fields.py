"""
The rules for single values: each checks a value and returns it as it will be sent.

A rule takes ``(value, field, problems)``. It adds what it does not accept to ``problems``, with the field, the value
(never a text) and what it would accept. It goes on after that, so one error reports everything. While a DAG is parsed,
a *deferred* value (a Jinja template, an XComArg) is not known yet: a draft lets it pass, and it is checked when it is
rendered. The rules for dicts and lists are in :mod:`~airflow_provider_omnimessage.api.records`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from airflow_provider_omnimessage.api.errors import InvalidInputError, Problem
from airflow_provider_omnimessage.api.masking import SEPARATORS, mask_number


class Problems(list[Problem]):
    """
    What a check has found so far.

    :param draft: whether to let deferred values pass.
    """

    def __init__(self, *, draft: bool = False) -> None:
        super().__init__()
        self.draft = draft

    def reject(self, field: str, reason: str) -> None:
        """
        Add a problem.

        :param field: the path of the field.
        :param reason: what is wrong and what would be accepted.
        """
        self.append(Problem(field, reason))

    def raise_if_any(self) -> None:
        """
        Raise if there are problems.

        :raises InvalidInputError: with all of them.
        """
        if self:
            raise InvalidInputError(self)


#: ``Any``: what a rule returns depends on the rule.
Rule = Callable[[object, str, Problems], Any]

# compiled when they are first used
_HALF_A_PAIR = "[\ud800-\udfff]"
_E164 = r"\+[1-9][0-9]{6,14}"
_WANTED_NUMBER = "use E.164 format: a string of +, country code and number, 7 to 15 digits in total"


def is_deferred(value: object) -> bool:
    """Return whether Airflow knows the value only when the task runs: a template, an XComArg, a mapped argument."""
    if isinstance(value, str):
        return "{{" in value or "{%" in value or "{#" in value
    return hasattr(value, "iter_references")


def is_uncalled_task(value: object) -> bool:
    """Return whether a value is a function with ``@task`` that was passed without being called."""
    return callable(value) and hasattr(value, "override") and hasattr(value, "expand")


def describe(value: object) -> str:
    """Return words for a value that do not show any text or phone number."""
    if value is None:
        return "None"
    if isinstance(value, (bool, int, float)):
        return repr(value)
    if isinstance(value, str):
        return "an empty text" if not value.strip() else f"a text of {len(value):,} characters"
    return f"a {type(value).__name__}"


def require(field: str, value: object, rule: Rule, *, rendered: bool = False) -> Any:
    """
    Return a checked argument of an operator.

    :param field: the name of the argument.
    :param value: its value. While the DAG is parsed, deferred values pass.
    :param rule: what is accepted, such as ``choice("fail", "skip")``.
    :param rendered: whether templates are rendered by now, so that none may be left.
    :raises InvalidInputError: with the field, the value and what is accepted.
    """
    problems = Problems(draft=not rendered)
    checked = apply(rule, value, field, problems)
    problems.raise_if_any()
    return checked


def apply(rule: Rule, value: object, field: str, problems: Problems) -> Any:
    """Check a value, or let it pass if it is deferred and the check is one of a draft."""
    if problems.draft and is_deferred(value):
        return value
    return rule(value, field, problems)


def text(*, shortest: int = 1, longest: int | None = None) -> Rule:
    """
    Accept a text, and never show it.

    :param shortest: in characters.
    :param longest: in characters; ``None``: no limit.
    """
    span = f"{shortest} to {longest:,} characters" if longest else "a text that is not empty"

    def check(value: object, field: str, problems: Problems) -> object:
        if not isinstance(value, str):
            problems.reject(field, f"{describe(value)} is not a text; pass {span}")
        elif not value.strip() or len(value) < shortest or (longest is not None and len(value) > longest):
            problems.reject(field, f"{describe(value)} is too short or too long; pass {span}")
        elif re.search(_HALF_A_PAIR, value):
            problems.reject(field, "contains half of a surrogate pair, which no channel can carry; pass valid Unicode")
        return value

    return check


def integer(*, least: int = 1, most: int | None = None, unit: str) -> Rule:
    """
    Accept a whole number, or its digits (what a Jinja template renders).

    :param most: ``None``: no limit.
    :param unit: what it counts.
    """
    span = f"a whole number of {unit}, " + (f"{least} to {most:,}" if most else f"{least} or more")

    def check(value: object, field: str, problems: Problems) -> object:
        number = value
        if isinstance(value, str) and re.fullmatch(r"\s*[0-9]{1,18}\s*", value):
            number = int(value)
        if isinstance(number, bool) or not isinstance(number, int):
            problems.reject(field, f"{describe(value)} is not accepted; use {span}")
        elif number < least or (most is not None and number > most):
            problems.reject(field, f"{number:,} is not accepted; use {span}")
        return number

    return check


def number() -> Rule:
    """Accept any number, or its text, such as a coordinate."""

    def check(value: object, field: str, problems: Problems) -> object:
        number = _as_float(value)
        if not math.isfinite(number):
            problems.reject(field, f"{describe(value)} is not a number; use one such as 59.44")
        return number if isinstance(value, str) else value

    return check


def positive_number(*, most: float, unit: str) -> Rule:
    """
    Accept a number greater than 0, or its text, such as a number of seconds.

    :param unit: what it counts.
    """

    def check(value: object, field: str, problems: Problems) -> float:
        number = _as_float(value)
        if not 0 < number <= most:
            problems.reject(field, f"{describe(value)} is not accepted; use {unit}, more than 0 and at most {most:,}")
        return number

    return check


def _as_float(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return math.nan
    try:
        return float(value)
    except (ValueError, OverflowError):
        return math.nan


def share() -> Rule:
    """Accept a share from 0.0 to 1.0, such as a part of many messages."""

    def check(value: object, field: str, problems: Problems) -> object:
        if not isinstance(value, float) or not 0.0 <= value <= 1.0:
            problems.reject(field, f"{describe(value)} is not accepted; use a share from 0.0 to 1.0")
        return value

    return check


def limit() -> Rule:
    """Accept a number of messages (an int from 0), or a share of them (a float from 0.0 to 1.0)."""

    def check(value: object, field: str, problems: Problems) -> object:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not is_number or value < 0 or (isinstance(value, float) and not value <= 1):  # type: ignore[operator]
            problems.reject(
                field, f"{value!r} is not accepted; use a whole number of messages, or a share of them from 0.0 to 1.0"
            )
        return value

    return check


def flag() -> Rule:
    """Accept true or false, or their text."""

    def check(value: object, field: str, problems: Problems) -> object:
        if isinstance(value, str) and value.strip().lower() in ("true", "false"):
            return value.strip().lower() == "true"
        if not isinstance(value, bool):
            problems.reject(field, f"{describe(value)} is not accepted; use True or False")
        return value

    return check


def choice(*accepted: str) -> Rule:
    """Accept one of several words."""

    def check(value: object, field: str, problems: Problems) -> object:
        # the official client's enums
        word = getattr(value, "value", value)
        if not isinstance(word, str) or word not in accepted:
            shown = repr(word) if isinstance(word, str) and len(word) <= 20 else describe(value)
            problems.reject(field, f"{shown} is not accepted; use one of {', '.join(accepted)}")
        return word

    return check


def url(*, longest: int | None = None) -> Rule:
    """
    Accept an absolute http or https URL.

    :param longest: in characters; ``None``: no limit.
    """

    def check(value: object, field: str, problems: Problems) -> object:
        if not isinstance(value, str) or not _is_web_address(value):
            problems.reject(field, f"{describe(value)} is not a URL; use one that begins with https:// or http://")
        elif longest is not None and len(value) > longest:
            problems.reject(field, f"{describe(value)} is too long; use a URL of at most {longest:,} characters")
        return value

    return check


def _is_web_address(value: str) -> bool:
    try:
        parts = urlsplit(value)
        _ = parts.port  # raises if it is not a number
    except ValueError:
        return False
    has_gap = any(character.isspace() or ord(character) < 32 for character in value)
    return parts.scheme in ("http", "https") and bool(parts.hostname) and not has_gap


def hexadecimal() -> Rule:
    """Accept bytes written as pairs of hexadecimal digits."""

    def check(value: object, field: str, problems: Problems) -> object:
        if not isinstance(value, str) or not re.fullmatch(r"(?:[0-9A-Fa-f]{2})+", value):
            problems.reject(
                field, f"{describe(value)} is not accepted; use pairs of hexadecimal digits such as 050003CC0201"
            )
        return value

    return check


def phone_number() -> Rule:
    """Accept a phone number in E.164 format, and remove the separators that people write between its digits."""

    def check(value: object, field: str, problems: Problems) -> object:
        if isinstance(value, str):
            if re.fullmatch(_E164, value):
                return value
            tidy = re.sub(f"{SEPARATORS}+", "", value)
            problem = _problem_of_number(value, tidy)
            if problem is None:
                return tidy
        elif isinstance(value, (list, tuple, set)):
            problem = (
                f"a {type(value).__name__} is not a phone number; a message has one recipient: for several use "
                ".expand(to=[...]), or one task for thousands, ScheduleBulkOmnimessageOperator"
            )
        else:
            shown = describe(value) if value is None else type(value).__name__
            problem = f"{shown} is not a phone number; {_WANTED_NUMBER}"
        problems.reject(field, problem)
        return value

    return check


def _problem_of_number(value: str, tidy: str) -> str | None:
    """Return what is wrong with a phone number, of which ``tidy`` has no separators; ``None`` if nothing is."""
    if re.search(r"\(\s*0\s*\)", value):
        return f"{mask_number(value)} has a (0), which is not dialled from abroad; leave it out, and {_WANTED_NUMBER}"
    if re.search(r"\s/|/\s", value):
        return f"{mask_number(value)} looks like two numbers; {_WANTED_NUMBER}"
    if re.fullmatch(_E164, tidy):
        return None
    hint = " (write + instead of 00)" if tidy.startswith("00") else ""
    return f"{mask_number(value)} is not a phone number{hint}; {_WANTED_NUMBER}"
