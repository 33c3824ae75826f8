"""What a running task or trigger needs of Airflow: state store, XComs, metrics, connections."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_omnimessage._compat.bases import BaseHook

if TYPE_CHECKING:
    from datetime import datetime, timedelta
    from os import PathLike
    from typing import Protocol

    from airflow.sdk import Connection, ObjectStoragePath
    from airflow.sdk.types import RuntimeTaskInstanceProtocol as RuntimeTaskInstance
    from airflow.sdk.types import TaskInstanceKey
    from airflow.triggers.base import TaskSuccessEvent

    class StateStore(Protocol):
        """A task's state store in Airflow 3.3 and newer."""

        def get(self, key: str) -> Any:
            """Return a stored value, or ``None``."""

        def set(self, key: str, value: Any, *, retention: Any) -> None:
            """Store a value."""

        def delete(self, key: str) -> None:
            """Delete a stored value."""

    class Stats(Protocol):
        """Airflow's metrics client."""

        def incr(self, stat: str, count: int = 1, *, tags: dict[str, str] | None = None) -> None:
            """Increment a counter."""

        def timing(self, stat: str, dt: timedelta, *, tags: dict[str, str] | None = None) -> None:
            """Report a duration."""


T = TypeVar("T")


class TaskMemory:
    """
    Store one value in a task's ``task_state_store`` (Airflow 3.3): it outlives retries, crashes and clears of the task.

    Airflow deletes it with the DAG run, or earlier if ``[state_store] clear_on_success`` is on.

    :param store: the context's ``task_state_store``.
    :param key: the value's key in the store.
    """

    def __init__(self, store: StateStore, key: str) -> None:
        self._store = store
        self._key = key

    @classmethod
    def of(cls, context: Mapping[str, Any], key: str) -> TaskMemory | None:
        """Return a task's memory; ``None`` if this Airflow has no state store."""
        store = context.get("task_state_store")
        return cls(store, key) if store is not None else None

    def recall(self) -> Any:
        """Return the stored value, or ``None``."""
        return self._store.get(self._key)

    def keep(self, value: dict[str, Any]) -> None:
        """Store plain data in place of the earlier value."""
        from airflow.sdk.execution_time.context import NEVER_EXPIRE

        self._store.set(self._key, value, retention=NEVER_EXPIRE)

    def forget(self) -> None:
        """Delete the stored value."""
        self._store.delete(self._key)


def push_xcom(task_instance: RuntimeTaskInstance, key: str, value: Any) -> None:
    """
    Push an XCom. Airflow 3.0 rejects ``None`` as a value and fails the task, so ``None`` is not pushed there.

    :param value: plain data or ``None``.
    """
    from airflow import __version__

    if value is not None or not __version__.startswith("3.0."):
        task_instance.xcom_push(key=key, value=value)


def stored_xcom(ti_key: TaskInstanceKey, key: str) -> Any:
    """Return an XCom of a task that has run, or ``None`` if there is none."""
    try:
        from airflow.sdk.execution_time.xcom import XCom as Stored
    except ImportError:  # Airflow 2
        from airflow.models.xcom import XCom as Stored  # type: ignore[no-redef]
    return Stored.get_value(ti_key=ti_key, key=key)


async def to_the_end(request: Awaitable[T]) -> T:
    """
    Await a request to the process that supervises a triggerer; if the caller is cancelled, let the request finish.

    In Airflow 3.0 and 3.1, the request that follows a cancelled one gets its response, and the triggerer ends.
    """
    return await asyncio.shield(asyncio.ensure_future(request))


async def in_thread(work: Callable[[], T]) -> T:
    """
    Run in a thread, as if on the event loop, what may ask Airflow for a connection or a variable.

    Unlike ``asyncio.to_thread``, it finds its way back to the loop, on which Airflow sends such requests.
    """
    from asgiref.sync import sync_to_async

    return await to_the_end(sync_to_async(work, thread_sensitive=False)())


async def success_in_triggerer(task_instance: Any, value: Any) -> TaskSuccessEvent:
    """
    Return the event with which a trigger ends its task as a success, with a return value.

    Airflow 3 stores the XComs of such an event as JSON within JSON, so that a task which reads them gets a string.
    There, this function pushes the value as a worker does, including custom XCom backends.

    :param value: plain data.
    """
    from airflow.triggers.base import TaskSuccessEvent

    try:
        from airflow.sdk.execution_time.xcom import XCom as Stored
    except ImportError:  # Airflow 2
        return TaskSuccessEvent(xcoms={"return_value": value})
    push = partial(
        Stored.set,
        key="return_value",
        value=value,
        dag_id=task_instance.dag_id,
        task_id=task_instance.task_id,
        run_id=task_instance.run_id,
        map_index=-1 if task_instance.map_index is None else task_instance.map_index,
    )
    await in_thread(push)
    return TaskSuccessEvent()


def first_started_at(context: Mapping[str, Any]) -> datetime | None:
    """Return when a sensor in mode ``reschedule`` first started, across its reschedules; ``None`` if it just did."""
    task_instance = context["ti"]
    first_reschedule_date = getattr(task_instance, "get_first_reschedule_date", None)
    found: datetime | None
    if first_reschedule_date is not None:
        found = first_reschedule_date(context)
    else:
        # Airflow 2 offers this to its own sensors only, and changes the start date of a task that it reschedules
        from airflow.sensors.base import _orig_start_date  # type: ignore[import-not-found]

        found = _orig_start_date(
            dag_id=task_instance.dag_id,
            task_id=task_instance.task_id,
            run_id=task_instance.run_id,
            map_index=task_instance.map_index,
            try_number=task_instance.max_tries - task_instance.task.retries + 1,
        )
    return found


def task_states(task_instance: RuntimeTaskInstance, task_ids: Sequence[str]) -> dict[str, Any]:
    """
    Query the states of tasks of the same run.

    :param task_ids: at least one, since Airflow takes an empty list for all tasks.
    :return: the states by task id; ``_`` and the map index follow the id of a mapped task.
    """
    query = getattr(task_instance, "get_task_states", None)
    if query is not None:
        run_id = task_instance.run_id
        found = query(dag_id=task_instance.dag_id, task_ids=list(task_ids), run_ids=[run_id])
        return dict(found.get(run_id, {}))
    # Airflow 2: the worker reads the database
    return {
        one.task_id if one.map_index < 0 else f"{one.task_id}_{one.map_index}": one.state
        for one in task_instance.get_dagrun().get_task_instances()  # type: ignore[attr-defined]
        if one.task_id in task_ids
    }


def has_listeners() -> bool:
    """Return whether a plugin listens to tasks: listeners are not called for tasks that end in a triggerer."""
    try:
        from airflow.sdk.listener import get_listener_manager
    except ImportError:  # Airflow 3.1 and older
        from airflow.listeners.listener import get_listener_manager  # type: ignore[assignment]
    return bool(get_listener_manager().has_listeners)


def object_storage_path(path: str | PathLike[str] | ObjectStoragePath) -> Any:
    """
    Return a path as an ``ObjectStoragePath``.

    :param path: a path or URL. A connection's id stands before an ``@``: ``s3://aws@bucket/key``.
    """
    try:
        from airflow.sdk import ObjectStoragePath
    except ImportError:  # Airflow 2
        from airflow.io.path import ObjectStoragePath  # type: ignore[import-not-found, no-redef]
    return path if isinstance(path, ObjectStoragePath) else ObjectStoragePath(path)


async def connection_of(conn_id: str) -> Connection:
    """Look up a connection without blocking the event loop."""
    if hasattr(BaseHook, "aget_connection"):
        return await to_the_end(BaseHook.aget_connection(conn_id))
    return await in_thread(partial(BaseHook.get_connection, conn_id))  # Airflow 3.0 and older


def is_connection_missing(error: BaseException) -> bool:
    """Return whether a look-up failed because no such connection exists."""
    from airflow.exceptions import AirflowNotFoundException  # type: ignore[attr-defined]

    return isinstance(error, AirflowNotFoundException)


def mask_secrets(text: str) -> str:
    """Replace every secret that Airflow knows in this process by ``***``."""
    try:
        from airflow.sdk._shared.secrets_masker import redact
    except ImportError:
        try:
            # Airflow 3.0 and 3.1
            from airflow.sdk.execution_time.secrets_masker import redact  # type: ignore[no-redef]
        except ImportError:  # Airflow 2
            from airflow.utils.log.secrets_masker import redact  # type: ignore[import-not-found, no-redef]
    return str(redact(text))


def airflow_stats() -> Stats:
    """Return the metrics client of a task."""
    try:
        from airflow.sdk.observability.stats import Stats as Client
    except ImportError:  # Airflow 3.1 and older
        from airflow.stats import Stats as Client
    return Client


def triggerer_stats() -> Stats:
    """Return the metrics client of a trigger: a triggerer sets up the core's client, and not the SDK's."""
    try:
        from airflow.observability.stats import Stats as Client
    except ImportError:  # Airflow 3.1 and older have one for both
        return airflow_stats()
    return Client


def xcom_model() -> Any:
    """Return the database model of XComs, for commands: tasks and triggers do not read Airflow's database."""
    try:
        from airflow.models.xcom import XComModel
    except ImportError:  # Airflow 2
        from airflow.models.xcom import BaseXCom as XComModel  # type: ignore[no-redef]
    return XComModel


def task_state_model() -> Any:
    """Return the database model of the task state store, for commands; ``None`` before Airflow 3.3."""
    try:
        from airflow.models.task_state_store import TaskStateStoreModel
    except ImportError:
        return None
    return TaskStateStoreModel
