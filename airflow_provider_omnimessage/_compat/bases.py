"""Airflow's base classes and exceptions, under one name in each version."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.sdk import (
        BaseHook,
        BaseNotifier,
        BaseOperator,
        BaseSensorOperator,
        PokeReturnValue,
        TaskGroup,
        Variable,
    )
    from airflow.sdk.exceptions import (
        AirflowFailException,
        AirflowRescheduleException,
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
        from airflow.sdk import BaseNotifier, TaskGroup, Variable
    except ImportError:  # Airflow 2
        from airflow.models import Variable
        from airflow.notifications.basenotifier import BaseNotifier
        from airflow.utils.task_group import TaskGroup
    try:
        from airflow.sdk.exceptions import (
            AirflowFailException,
            AirflowRescheduleException,
            AirflowSensorTimeout,
            AirflowSkipException,
            AirflowTaskTimeout,
        )
    except ImportError:  # Airflow 3.1 and older
        from airflow.exceptions import (
            AirflowFailException,
            AirflowRescheduleException,
            AirflowSensorTimeout,
            AirflowSkipException,
            AirflowTaskTimeout,
        )

#: Shortest time in seconds for which a task that leaves its worker, deferred or rescheduled, stays away from workers.
#:
#: The scheduler learns from its executor that the task's process has ended, some time after the task has reported its
#: new state. If the task is queued or running again by then, Airflow takes it for one that was killed ("finished with
#: state success, but the task instance's state attribute is running") and spends a retry. The task must stay away until
#: its process has ended and the scheduler has seen that, which takes seconds on a busy scheduler.
SHORTEST_ABSENCE = 10.0

__all__ = [
    "SHORTEST_ABSENCE",
    "AirflowFailException",
    "AirflowRescheduleException",
    "AirflowSensorTimeout",
    "AirflowSkipException",
    "AirflowTaskTimeout",
    "BaseHook",
    "BaseNotifier",
    "BaseOperator",
    "BaseSensorOperator",
    "PokeReturnValue",
    "SelfRescheduling",
    "TaskGroup",
    "Variable",
]


class SelfRescheduling(BaseOperator):
    """Make the scheduler wait until the time to which a task, not a sensor, reschedules itself."""

    reschedule = True
    #: Airflow 3.0 waits for sensors only. Airflow 3.1 and newer wait for every rescheduled task.
    _is_sensor = True

    if not TYPE_CHECKING and hasattr(BaseOperator, "deps"):  # Airflow 2
        from airflow.ti_deps.deps.ready_to_reschedule import ReadyToRescheduleDep

        deps = BaseOperator.deps | {ReadyToRescheduleDep()}

    @classmethod
    def get_serialized_fields(cls) -> frozenset[str]:
        """Add the fields that the scheduler reads."""
        return super().get_serialized_fields() | {"reschedule", "_is_sensor"}  # type: ignore[no-untyped-call, no-any-return]
