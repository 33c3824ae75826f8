"""The small checks that the validation is made of: each looks at one value and reports every problem in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

INVALID: Final = "105"
MISSING: Final = "106"


class Problem(NamedTuple):
    """One thing wrong with a request: the error code, the field, and a sentence for the developer."""

    code: str
    source: str
    detail: str


Problems = list[Problem]
Check = Callable[[Any, str, Problems], None]
"""Looks at a value, is told the path of its field, adds what is wrong to the problems."""


def text(*, least: int = 1, most: int | None = None) -> Check:
    """Accept a string.

    :param least: the fewest characters.
    :param most: the most characters, or None for no limit.
    """

    def check(value: Any, path: str, problems: Problems) -> None:
        if not isinstance(value, str):
            problems.append(Problem(INVALID, path, "must be a string"))
        elif len(value) < least:
            wanted = "must not be empty" if least == 1 else f"must have at least {least} characters"
            problems.append(Problem(INVALID, path, wanted))
        elif most is not None and len(value) > most:
            detail = f"must have at most {most} characters, has {len(value)}"
            problems.append(Problem(INVALID, path, detail))

    return check


def integer(*, least: int, most: int | None = None) -> Check:
    """Accept a whole number.

    :param least: the smallest.
    :param most: the largest, or None for no limit.
    """

    def check(value: Any, path: str, problems: Problems) -> None:
        if not isinstance(value, int) or isinstance(value, bool):
            problems.append(Problem(INVALID, path, "must be an integer"))
        elif value < least:
            problems.append(Problem(INVALID, path, f"must be at least {least}"))
        elif most is not None and value > most:
            problems.append(Problem(INVALID, path, f"must be at most {most}"))

    return check


def number(value: Any, path: str, problems: Problems) -> None:
    """Accept a number."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        problems.append(Problem(INVALID, path, "must be a number"))


def boolean(value: Any, path: str, problems: Problems) -> None:
    """Accept true and false."""
    if not isinstance(value, bool):
        problems.append(Problem(INVALID, path, "must be true or false"))


def one_of(*choices: str) -> Check:
    """Accept one of a few words.

    :param choices: the words.
    """
    known = frozenset(choices)

    def check(value: Any, path: str, problems: Problems) -> None:
        if not isinstance(value, str) or value not in known:
            problems.append(Problem(INVALID, path, f"must be one of {', '.join(choices)}"))

    return check


def url(value: Any, path: str, problems: Problems) -> None:
    """Accept an http or https address."""
    address = value.lower() if isinstance(value, str) else ""
    for scheme in ("http://", "https://"):
        if address.startswith(scheme) and len(address) > len(scheme):
            return
    problems.append(Problem(INVALID, path, "must be an http or https URL"))


def any_object(value: Any, path: str, problems: Problems) -> None:
    """Accept any JSON object."""
    if not isinstance(value, dict):
        problems.append(Problem(INVALID, path, "must be an object"))


def listing(item: Check, *, least: int = 0, most: int | None = None) -> Check:
    """Accept an array.

    :param item: the check of each item.
    :param least: the fewest items.
    :param most: the most items, or None for no limit.
    """

    def check(value: Any, path: str, problems: Problems) -> None:
        if not isinstance(value, list):
            problems.append(Problem(INVALID, path, "must be an array"))
            return
        if len(value) < least:
            problems.append(Problem(INVALID, path, f"must have at least {least} items, has {len(value)}"))
        if most is not None and len(value) > most:
            problems.append(Problem(INVALID, path, f"must have at most {most} items, has {len(value)}"))
        for index, entry in enumerate(value):
            item(entry, f"{path}[{index}]", problems)

    return check


def strings(value: Any, path: str, problems: Problems) -> None:
    """Accept an object whose values are strings."""
    if not isinstance(value, dict):
        problems.append(Problem(INVALID, path, "must be an object"))
        return
    for key, entry in value.items():
        if not isinstance(entry, str):
            problems.append(Problem(INVALID, f"{path}.{key}", "must be a string"))


def record(
    required: Mapping[str, Check] | None = None,
    optional: Mapping[str, Check] | None = None,
    *rules: Check,
) -> Check:
    """Accept an object. null counts as left out; fields that are not named here are let through.

    :param required: the check of each field that has to be there.
    :param optional: the check of each field that may be there.
    :param rules: checks of the whole object, for what several fields decide together.
    """
    required = required or {}
    fields = {**required, **(optional or {})}

    def check(value: Any, path: str, problems: Problems) -> None:
        if not isinstance(value, dict):
            problems.append(Problem(INVALID, path, "must be an object"))
            return
        prefix = f"{path}." if path else ""
        for name in required:
            if value.get(name) is None:
                problems.append(Problem(MISSING, prefix + name, "is required"))
        for name, entry in value.items():
            if entry is not None and name in fields:
                fields[name](entry, prefix + name, problems)
        for rule in rules:
            rule(value, path, problems)

    return check


def given(value: Mapping[str, Any], names: tuple[str, ...]) -> list[str]:
    """Tell which of some fields an object has.

    :param value: the object.
    :param names: the fields to look for.
    """
    return [name for name in names if value.get(name) is not None]


def exactly_one(*names: str) -> Check:
    """Demand exactly one of some fields.

    :param names: the fields.
    """

    def check(value: Any, path: str, problems: Problems) -> None:
        present = given(value, names)
        if not present:
            problems.append(Problem(MISSING, path, f"one of {', '.join(names)} is required"))
        for name in present[1:]:
            detail = f"cannot go with {present[0]}: exactly one of {', '.join(names)}"
            problems.append(Problem(INVALID, f"{path}.{name}", detail))

    return check


def at_most_one(*names: str) -> Check:
    """Demand at most one of some fields.

    :param names: the fields.
    """

    def check(value: Any, path: str, problems: Problems) -> None:
        present = given(value, names)
        for name in present[1:]:
            detail = f"cannot go with {present[0]}: only one of {', '.join(names)}"
            problems.append(Problem(INVALID, f"{path}.{name}", detail))

    return check
