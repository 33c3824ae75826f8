"""The rules for dicts and lists, composed of the rules in :mod:`~airflow_provider_omnimessage.api.fields`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeGuard

from airflow_provider_omnimessage.api.fields import Problems, Rule, apply, describe, is_deferred, text

#: Checks the fields of a record together.
Combination = Callable[[Mapping[str, object], str, Problems], None]


class Record:
    """
    Accept a dict, or an object with ``to_dict()``. Fields that are ``None`` count as left out.

    :param rules: the rule for each field.
    :param required: fields that must be present.
    :param extra: whether to send fields without a rule as they are, instead of rejecting them.
    """

    def __init__(
        self,
        rules: Mapping[str, Rule],
        *,
        required: Sequence[str] = (),
        extra: bool = False,
        combination: Combination | None = None,
    ) -> None:
        self.rules = rules
        self._required = required
        self._extra = extra
        self._combination = combination

    def __call__(self, value: object, field: str, problems: Problems) -> Any:
        """Check a value, as every rule does."""
        value = as_plain(value)
        if not is_mapping(value):
            problems.reject(field, f"{describe(value)} is not accepted; pass a dict with {', '.join(self.rules)}")
            return value
        checked: dict[str, object] = {}
        for name, entry in value.items():
            path = f"{field}.{name}" if field else str(name)
            if entry is None:
                continue
            if name in self.rules:
                checked[name] = apply(self.rules[name], entry, path, problems)
            elif self._extra:
                checked[name] = _json_ready(entry, path, problems)
            else:
                problems.reject(path, f"no such field; {nearest_field(name, self.rules)}")
        for name in self._required:
            if name not in checked:
                problems.reject(f"{field}.{name}" if field else name, "is missing")
        if self._combination:
            self._combination(checked, field, problems)
        return checked


def nearest_field(name: object, names: Iterable[str]) -> str:
    """Return a hint for a field that does not exist."""
    import difflib

    known = list(names)
    near = difflib.get_close_matches(str(name), known, n=1)
    return f"did you mean {near[0]}?" if near else f"the fields are {', '.join(known)}"


def exactly_one_of(*names: str) -> Combination:
    """Require exactly one of several fields."""

    def check(present: Mapping[str, object], field: str, problems: Problems) -> None:
        found = [name for name in names if name in present]
        if len(found) != 1:
            problems.reject(
                field, f"has {' and '.join(found) or 'none of them'}; use exactly one of {', '.join(names)}"
            )

    return check


def mapping_of_texts() -> Rule:
    """Accept a dict of names and texts."""

    def check(value: object, field: str, problems: Problems) -> object:
        if not is_mapping(value):
            problems.reject(field, f"{describe(value)} is not accepted; pass a dict of texts")
            return value
        return {str(key): apply(text(), entry, f"{field}.{key}", problems) for key, entry in value.items()}

    return check


def many(item: Rule, *, least: int = 0, most: int | None = None) -> Rule:
    """
    Accept a list.

    :param item: the rule for each entry.
    :param most: ``None``: no limit.
    """
    span = f"{least} to {most} entries" if most else f"at least {least} {'entry' if least == 1 else 'entries'}"

    def check(value: object, field: str, problems: Problems) -> object:
        if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
            problems.reject(field, f"{describe(value)} is not a list; pass a list with {span}")
            return value
        entries = list(value)
        if len(entries) < least or (most is not None and len(entries) > most):
            problems.reject(field, f"a list of {len(entries)} is not accepted; pass {span}")
        return [apply(item, entry, f"{field}[{index}]", problems) for index, entry in enumerate(entries)]

    return check


def is_mapping(value: object) -> TypeGuard[Mapping[str, Any]]:
    """Return whether a value is a mapping. For a dict, this is faster than ``isinstance(value, Mapping)``."""
    return type(value) is dict or isinstance(value, Mapping)


def as_plain(value: object) -> Any:
    """Return a model object of the official client as a dict, and anything else unchanged."""
    if type(value) is dict or isinstance(value, Mapping):
        return value
    to_dict = getattr(value, "to_dict", None)
    if not callable(to_dict):
        return value
    try:
        return to_dict()
    except Exception:
        return value  # not a model's to_dict(): the rule that expects a dict rejects it by name


def _json_ready(value: object, field: str, problems: Problems) -> object:
    if not (problems.draft and is_deferred(value)):
        try:
            json.dumps(value, allow_nan=False, default=(lambda _: None) if problems.draft else None)
        except (TypeError, ValueError, RecursionError):
            problems.reject(field, f"{describe(value)} is not accepted; use values that JSON can represent")
    return value
