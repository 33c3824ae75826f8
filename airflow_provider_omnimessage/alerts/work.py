"""The states of the tasks that a dead man's switch guards, one for each task instance."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote

from airflow_provider_omnimessage._compat import task_states

#: States in which work is done: what is skipped is not late.
DONE = frozenset({"success", "skipped", "removed"})

#: States in which work has ended without being done.
FAILED = frozenset({"failed", "upstream_failed"})

#: Longest part of a URL that task ids take. Many proxies refuse a URL over 8 KiB.
URL_LENGTH = 4000

Instance = tuple[str, int]


def work_states(task_instance: Any, task_ids: Sequence[str]) -> dict[Instance, str]:
    """
    Query the states of tasks of the same run.

    :param task_instance: one that runs.
    :param task_ids: which tasks; none of them means none.
    :return: by task id and map index; ``"missing"`` for a task without any instance.
    """
    found: dict[Instance, str] = {}
    for batch in batches(task_ids):
        rows = task_states(task_instance, batch)
        instances = {_instance(name, batch): state for name, state in rows.items()}
        for instance, state in instances.items():
            if instance is not None:
                found[instance] = str(getattr(state, "value", state) or "none")
    seen = {task_id for task_id, _ in found}
    return {**found, **{(task_id, -1): "missing" for task_id in task_ids if task_id not in seen}}


def batches(task_ids: Sequence[str]) -> Iterator[list[str]]:
    """
    Split task ids so that a batch fits in a URL, and the name of a task instance belongs to one task of its batch.

    Airflow names instance 1 of the mapped task ``load`` ``load_1``, which may be another task's id.

    :param task_ids: which tasks.
    """
    pending = list(dict.fromkeys(task_ids))
    while pending:
        batch: list[str] = []
        stems: set[str] = set()
        left: list[str] = []
        length = 0
        for task_id in pending:
            cost = len(quote(task_id, safe="")) + len("&task_ids=")
            stem = _stem(task_id)
            is_ambiguous = stem in batch or task_id in stems
            if batch and (is_ambiguous or length + cost > URL_LENGTH):
                left.append(task_id)
                continue
            batch.append(task_id)
            stems.add(stem)
            length += cost
        yield batch
        pending = left


def describe(instance: Instance) -> str:
    """
    Name a task instance as Airflow's UI does.

    :param instance: task id and map index.
    """
    task_id, map_index = instance
    return task_id if map_index < 0 else f"{task_id}[{map_index}]"


def _instance(name: str, batch: Sequence[str]) -> Instance | None:
    if name in batch:
        return name, -1
    stem = _stem(name)
    return (stem, int(name[len(stem) + 1 :])) if stem in batch else None


def _stem(name: str) -> str:
    """Return a name without a map index at its end."""
    return re.sub(r"_[0-9]+$", "", name)
