"""Facts about DAGs and tasks that each Airflow version stores in its own way."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import tzinfo
from typing import Any


def is_in_mapped_group(node: Any) -> bool:
    """Return whether a task or a task group is, or is inside, a mapped task group."""
    return next(iter(node.iter_mapped_task_groups()), None) is not None


def is_mapped(task: Any) -> bool:
    """Return whether a task is mapped, while its DAG is parsed."""
    # Airflow 2 has no is_mapped; the arguments of partial() are an attribute of mapped tasks in every version
    return hasattr(task, "partial_kwargs")


def is_parsed_for_a_task() -> bool:
    """Return whether a DAG file is being parsed by a worker, which runs one of its tasks."""
    try:
        from airflow.sdk import get_parsing_context
    except ImportError:  # Airflow 2
        from airflow.utils.dag_parsing_context import (  # type: ignore[import-not-found, no-redef]
            get_parsing_context,
        )
    return get_parsing_context().task_id is not None


def is_made_at_run_time(operator: Any) -> bool:
    """
    Return whether an operator is constructed where it runs, as a mapped task is, and not while its DAG is parsed.

    :param operator: its base class has been constructed.
    """
    # set by Airflow's metaclass in every version from 2.3: only a mapped task is constructed where it runs
    return bool(getattr(operator, "_BaseOperator__from_mapped", False))


def skips_downstream(task: Any) -> bool:
    """
    Return whether a task may skip tasks downstream of it: a branch, a short circuit, LatestOnlyOperator.

    :param task: mapped or not, while its DAG is parsed.
    """
    kind = getattr(task, "operator_class", type(task))
    if not isinstance(kind, type):
        return False
    # operators that skip nothing have a property of this name; in the class, it is not a bool
    return getattr(kind, "inherits_from_skipmixin", False) is True or any(
        base.__name__ == "SkipMixin" for base in kind.__mro__
    )


def stops_on_failure(dag: Any) -> bool:
    """Return whether a failed task stops all others of the run."""
    return bool(getattr(dag, "fail_fast", False) or getattr(dag, "fail_stop", False))  # Airflow 2 and 3.0: fail_stop


def cron_schedules(dag: Any) -> list[tuple[str, tzinfo | str]]:
    """Return the cron expressions of a DAG's timetable, each with its time zone; none for any other timetable."""
    return list(_crons(getattr(dag, "timetable", None)))


def _crons(timetable: Any) -> Iterator[tuple[str, tzinfo | str]]:
    # the SDK's timetables (Airflow 3.2 and newer) have public names, those of the core private ones
    expression, zone, inner = (
        getattr(timetable, name, None) or getattr(timetable, f"_{name}", None)
        for name in ("expression", "timezone", "timetables")
    )
    if isinstance(expression, str) and isinstance(zone, (tzinfo, str)):
        yield expression, zone
    # of MultipleCronTriggerTimetable, and of AssetOrTimeSchedule
    for each in (*(inner or ()), getattr(timetable, "timetable", None)):
        if each is not None:
            yield from _crons(each)


def core_timetable(dag: Any) -> Any:
    """
    Return a DAG's timetable as one of Airflow's core, which knows when runs are due.

    :param dag: from a task's context.
    """
    try:
        from airflow.serialization.encoders import coerce_to_core_timetable
    except ImportError:  # Airflow 3.1 and older have one kind of timetable
        return dag.timetable
    return coerce_to_core_timetable(dag.timetable)


def has_fixed_times(dag: Any) -> bool:
    """
    Return whether a DAG's due times are surely the same whichever runs there were. Those of a timedelta are not.

    :param dag: from a task's context.
    """
    timetable = core_timetable(dag)
    timetable = getattr(timetable, "timetable", timetable)  # of AssetOrTimeSchedule
    return bool(cron_schedules(dag)) or hasattr(timetable, "event_dates")


def default_deferrable() -> bool:
    """Return the value of ``[operators] default_deferrable``."""
    try:
        from airflow.sdk.configuration import conf
    except ImportError:  # Airflow 3.1 and older
        from airflow.configuration import conf
    return bool(conf.getboolean("operators", "default_deferrable", fallback=False))
