"""Read one or many recipients in every form in which Airflow hands them over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from airflow_provider_omnimessage.api.errors import InvalidInputError, Problem
from airflow_provider_omnimessage.api.fields import Problems, describe, is_deferred, phone_number
from airflow_provider_omnimessage.api.lists import structure_in

_WANTED = "pass a number in E.164 format such as '+37255555555', or a list of numbers"


def parse_recipients(to: object, field: str = "to") -> list[str]:
    """
    Return the phone numbers in a value, each once, in order.

    A list may come as a list, as JSON or Python text (what a template renders from a list), or as numbers separated by
    commas, semicolons or line breaks. An integer is a number that lost its ``+``: Airflow's native rendering turns
    ``"+37255555555"`` into 37255555555.

    :raises InvalidInputError: for every entry that is not a phone number, and if there is none.
    """
    numbers, problems = split_recipients(to, field)
    if problems:
        raise InvalidInputError(problems)
    return numbers


def split_recipients(to: object, field: str = "to") -> tuple[list[str], list[Problem]]:
    """
    Return the phone numbers in a value, and what is wrong with its other entries.

    This is for alerts: one wrong number must not cost the other recipients their alert.

    :raises InvalidInputError: if there is no phone number at all.
    """
    entries = _entries(to)
    if not entries:
        raise InvalidInputError.of(field, f"is empty; {_WANTED}")
    check, numbers = phone_number(), list[str]()
    problems: list[Problem] = []
    for index, entry in enumerate(entries):
        found = Problems()
        number = check(_with_plus(entry), f"{field}[{index}]" if len(entries) > 1 else field, found)
        if found:
            problems.extend(found)
        elif number not in numbers:
            numbers.append(number)
    if not numbers:
        raise InvalidInputError(problems)
    return numbers, problems


def check_recipients_at_parse(to: object, field: str = "to") -> None:
    """
    Check recipients while the DAG is parsed. Deferred values pass.

    :raises InvalidInputError: as :func:`parse_recipients` does.
    """
    if is_deferred(to):
        return
    if isinstance(to, (list, tuple)):
        constants = [entry for entry in to if not is_deferred(entry)]
        if len(constants) < len(to) and not constants:
            return
        to = constants
    parse_recipients(to, field)


def _entries(to: object) -> list[Any]:
    if isinstance(to, Mapping):
        raise InvalidInputError.of("to", f"{describe(to)} is not a recipient; {_WANTED}")
    if isinstance(to, str):
        to = _listed_in(to.strip())
    if isinstance(to, Iterable) and not isinstance(to, (str, bytes)):
        return [entry for entry in to if entry is not None and str(entry).strip() not in ("", "None")]
    return [] if to is None else [to]


def _listed_in(text: str) -> list[Any]:
    listed = structure_in(text)
    if isinstance(listed, list):
        return listed
    for separator in ";\n":
        text = text.replace(separator, ",")
    return [part.strip() for part in text.split(",") if part.strip()]


def _with_plus(entry: object) -> object:
    is_number = isinstance(entry, int) and not isinstance(entry, bool)
    return f"+{entry}" if is_number else entry
