"""Make lists plain, whatever form Airflow passes them in: the one reading of what a list is."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from airflow_provider_omnimessage.api.records import as_plain


def plain_argument(value: object) -> Any:
    """
    Return a parameter as plain dicts, lists and values.

    A list arrives in many forms: as the output of a mapped task, which Airflow reads lazily; as a tuple; as text, which
    a template renders from it; with objects of the official client. Code that expects a list would treat most of them
    as one value.

    :param value: the rendered parameter. Only a text as a whole is read as a list or dict, never one inside it.
    """
    if isinstance(value, str):
        structure = structure_in(value)
        return value if structure is None else structure
    return plain(list(value) if isinstance(value, (set, frozenset)) else value)


def plain(value: object) -> Any:
    """Return a value as plain dicts, lists and values; texts stay as they are."""
    if hasattr(value, "iter_references"):
        return value  # Airflow resolves it when the task runs
    value = as_plain(value)
    if isinstance(value, Mapping):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, (str, bytes, set, frozenset)):
        # a set has no order: inside a parameter, it is a mistake that the rules reject
        return value
    if isinstance(value, Iterable):
        return [plain(part) for part in entries(value)]
    return value


def entries(values: Iterable[Any]) -> list[Any]:
    """
    Return the entries of anything that has some.

    A slice of a mapped task's output reads it in one request; iterating would make one for each entry. What ``.zip()``
    and ``.concat()`` make of outputs has no slices, and a slice of ``.map()`` applies the function to the whole list.
    """
    if isinstance(values, Sequence) and type(values).__name__.startswith("Lazy"):
        return list(values[:])
    return list(values)


def as_tuple(value: object) -> Any:
    """Return a list in any form, also as text, as a tuple; anything else as it is. A set is sorted.

    The order of a set differs from process to process, and Airflow would take each order for a new version of the DAG.
    """
    if isinstance(value, str):
        structure = structure_in(value)
        return tuple(structure) if isinstance(structure, list) else value
    if hasattr(value, "iter_references") or not isinstance(value, Iterable):
        return value
    if isinstance(value, (set, frozenset)):
        return tuple(sorted(value, key=str))
    return tuple(entries(value))


def structure_in(text: str) -> list[Any] | dict[Any, Any] | None:
    """
    Return the list or dict that a text holds, as JSON or as Python; ``None`` if it is any other text.

    :param text: what a template renders from a list has the form of Python.
    """
    text = text.strip()
    if not text.startswith(("[", "(", "{")):
        return None
    for read in (json.loads, ast.literal_eval):
        try:
            value = read(text)
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):  # TypeError: a key that is a list
            continue
        if isinstance(value, (list, tuple)):
            return list(value)
        if isinstance(value, dict):
            return value
    return None
