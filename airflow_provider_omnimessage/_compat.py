"""The only place that knows Airflow versions: what moved between 2.11 and 3.x, under one name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime

    from airflow.sdk import BaseHook, BaseOperator, BaseSensorOperator, PokeReturnValue
    from airflow.sdk.exceptions import (
        AirflowFailException,
        AirflowSensorTimeout,
        AirflowSkipException,
        AirflowTaskTimeout,
    )
else:
    try:
        from airflow.sdk import BaseHook, BaseOperator, BaseSensorOperator, PokeReturnValue
    except ImportError:  # Airflow 2
        from airflow.hooks.base import BaseHook
        from airflow.models.baseoperator import BaseOperator
        from airflow.sensors.base import BaseSensorOperator, PokeReturnValue
    try:
        from airflow.sdk.exceptions import (
            AirflowFailException,
            AirflowSensorTimeout,
            AirflowSkipException,
            AirflowTaskTimeout,
        )
    except ImportError:  # Airflow 3.1 and older
        from airflow.exceptions import (
            AirflowFailException,
            AirflowSensorTimeout,
            AirflowSkipException,
            AirflowTaskTimeout,
        )

__all__ = [
    "AirflowFailException",
    "AirflowSensorTimeout",
    "AirflowSkipException",
    "AirflowTaskTimeout",
    "BaseHook",
    "BaseOperator",
    "BaseSensorOperator",
    "PokeReturnValue",
]


def default_deferrable() -> bool:
    """Tell what ``[operators] default_deferrable`` says."""
    try:
        from airflow.sdk.configuration import conf
    except ImportError:  # Airflow 3.1 and older
        from airflow.configuration import conf
    return bool(conf.getboolean("operators", "default_deferrable", fallback=False))


def first_started_at(context: Mapping[str, Any]) -> datetime | None:
    """
    Tell when a sensor in mode ``reschedule`` began, across its reschedules; ``None``: just now.

    :param context: the task's.
    """
    task_instance = context["ti"]
    ask = getattr(task_instance, "get_first_reschedule_date", None)
    # Airflow 2 keeps the start date of a task that it reschedules
    found: datetime | None = ask(context) if ask else task_instance.start_date
    return found


def has_listeners() -> bool:
    """Tell whether a plugin listens to tasks: it hears only of those that end on a worker."""
    try:
        from airflow.sdk.listener import get_listener_manager
    except ImportError:  # Airflow 3.1 and older
        from airflow.listeners.listener import get_listener_manager  # type: ignore[assignment]
    return bool(get_listener_manager().has_listeners)


async def connection_of(conn_id: str) -> Any:
    """
    Look a connection up without blocking the event loop.

    :param conn_id: which.
    """
    look_up = getattr(BaseHook, "aget_connection", None)
    if look_up is not None:
        return await look_up(conn_id)
    from asgiref.sync import sync_to_async  # Airflow 3.0 and older

    return await sync_to_async(BaseHook.get_connection)(conn_id)
