"""Names of the Airflow Variables that hold the state of alerts: different ones for different tasks."""

from __future__ import annotations

import hashlib

#: Characters of a Variable's name, at most.
LONGEST_KEY = 250


def variable_of(kind: str, dag_id: str, name: str) -> str:
    """
    Return the name of the Variable of a task or a group.

    If underscores could make it that of another one, as for ``a__b`` and ``c``, and ``a`` and ``b__c``, a hash follows.

    :param kind: what the Variable is for, such as ``heartbeat``.
    :param name: of the task or the group.
    """
    variable = f"omnimessage_{kind}__{dag_id}__{name}"
    is_clear = "__" not in dag_id and "__" not in name and not dag_id.endswith("_") and not name.startswith("_")
    # no id contains a slash
    return variable if is_clear else f"{variable}__{_digest(f'{dag_id}/{name}')[:8]}"


def fitting_key(variable: str) -> str:
    """Return the name of a Variable; if it is too long for Airflow's database, its beginning and a hash of it."""
    if len(variable) <= LONGEST_KEY:
        return variable
    digest = _digest(variable)[:16]
    return f"{variable[: LONGEST_KEY - len(digest) - 2]}__{digest}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
