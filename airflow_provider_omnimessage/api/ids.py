"""Accept omnimessage ids, one or many, in every form in which tasks pass them on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from airflow_provider_omnimessage.api.errors import InvalidInputError
from airflow_provider_omnimessage.api.fields import describe
from airflow_provider_omnimessage.api.lists import entries

_LONGEST_SHOWN = 60


def checked_id(omnimessage_id: object) -> str:
    """
    Return an omnimessage id that can be part of a URL's path: at most 64 letters, digits, ``-`` and ``_``.

    :raises InvalidInputError: for anything else.
    """
    if isinstance(omnimessage_id, str) and re.fullmatch(r"[A-Za-z0-9_-]{1,64}", omnimessage_id):
        return omnimessage_id
    shown = repr(omnimessage_id) if isinstance(omnimessage_id, str) else describe(omnimessage_id)
    if len(shown) > _LONGEST_SHOWN:
        shown = f"{shown[: _LONGEST_SHOWN - 1]}…"
    hint = ""
    if isinstance(omnimessage_id, str) and omnimessage_id.lstrip().startswith(("[", "{")):
        hint = "; a template renders a list as text: pass the task's output instead"
    raise InvalidInputError.of("omnimessage_id", f"{shown} is not an id; pass what the schedule task returned{hint}")


def checked_ids(ids: object) -> list[tuple[int, str]]:
    """
    Return each id with its position in ``ids``, without the gaps that skipped tasks leave.

    :param ids: an id, ``None``, or many of both, such as the output of a mapped task. A repeated id counts once.
    :raises InvalidInputError: if anything else is among them.
    """
    found: dict[str, int] = {}
    for position, item in enumerate(as_list(ids)):
        # a template renders None as text
        if item is not None and item not in ("None", ""):
            found.setdefault(checked_id(item), position)
    return [(position, omnimessage_id) for omnimessage_id, position in found.items()]


def as_list(ids: object, field: str = "omnimessage_id") -> list[Any]:
    """
    Return one or many ids, or what belongs to each of them, as a list.

    :param ids: a single value, or anything iterable except text. Lists in a list are parts of it.
    :param field: the parameter's name, for the error.
    :raises InvalidInputError: for a dict, whose keys could be mistaken for ids.
    """
    if isinstance(ids, Mapping) and field != "omnimessage_id":
        raise InvalidInputError.of(field, "a dict is not accepted; pass one value, or one for each id")
    if isinstance(ids, Mapping) and "per_parts" in ids:
        raise InvalidInputError.of(
            "omnimessage_id", "is the estimate of a dry run, which sends nothing; set dry_run=False"
        )
    if isinstance(ids, Mapping):
        raise InvalidInputError.of("omnimessage_id", "a dict is not an id; pass the id that it holds")
    if not isinstance(ids, Iterable) or isinstance(ids, (str, bytes)):
        return [ids]
    found: list[Any] = []
    for item in entries(ids):
        # a dict may be the output of a bulk send, a list that of a mapped task
        found += [item] if isinstance(item, Mapping) else as_list(item, field)
    return found
