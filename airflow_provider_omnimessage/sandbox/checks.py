"""Small checks that the validation is composed of. Each looks at one value and records every problem it finds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

INVALID: Final = "105"
MISSING: Final = "106"


class Problem(NamedTuple):
    """One thing wrong with a request: error code, ``source`` as Messente writes it, and an explanation."""

    code: str
    source: str
    detail: str


class Findings:
    """The problems of a request, and the fields in it that Messente does not know.

    A source has the form ``payload[sms][sender]``.
    """

    __slots__ = ("problems", "unknown_fields")

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.unknown_fields: list[str] = []

    def invalid(self, source: str, detail: str) -> None:
        """Record a value that is not accepted."""
        self.problems.append(Problem(INVALID, source, detail))

    def missing(self, source: str, detail: str = "is required") -> None:
        """Record a required value that is not there."""
        self.problems.append(Problem(MISSING, source, detail))

    def unknown(self, source: str) -> None:
        """Record a field that does not exist. Messente ignores it, so it is no problem."""
        self.unknown_fields.append(field_name(source))


Check = Callable[[Any, str, Findings], None]
"""Checks one value: gets the value, the source of its field, and the findings to add to."""


def field_name(source: str) -> str:
    """Return a readable name: ``sms.sender`` for ``payload[sms][sender]``."""
    return source.removeprefix("payload").strip("[]").replace("][", ".")


def text(*, least: int = 1, most: int | None = None) -> Check:
    """Accept a string.

    :param least: minimum number of characters.
    :param most: maximum number of characters; default: no limit.
    """

    def check(value: Any, source: str, findings: Findings) -> None:
        if not isinstance(value, str):
            findings.invalid(source, "must be a string")
        elif len(value) < least:
            detail = "must not be empty" if least == 1 else f"must have at least {least} characters"
            findings.invalid(source, detail)
        elif most is not None and len(value) > most:
            findings.invalid(source, f"must have at most {most} characters, has {len(value)}")

    return check


def integer(*, least: int, most: int | None = None) -> Check:
    """Accept a whole number from ``least`` to ``most``."""

    def check(value: Any, source: str, findings: Findings) -> None:
        if not isinstance(value, int) or isinstance(value, bool):
            findings.invalid(source, "must be an integer")
        elif value < least:
            findings.invalid(source, f"must be at least {least}")
        elif most is not None and value > most:
            findings.invalid(source, f"must be at most {most}")

    return check


def number(value: Any, source: str, findings: Findings) -> None:
    """Accept a number."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        findings.invalid(source, "must be a number")


def boolean(value: Any, source: str, findings: Findings) -> None:
    """Accept true and false."""
    if not isinstance(value, bool):
        findings.invalid(source, "must be true or false")


def one_of(*choices: str) -> Check:
    """Accept one of several words."""
    allowed = frozenset(choices)

    def check(value: Any, source: str, findings: Findings) -> None:
        if not isinstance(value, str) or value not in allowed:
            findings.invalid(source, f"must be one of {', '.join(choices)}")

    return check


def url(value: Any, source: str, findings: Findings) -> None:
    """Accept an http or https URL."""
    address = value.lower() if isinstance(value, str) else ""
    for scheme in ("http://", "https://"):
        if address.startswith(scheme) and len(address) > len(scheme):
            return
    findings.invalid(source, "must be an http or https URL")


def any_object(value: Any, source: str, findings: Findings) -> None:
    """Accept any JSON object."""
    if not isinstance(value, dict):
        findings.invalid(source, "must be an object")


def array(item: Check, *, least: int = 0, most: int | None = None) -> Check:
    """Accept an array.

    :param item: the check for each item.
    :param least: minimum number of items.
    :param most: maximum number of items; default: no limit.
    """

    def check(value: Any, source: str, findings: Findings) -> None:
        if not isinstance(value, list):
            findings.invalid(source, "must be an array")
            return
        if len(value) < least:
            findings.invalid(source, f"must have at least {least} items, has {len(value)}")
        if most is not None and len(value) > most:
            findings.invalid(source, f"must have at most {most} items, has {len(value)}")
        for index, entry in enumerate(value):
            item(entry, f"{source}[{index}]", findings)

    return check


def strings(value: Any, source: str, findings: Findings) -> None:
    """Accept an object whose values are all strings."""
    if not isinstance(value, dict):
        findings.invalid(source, "must be an object")
        return
    for key, entry in value.items():
        if not isinstance(entry, str):
            findings.invalid(f"{source}[{key}]", "must be a string")


def record(
    required: Mapping[str, Check] | None = None,
    optional: Mapping[str, Check] | None = None,
    *rules: Check,
) -> Check:
    """Accept an object with these fields. null counts as absent; unknown fields are recorded, but accepted.

    :param required: the check for each required field.
    :param optional: the check for each optional field.
    :param rules: checks of the whole object, for rules about several fields.
    """
    required = required or {}
    fields = {**required, **(optional or {})}

    def check(value: Any, source: str, findings: Findings) -> None:
        if not isinstance(value, dict):
            findings.invalid(source, "must be an object")
            return
        for name in required:
            if value.get(name) is None:
                findings.missing(f"{source}[{name}]")
        for name, entry in value.items():
            if name not in fields:
                findings.unknown(f"{source}[{name}]")
            elif entry is not None:
                fields[name](entry, f"{source}[{name}]", findings)
        for rule in rules:
            rule(value, source, findings)

    return check


def present(value: Mapping[str, Any], names: tuple[str, ...]) -> list[str]:
    """Return those of ``names`` that the object has."""
    return [name for name in names if value.get(name) is not None]


def exactly_one(*names: str) -> Check:
    """Require exactly one of several fields."""

    def check(value: Any, source: str, findings: Findings) -> None:
        found = present(value, names)
        if not found:
            findings.missing(source, f"needs one of {', '.join(names)}")
        for name in found[1:]:
            detail = f"cannot be combined with {found[0]}: use exactly one of {', '.join(names)}"
            findings.invalid(f"{source}[{name}]", detail)

    return check


def at_most_one(*names: str) -> Check:
    """Allow at most one of several fields."""

    def check(value: Any, source: str, findings: Findings) -> None:
        found = present(value, names)
        for name in found[1:]:
            detail = f"cannot be combined with {found[0]}: use only one of {', '.join(names)}"
            findings.invalid(f"{source}[{name}]", detail)

    return check
