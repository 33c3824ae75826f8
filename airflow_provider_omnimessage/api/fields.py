"""
The words in which the rules of a message are written: each checks one value and gives it back as it will be sent.

A rule takes ``(value, field, problems)``. What it does not accept it adds to ``problems``, naming the field, the value
(never a text) and what it would accept; it goes on, so that one report names everything. A *deferred* value (a Jinja
template, an XComArg) is not there yet when a DAG is parsed: drafts let it pass, and it is checked once it is rendered.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeGuard
from urllib.parse import urlsplit

from airflow_provider_omnimessage.api.errors import InvalidInputError, Problem
from airflow_provider_omnimessage.api.masking import mask_number


class Problems(list[Problem]):
    """
    What a check has found so far.

    :param draft: whether values that are not rendered yet, and fields that are still to come, are let through.
    """

    def __init__(self, *, draft: bool = False) -> None:
        super().__init__()
        self.draft = draft

    def reject(self, field: str, reason: str) -> None:
        """
        Note one problem.

        :param field: the refused field.
        :param reason: what was refused and what would be accepted.
        """
        self.append(Problem(field, reason))

    def raise_if_any(self) -> None:
        """
        End the check.

        :raises InvalidInputError: with everything that was found.
        """
        if self:
            raise InvalidInputError(self)


Rule = Callable[[Any, str, Problems], Any]

_TEMPLATE = re.compile(r"\{[{%#]")
_HALF_A_PAIR = re.compile("[\ud800-\udfff]")


def is_deferred(value: object) -> bool:
    """
    Tell whether Airflow will only know the value when the task runs.

    :param value: a Jinja template, or anything that Airflow resolves (an XComArg, a mapped argument).
    """
    if isinstance(value, str):
        return _TEMPLATE.search(value) is not None
    return hasattr(value, "iter_references")


def is_mapping(value: object) -> TypeGuard[Mapping[str, Any]]:
    """
    Tell whether a value is a mapping; at once for a dict, which nearly all are, for ``Mapping`` takes its time.

    :param value: anything.
    """
    return type(value) is dict or isinstance(value, Mapping)


def describe(value: object) -> str:
    """
    Name a refused value without showing what it says.

    :param value: anything.
    """
    if value is None:
        return "None"
    if isinstance(value, (bool, int, float)):
        return repr(value)
    if isinstance(value, str):
        return "an empty text" if not value.strip() else f"a text of {len(value):,} characters"
    return f"a {type(value).__name__}"


def text(*, shortest: int = 1, longest: int | None = None) -> Rule:
    """
    Accept a text, and never show it.

    :param shortest: fewest characters.
    :param longest: most characters, or ``None`` for no limit.
    """
    span = f"{shortest} to {longest:,} characters" if longest else "a text that is not empty"

    def check(value: Any, field: str, problems: Problems) -> Any:
        if not isinstance(value, str):
            problems.reject(field, f"{describe(value)} is not a text; give {span}")
        elif not value.strip() or len(value) < shortest or (longest is not None and len(value) > longest):
            problems.reject(field, f"{describe(value)} does not fit; give {span}")
        elif _HALF_A_PAIR.search(value):
            problems.reject(field, "holds half of a surrogate pair, which no channel can carry; give valid Unicode")
        return value

    return check


def integer(*, least: int = 1, most: int | None = None, unit: str) -> Rule:
    """
    Accept a whole number, or its digits (what a Jinja template renders).

    :param least: the smallest accepted.
    :param most: the largest accepted, or ``None`` for no limit.
    :param unit: what it counts.
    """
    span = f"a whole number of {unit}, " + (f"{least} to {most:,}" if most else f"{least} or more")

    def check(value: Any, field: str, problems: Problems) -> Any:
        number = value
        if isinstance(value, str) and re.fullmatch(r"\s*[0-9]{1,18}\s*", value):
            number = int(value)
        if isinstance(number, bool) or not isinstance(number, int):
            problems.reject(field, f"{describe(value)} is not accepted; give {span}")
        elif number < least or (most is not None and number > most):
            problems.reject(field, f"{number:,} is not accepted; give {span}")
        return number

    return check


def number() -> Rule:
    """Accept any number, such as a coordinate."""

    def check(value: Any, field: str, problems: Problems) -> Any:
        try:
            number = float(value) if isinstance(value, str) else value
        except ValueError:
            number = None
        if isinstance(number, bool) or not isinstance(number, (int, float)) or not math.isfinite(number):
            problems.reject(field, f"{describe(value)} is not a number")
        return number

    return check


def positive_number(*, most: float, unit: str) -> Rule:
    """
    Accept a number greater than 0, or its text, such as a number of seconds.

    :param most: the largest accepted.
    :param unit: what it counts.
    """

    def check(value: Any, field: str, problems: Problems) -> Any:
        try:
            number = float("nan") if isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            number = float("nan")
        if not 0 < number <= most:
            problems.reject(field, f"{describe(value)} is not accepted; pass {unit}, more than 0 and at most {most:,}")
        return number

    return check


def share() -> Rule:
    """Accept a share from 0.0 to 1.0, such as a part of many messages."""

    def check(value: Any, field: str, problems: Problems) -> Any:
        if not isinstance(value, float) or not 0.0 <= value <= 1.0:
            problems.reject(field, f"{describe(value)} is not accepted; pass a share from 0.0 to 1.0")
        return value

    return check


def require(field: str, value: Any, rule: Rule, *, rendered: bool = False) -> Any:
    """
    Return a checked argument, as an operator needs it.

    :param field: the name of the argument.
    :param value: its value. A template, or another value that Airflow resolves later, passes while the DAG is parsed.
    :param rule: what is accepted, such as ``choice("fail", "skip")``.
    :param rendered: whether templates are rendered by now, so that none may be left.
    :raises InvalidInputError: names the field, the value and what is accepted.
    """
    problems = Problems(draft=not rendered)
    checked = _checked(rule, value, field, problems)
    problems.raise_if_any()
    return checked


def flag() -> Rule:
    """Accept true or false."""

    def check(value: Any, field: str, problems: Problems) -> Any:
        if isinstance(value, str) and value.strip().lower() in ("true", "false"):
            return value.strip().lower() == "true"
        if not isinstance(value, bool):
            problems.reject(field, f"{describe(value)} is not accepted; give True or False")
        return value

    return check


def choice(*accepted: str) -> Rule:
    """Accept one of several words."""

    def check(value: Any, field: str, problems: Problems) -> Any:
        if isinstance(getattr(value, "value", None), str):
            value = value.value  # the official client's enums
        if not isinstance(value, str) or value not in accepted:
            shown = repr(value) if isinstance(value, str) and len(value) <= 20 else describe(value)
            problems.reject(field, f"{shown} is not accepted; give one of {', '.join(accepted)}")
        return value

    return check


def url(*, longest: int | None = None) -> Rule:
    """
    Accept an absolute http or https URL.

    :param longest: most characters, or ``None`` for no limit.
    """

    def check(value: Any, field: str, problems: Problems) -> Any:
        if not isinstance(value, str) or not _is_web_address(value):
            problems.reject(field, f"{describe(value)} is not a URL; give one that begins with https:// or http://")
        elif longest is not None and len(value) > longest:
            problems.reject(field, f"{describe(value)} is too long; give a URL of at most {longest:,} characters")
        return value

    return check


def _is_web_address(value: str) -> bool:
    try:
        parts = urlsplit(value)
        _ = parts.port  # raises where it is not a number
    except ValueError:
        return False
    has_gap = any(character.isspace() or ord(character) < 32 for character in value)
    return parts.scheme in ("http", "https") and bool(parts.hostname) and not has_gap


def hexadecimal() -> Rule:
    """Accept bytes written as pairs of hexadecimal digits."""

    def check(value: Any, field: str, problems: Problems) -> Any:
        if not isinstance(value, str) or not re.fullmatch(r"(?:[0-9A-Fa-f]{2})+", value):
            problems.reject(
                field, f"{describe(value)} is not accepted; give pairs of hexadecimal digits, as 050003CC0201"
            )
        return value

    return check


_SEPARATORS = re.compile(r"[\s()./\-\u00ad\u2010-\u2015\u2212\u200b-\u200f\u202a-\u202e\u2060\ufeff]+")


_E164 = re.compile(r"\+[1-9][0-9]{6,14}")


def phone_number() -> Rule:
    """Accept a phone number in E.164, and tidy away what people put between its digits to read it."""

    def check(value: Any, field: str, problems: Problems) -> Any:
        wanted = "give it in E.164: a string with +, country code and number, 7 to 15 digits in all"
        if isinstance(value, (list, tuple, set)):
            problems.reject(
                field,
                f"a {type(value).__name__} is not a phone number; a message has one recipient: for several take "
                ".expand(to=[...]), or one task for thousands, ScheduleBulkOmnimessageOperator",
            )
            return value
        if not isinstance(value, str):
            problems.reject(
                field,
                f"{describe(value) if value is None else type(value).__name__} is not a phone number; {wanted}",
            )
            return value
        if _E164.fullmatch(value):
            return value
        if re.search(r"\(\s*0\s*\)", value):
            problems.reject(
                field, f"{mask_number(value)} has a (0), which is not dialled from abroad; leave it out, {wanted}"
            )
            return value
        if re.search(r"\s/|/\s", value):
            problems.reject(field, f"{mask_number(value)} looks like two numbers; {wanted}")
            return value
        tidy = _SEPARATORS.sub("", value)
        if _E164.fullmatch(tidy):
            return tidy
        hint = " (write + in place of 00)" if tidy.startswith("00") else ""
        problems.reject(field, f"{mask_number(value)} is not a phone number{hint}; {wanted}")
        return value

    return check


def mapping_of_texts() -> Rule:
    """Accept names with a text each."""

    def check(value: Any, field: str, problems: Problems) -> Any:
        if not is_mapping(value):
            problems.reject(field, f"{describe(value)} is not accepted; give a dict of texts")
            return value
        return {str(key): _checked(text(), entry, f"{field}.{key}", problems) for key, entry in value.items()}

    return check


def many(item: Rule, *, least: int = 0, most: int | None = None) -> Rule:
    """
    Accept a list.

    :param item: the rule for each entry.
    :param least: fewest entries.
    :param most: most entries, or ``None`` for no limit.
    """
    span = f"{least} to {most} entries" if most else f"at least {least} {'entry' if least == 1 else 'entries'}"

    def check(value: Any, field: str, problems: Problems) -> Any:
        if type(value) is not list and (isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable)):
            problems.reject(field, f"{describe(value)} is not a list; give a list with {span}")
            return value
        entries = list(value)
        if len(entries) < least or (most is not None and len(entries) > most):
            problems.reject(field, f"a list of {len(entries)} is not accepted; give {span}")
        return [_checked(item, entry, f"{field}[{index}]", problems) for index, entry in enumerate(entries)]

    return check


Combination = Callable[[Mapping[str, Any], str, Problems], None]


def record(
    rules: Mapping[str, Rule],
    *,
    required: Sequence[str] = (),
    extra: bool = False,
    combination: Combination | None = None,
) -> Rule:
    """
    Accept a dict, or an object with ``to_dict()``; fields that are ``None`` count as left out.

    :param rules: the rule for each field.
    :param required: fields that must be there.
    :param extra: whether fields without a rule are sent as they are; otherwise they are refused.
    :param combination: judges the fields together; ``None``: nothing does.
    """

    def check(value: Any, field: str, problems: Problems) -> Any:
        value = as_plain(value)
        if not is_mapping(value):
            problems.reject(field, f"{describe(value)} is not accepted; give a dict with {', '.join(rules)}")
            return value
        checked: dict[str, Any] = {}
        for name, entry in value.items():
            path = f"{field}.{name}" if field else str(name)
            if entry is None:
                continue
            if name in rules:
                checked[name] = _checked(rules[name], entry, path, problems)
            elif extra:
                checked[name] = _json_ready(entry, path, problems)
            else:
                near = difflib.get_close_matches(str(name), rules, n=1)
                hint = f"did you mean {near[0]}?" if near else f"the fields are {', '.join(rules)}"
                problems.reject(path, f"no such field; {hint}")
        for name in required:
            if name not in checked:
                problems.reject(f"{field}.{name}" if field else name, "is missing")
        if combination:
            combination(checked, field, problems)
        return checked

    check.rules = rules  # type: ignore[attr-defined]
    return check


def as_plain(value: Any) -> Any:
    """
    Turn the official client's model objects into the dicts that they stand for.

    :param value: anything; what has no ``to_dict()`` comes back as it is.
    """
    if type(value) is dict or isinstance(value, Mapping) or not callable(getattr(value, "to_dict", None)):
        return value
    try:
        return value.to_dict()
    except Exception:
        return value  # not a model's to_dict() then: whoever expects a dict refuses it by name


def exactly_one_of(*names: str) -> Combination:
    """
    Demand one of several fields, and only one.

    :param names: the fields.
    """

    def check(present: Mapping[str, Any], field: str, problems: Problems) -> None:
        found = [name for name in names if name in present]
        if len(found) != 1:
            given = " and ".join(found) or "none of them"
            problems.reject(field, f"has {given}; give exactly one of {', '.join(names)}")

    return check


def _json_ready(value: Any, field: str, problems: Problems) -> Any:
    if not (problems.draft and is_deferred(value)):
        try:
            json.dumps(value, allow_nan=False, default=(lambda _: None) if problems.draft else None)
        except (TypeError, ValueError, RecursionError):
            problems.reject(field, f"{describe(value)} is not accepted; give what JSON can carry")
    return value


def _checked(rule: Rule, value: Any, field: str, problems: Problems) -> Any:
    if problems.draft and is_deferred(value):
        return value
    return rule(value, field, problems)
