"""The only place that knows Airflow versions: what moved between 2.11 and 3.x, under one name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.sdk import BaseHook, BaseOperator
    from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
else:
    try:
        from airflow.sdk import BaseHook, BaseOperator
    except ImportError:  # Airflow 2
        from airflow.hooks.base import BaseHook
        from airflow.models.baseoperator import BaseOperator
    try:
        from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
    except ImportError:  # Airflow 3.1 and older
        from airflow.exceptions import AirflowFailException, AirflowSkipException

__all__ = [
    "AirflowFailException",
    "AirflowSkipException",
    "BaseHook",
    "BaseOperator",
    "TaskMemory",
    "airflow_stats",
]


class TaskMemory:
    """
    One key of a task's ``task_state_store`` (Airflow 3.3): it outlives retries, crashes and clears of the task.

    It goes with its DAG run, or earlier where ``[state_store] clear_on_success`` says so.

    :param store: what the context holds as ``task_state_store``.
    :param key: under which it is kept.
    """

    def __init__(self, store: Any, key: str) -> None:
        self._store = store
        self._key = key

    @classmethod
    def of(cls, context: Mapping[str, Any], key: str) -> TaskMemory | None:
        """
        Find a task's memory; ``None`` where this Airflow has none.

        :param context: the task's.
        :param key: under which it is kept.
        """
        store = context.get("task_state_store")
        return cls(store, key) if store is not None else None

    def recall(self) -> Any:
        """Give what was kept, or ``None``."""
        return self._store.get(self._key)

    def keep(self, value: dict[str, Any]) -> None:
        """
        Keep a value, in place of the one before.

        :param value: plain data.
        """
        from airflow.sdk.execution_time.context import NEVER_EXPIRE

        self._store.set(self._key, value, retention=NEVER_EXPIRE)

    def forget(self) -> None:
        """Forget it."""
        self._store.delete(self._key)


def airflow_stats() -> Any:
    """Airflow's own metrics: something with ``incr`` and ``timing``, both of which take ``tags``."""
    try:
        from airflow.sdk.observability.stats import Stats
    except ImportError:  # Airflow 3.1 and older
        from airflow.stats import Stats
    return Stats
