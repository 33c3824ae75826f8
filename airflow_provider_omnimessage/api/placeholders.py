"""
Fill ``$name`` in a message with that field of each recipient.

The syntax is that of Python's ``string.Template``: ``$name``, ``${name}``, and ``$$`` for a dollar sign. It differs
from Jinja's, which Airflow has rendered before, and a placeholder names a field and nothing else: no attribute, no
index, no format, no code. A field's value is inserted as it is; a ``$`` within it stays a ``$``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from decimal import Decimal
from string import Template
from typing import Any

from airflow_provider_omnimessage.api.fields import Problems, describe, is_deferred

#: Returns a part of a message, filled with a recipient's fields. Adds each missing field to the problems.
Filler = Callable[[Mapping[str, object], Problems], object]

# The channel decides which rules apply, so it is the same for all recipients.
_NEVER_FILLED = ("channel",)
#: Replaces a text with placeholders while the DAG is parsed: a template passes every check of a draft.
UNKNOWN_TEXT = "{{ '' }}"


def compile_placeholders(value: object, path: str, problems: Problems) -> Filler | None:
    """
    Find the placeholders once, so that filling them for each recipient costs little.

    :param value: messages, or any part of them: dicts, lists and scalars only.
    :param path: the position of ``value``, such as ``messages[0].text``.
    :param problems: receives each ``$`` that is not followed by a name.
    :return: ``None`` if there is nothing to fill.
    """
    if isinstance(value, str):
        return _compile_text(value, path, problems)
    if isinstance(value, Mapping):
        return _compile_mapping(value, path, problems)
    if isinstance(value, (list, tuple)):
        entries = [compile_placeholders(part, f"{path}[{index}]", problems) for index, part in enumerate(value)]
        if not any(entries):
            return None
        pairs = list(zip(value, entries, strict=True))
        return lambda fields, found: [filler(fields, found) if filler else part for part, filler in pairs]
    is_rendered_later = problems.draft and is_deferred(value)
    if value is not None and not isinstance(value, (int, float, Decimal)) and not is_rendered_later:
        # its texts could hold placeholders that would be sent as they are
        problems.reject(path, f"{describe(value)} is not accepted; pass texts, numbers, lists and dicts")
    return None


def as_draft(value: object) -> Any:
    """
    Replace every text with placeholders by one that passes the checks of a draft.

    :param value: messages, or any part of them.
    """
    if isinstance(value, str):
        return UNKNOWN_TEXT if not is_deferred(value) and "$" in value else value
    if isinstance(value, Mapping):
        return {key: part if key in _NEVER_FILLED else as_draft(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_draft(part) for part in value]
    return value


def _compile_mapping(value: Mapping[object, object], path: str, problems: Problems) -> Filler | None:
    fillers: dict[object, Filler] = {}
    for key, part in value.items():
        if isinstance(key, str) and "$" in key:
            problems.reject(f"{path}.{key[:30]}", "has a $ in its name; use placeholders in values only")
        if key in _NEVER_FILLED:
            continue
        filler = compile_placeholders(part, f"{path}.{key}", problems)
        if filler is not None:
            fillers[key] = filler
    if not fillers:
        return None
    plain = dict(value)
    return lambda fields, found: {**plain, **{key: filler(fields, found) for key, filler in fillers.items()}}


def _compile_text(text: str, path: str, problems: Problems) -> Filler | None:
    if "$" not in text:
        return None
    parts: list[str] = []
    names: list[str] = []
    literal, end = "", 0
    for match in Template.pattern.finditer(text):
        literal += text[end : match.start()]
        end = match.end()
        name = match.group("named") or match.group("braced")
        if name:
            parts.append(literal)
            names.append(name)
            literal = ""
        elif match.group("escaped") is not None:
            literal += "$"
        else:
            problems.reject(
                path,
                f"the $ at character {match.start() + 1} is not followed by a name; write $name or ${{name}}, "
                "and $$ for a dollar sign",
            )
    parts.append(literal + text[end:])
    if not names:
        constant = "".join(parts)
        return lambda fields, found: constant
    pairs = list(zip(parts, names, strict=False))
    rest = parts[-1]

    def fill(fields: Mapping[str, object], found: Problems) -> str:
        filled = []
        for before, name in pairs:
            value = fields.get(name)
            filled.append(before)
            filled.append(value if isinstance(value, str) else _as_text(name, value, path, found))
        filled.append(rest)
        return "".join(filled)

    return fill


def _as_text(name: str, value: object, path: str, problems: Problems) -> str:
    if value is None:
        problems.reject(name, f"is missing; {path} uses ${name}")
    elif isinstance(value, (int, float, Decimal)) and not isinstance(value, bool) and _is_finite(value):
        return str(value)
    else:
        problems.reject(name, f"{describe(value)} is not accepted; pass a text or a number, as {path} should show it")
    return ""


def _is_finite(value: float | Decimal) -> bool:
    try:
        return math.isfinite(value)
    except (OverflowError, ValueError):  # larger than any float; a Decimal that signals
        return False
