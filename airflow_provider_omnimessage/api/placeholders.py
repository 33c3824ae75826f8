"""
``$name`` in a message stands for a field of each recipient.

The marks are those of Python's ``string.Template``: ``$name``, ``${name}``, and ``$$`` for a dollar sign. They look
like nothing of Jinja's, which Airflow has rendered before, and they name a field and nothing else: no attribute, no
index, no format, no code. What a field holds is put in as it is; a ``$`` within it stays one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from decimal import Decimal
from string import Template
from typing import Any

from airflow_provider_omnimessage.api.fields import Problems, describe, is_deferred

#: Gives a message's part, filled; notes what is missing.
Filler = Callable[[Mapping[str, Any], Problems], Any]

# What names the channel decides which rules hold, so it is the same for all.
_NEVER_FILLED = ("channel",)
#: What a draft takes in the place of a text that is known per recipient only.
STILL_TO_COME = "{{ '' }}"


def compile_placeholders(value: Any, path: str, problems: Problems) -> Filler | None:
    """
    Find the placeholders, so that filling costs little per recipient.

    :param value: messages, or any part of them: plain data.
    :param path: where it stands.
    :param problems: takes each ``$`` that begins no name.
    :return: what fills it; ``None`` where there is nothing to fill.
    """
    if isinstance(value, str):
        return _compile_text(value, path, problems)
    if isinstance(value, Mapping):
        named = {key: part for key, part in value.items() if key not in _NEVER_FILLED}
        fillers = {key: compile_placeholders(part, f"{path}.{key}", problems) for key, part in named.items()}
        found = [(key, filler) for key, filler in fillers.items() if filler]
        plain = dict(value)
        if not found:
            return None
        return lambda fields, noted: {**plain, **{key: filler(fields, noted) for key, filler in found}}
    if isinstance(value, (list, tuple)):
        entries = [compile_placeholders(part, f"{path}[{index}]", problems) for index, part in enumerate(value)]
        if not any(entries):
            return None
        pairs = list(zip(value, entries, strict=True))
        return lambda fields, noted: [filler(fields, noted) if filler else part for part, filler in pairs]
    return None


def as_draft(value: Any) -> Any:
    """
    Put what a draft lets pass in the place of every text with placeholders.

    :param value: messages, or any part of them.
    """
    if isinstance(value, str):
        return STILL_TO_COME if not is_deferred(value) and "$" in value else value
    if isinstance(value, Mapping):
        return {key: part if key in _NEVER_FILLED else as_draft(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_draft(part) for part in value]
    return value


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
                path, f"the $ at character {match.start() + 1} begins no name; write $name or ${{name}}, and $$ for a $"
            )
    parts.append(literal + text[end:])
    if not names:
        constant = "".join(parts)
        return lambda fields, noted: constant
    pairs = list(zip(parts, names, strict=False))
    rest = parts[-1]

    def fill(fields: Mapping[str, Any], noted: Problems) -> str:
        filled = []
        for before, name in pairs:
            value = fields.get(name)
            filled.append(before)
            filled.append(value if isinstance(value, str) else _as_text(name, value, path, noted))
        filled.append(rest)
        return "".join(filled)

    return fill


def _as_text(name: str, value: Any, path: str, noted: Problems) -> str:
    if value is None:
        noted.reject(name, f"is missing; {path} asks for ${name}")
    elif isinstance(value, (int, float, Decimal)) and not isinstance(value, bool) and _is_finite(value):
        return str(value)
    else:
        noted.reject(name, f"{describe(value)} is not accepted; give a text or a number, as {path} is to show it")
    return ""


def _is_finite(value: float | Decimal) -> bool:
    try:
        return math.isfinite(value)
    except (OverflowError, ValueError):  # larger than any float; a Decimal that signals
        return False
