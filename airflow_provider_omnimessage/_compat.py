"""The only place that knows Airflow versions: what moved between 2.11 and 3.x, under one name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import tzinfo
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime

    from airflow.sdk import (
        BaseHook,
        BaseNotifier,
        BaseOperator,
        BaseOperatorLink,
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
        from airflow.sdk import BaseHook, BaseOperator, BaseOperatorLink, BaseSensorOperator, PokeReturnValue
    except ImportError:  # Airflow 2
        from airflow.hooks.base import BaseHook
        from airflow.models.baseoperator import BaseOperator
        from airflow.models.baseoperatorlink import BaseOperatorLink
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

#: Seconds for which a task that leaves its worker, deferred or rescheduled, stays away from all workers at least.
#:
#: Airflow's scheduler learns from its executor that the task's process has ended, some time after the task has said
#: where it goes. A task that is back by then, queued or running, is taken for one that was killed ("finished with state
#: success, but the task instance's state attribute is running"), and spends a retry. So it must not be back before its
#: process has ended and a turn of the scheduler, which takes seconds where that is busy, has seen it.
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
    "BaseOperatorLink",
    "BaseSensorOperator",
    "PokeReturnValue",
    "SelfRescheduling",
    "TaskGroup",
    "TaskMemory",
    "Variable",
    "airflow_stats",
    "connection_of",
    "core_timetable",
    "cron_schedule",
    "default_deferrable",
    "first_started_at",
    "has_listeners",
    "is_connection_missing",
    "is_in_mapped_group",
    "is_made_at_run_time",
    "is_mapped",
    "is_parsed_for_a_task",
    "mask_secrets",
    "object_storage_path",
    "push_xcom",
    "skips_downstream",
    "stops_on_failure",
    "stored_xcom",
    "success_in_triggerer",
    "task_states",
    "triggerer_stats",
]


class SelfRescheduling(BaseOperator):
    """Make the scheduler wait for the time to which a task reschedules itself, although the task is not a sensor."""

    reschedule = True
    #: Airflow 3.0 waits for sensors only. Airflow 3.1 and newer wait for every rescheduled task.
    _is_sensor = True

    if not TYPE_CHECKING and hasattr(BaseOperator, "deps"):  # Airflow 2
        from airflow.ti_deps.deps.ready_to_reschedule import ReadyToRescheduleDep

        deps = BaseOperator.deps | {ReadyToRescheduleDep()}

    @classmethod
    def get_serialized_fields(cls) -> Any:
        """Name what the scheduler reads."""
        return super().get_serialized_fields() | {"reschedule", "_is_sensor"}  # type: ignore[no-untyped-call]


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


def triggerer_stats() -> Any:
    """What :func:`airflow_stats` is to a task, to a trigger: a triggerer sets up core's metrics, and not the SDK's."""
    try:
        from airflow.observability.stats import Stats
    except ImportError:  # Airflow 3.1 and older have one for both
        return airflow_stats()
    return Stats


def push_xcom(task_instance: Any, key: str, value: Any) -> None:
    """
    Push an XCom. Airflow 3.0 refuses one that is ``None``, and with it a task that has sent its message.

    :param task_instance: the running task's.
    :param key: the XCom's key.
    :param value: plain data, or ``None``, which a reader sees as a missing XCom where it cannot be pushed.
    """
    from airflow import __version__

    if value is not None or not __version__.startswith("3.0."):
        task_instance.xcom_push(key=key, value=value)


def stored_xcom(ti_key: Any, key: str) -> Any:
    """
    Read an XCom of a task that has run.

    :param ti_key: which task of which run.
    :param key: the XCom's key.
    :return: its value, or ``None`` where there is none.
    """
    try:
        from airflow.sdk.execution_time.xcom import XCom as Stored
    except ImportError:  # Airflow 2
        from airflow.models.xcom import XCom as Stored  # type: ignore[no-redef]
    return Stored.get_value(ti_key=ti_key, key=key)


def object_storage_path(path: Any) -> Any:
    """
    Make an ``ObjectStoragePath`` of what may be one already.

    :param path: a path or URL, with its connection's id before an ``@`` where it needs one: ``s3://aws@bucket/key``.
    """
    try:
        from airflow.sdk import ObjectStoragePath
    except ImportError:  # Airflow 2
        from airflow.io.path import ObjectStoragePath  # type: ignore[import-not-found, no-redef]
    return path if isinstance(path, ObjectStoragePath) else ObjectStoragePath(path)


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
    found: datetime | None
    if ask is not None:
        found = ask(context)
    else:
        # Airflow 2 has it for its own sensors only, and renews the start date of a task that it reschedules
        from airflow.sensors.base import _orig_start_date  # type: ignore[import-not-found]

        found = _orig_start_date(
            dag_id=task_instance.dag_id,
            task_id=task_instance.task_id,
            run_id=task_instance.run_id,
            map_index=task_instance.map_index,
            try_number=task_instance.max_tries - task_instance.task.retries + 1,
        )
    return found


def task_states(task_instance: Any, task_ids: Sequence[str]) -> dict[str, Any]:
    """
    Query the states of tasks of the same run.

    :param task_instance: one that runs.
    :param task_ids: which tasks; at least one, since Airflow takes an empty list for all tasks.
    :return: the states, by task id, and with ``_`` and the map index behind it for an instance of a mapped task.
    """
    query = getattr(task_instance, "get_task_states", None)
    if query is not None:
        run_id = task_instance.run_id
        found = query(dag_id=task_instance.dag_id, task_ids=list(task_ids), run_ids=[run_id])
        return dict(found.get(run_id, {}))
    # Airflow 2: the worker reads the database
    return {
        one.task_id if one.map_index < 0 else f"{one.task_id}_{one.map_index}": one.state
        for one in task_instance.get_dagrun().get_task_instances()
        if one.task_id in task_ids
    }


def is_in_mapped_group(node: Any) -> bool:
    """
    Return whether a task or a task group is, or is inside, a mapped task group.

    :param node: a task or a task group.
    """
    return next(iter(node.iter_mapped_task_groups()), None) is not None


def is_mapped(task: Any) -> bool:
    """
    Return whether a task is mapped.

    :param task: while the DAG is parsed.
    """
    # Airflow 2 has no is_mapped; the arguments of partial() are an attribute of mapped tasks in every version
    return hasattr(task, "partial_kwargs")


def skips_downstream(task: Any) -> bool:
    """
    Return whether a task may skip tasks downstream of it: a branch, a short circuit, LatestOnlyOperator.

    :param task: while the DAG is parsed; a mapped one as well.
    """
    kind = getattr(task, "operator_class", type(task))
    if not isinstance(kind, type):
        return False
    # operators that skip nothing have a property of this name, which is no bool in the class
    return getattr(kind, "inherits_from_skipmixin", False) is True or any(
        base.__name__ == "SkipMixin" for base in kind.__mro__
    )


def stops_on_failure(dag: Any) -> bool:
    """
    Return whether a failed task stops all others of the run.

    :param dag: which DAG.
    """
    return bool(getattr(dag, "fail_fast", False) or getattr(dag, "fail_stop", False))  # Airflow 2 and 3.0: fail_stop


def core_timetable(dag: Any) -> Any:
    """
    Give a DAG's timetable as one that can tell when runs are due.

    :param dag: as a task's context has it.
    """
    try:
        from airflow.serialization.encoders import coerce_to_core_timetable
    except ImportError:  # Airflow 3.1 and older, where there is one kind of timetable
        return dag.timetable
    return coerce_to_core_timetable(dag.timetable)


def cron_schedule(dag: Any) -> tuple[str, tzinfo] | None:
    """Return the cron expression of a DAG's timetable and its time zone; ``None`` for any other timetable."""
    timetable = getattr(dag, "timetable", None)
    # the SDK's timetables (Airflow 3.2 and newer) have public names, those of the core private ones
    expression = getattr(timetable, "expression", None) or getattr(timetable, "_expression", None)
    zone = getattr(timetable, "timezone", None) or getattr(timetable, "_timezone", None)
    return (expression, zone) if isinstance(expression, str) and isinstance(zone, tzinfo) else None


def has_listeners() -> bool:
    """Tell whether a plugin listens to tasks: it hears only of those that end on a worker."""
    try:
        from airflow.sdk.listener import get_listener_manager
    except ImportError:  # Airflow 3.1 and older
        from airflow.listeners.listener import get_listener_manager  # type: ignore[assignment]
    return bool(get_listener_manager().has_listeners)


def is_made_at_run_time(operator: Any) -> bool:
    """
    Tell, while an operator is constructed, a mapped task that runs from a task in a DAG that is parsed.

    :param operator: which, once its base class has been constructed.
    """
    # set by Airflow's metaclass in every version from 2.3: only a mapped task is constructed where it runs
    return bool(getattr(operator, "_BaseOperator__from_mapped", False))


def is_parsed_for_a_task() -> bool:
    """Return whether a DAG file is being parsed by a worker, which runs one of its tasks."""
    try:
        from airflow.sdk import get_parsing_context
    except ImportError:  # Airflow 2 and 3.0
        from airflow.utils.dag_parsing_context import get_parsing_context  # type: ignore[import-not-found, no-redef]
    return get_parsing_context().task_id is not None


def mask_secrets(text: str) -> str:
    """Return a text in which every secret that Airflow knows in this process is replaced by ``***``."""
    try:
        from airflow.sdk._shared.secrets_masker import redact
    except ImportError:
        try:
            # Airflow 3.0 and 3.1
            from airflow.sdk.execution_time.secrets_masker import redact  # type: ignore[no-redef]
        except ImportError:  # Airflow 2
            from airflow.utils.log.secrets_masker import redact  # type: ignore[import-not-found, no-redef]
    return str(redact(text))


async def success_in_triggerer(task_instance: Any, value: Any) -> Any:
    """
    Make the event by which a trigger ends its task as a success, with what the task returns.

    Airflow 3 writes the XComs of such an event as JSON within JSON, so that a task which reads them gets a text. There,
    the trigger pushes it as a worker does, custom XCom backends included.

    :param task_instance: the trigger's.
    :param value: plain data.
    :return: a ``TaskSuccessEvent``.
    """
    from airflow.triggers.base import TaskSuccessEvent

    try:
        from airflow.sdk.execution_time.xcom import XCom as Stored
    except ImportError:  # Airflow 2
        return TaskSuccessEvent(xcoms={"return_value": value})
    from asgiref.sync import sync_to_async

    await sync_to_async(Stored.set)(
        key="return_value",
        value=value,
        dag_id=task_instance.dag_id,
        task_id=task_instance.task_id,
        run_id=task_instance.run_id,
        map_index=-1 if task_instance.map_index is None else task_instance.map_index,
    )
    return TaskSuccessEvent()


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


def is_connection_missing(error: BaseException) -> bool:
    """Return whether a look-up failed because no such connection exists."""
    from airflow.exceptions import AirflowNotFoundException  # type: ignore[attr-defined]

    return isinstance(error, AirflowNotFoundException)
