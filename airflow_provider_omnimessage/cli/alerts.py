"""The commands that list all scheduled alerts of this Airflow, and cancel those of a DAG before it is paused."""

from __future__ import annotations

import functools
import json
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from airflow_provider_omnimessage._compat import task_state_model, xcom_model
from airflow_provider_omnimessage.alerts.beats import DESCRIPTION, HeartbeatState
from airflow_provider_omnimessage.alerts.known import ALERTS, SENT, XCOM, kept_times
from airflow_provider_omnimessage.api.delivery import Outcome
from airflow_provider_omnimessage.api.errors import InvalidInputError, NotFoundError, OmnimessageError
from airflow_provider_omnimessage.api.masking import mask_number
from airflow_provider_omnimessage.cli.many import call_each
from airflow_provider_omnimessage.cli.terminal import Exit, TerminalHook, command, print_progress, print_rows

if TYPE_CHECKING:
    from airflow_provider_omnimessage.api.cancel_result import Cancellation
    from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook

ARM, DISARM = "ArmDeadMansSwitchOperator", "DisarmDeadMansSwitchOperator"


@dataclass(frozen=True)
class ScheduledAlert:
    """
    One message that Airflow has scheduled as an alert, as its database knows it.

    :param kind: ``switch``, ``next run`` or ``heartbeat``.
    :param run_id: the run that a switch guards.
    :param time_to_send: when it goes out, ISO 8601 in UTC.
    :param variable: the Airflow Variable that holds its id; ``None``: an XCom does.
    """

    kind: str
    dag_id: str
    run_id: str | None
    time_to_send: str | None
    omnimessage_id: str
    variable: str | None = None


@command()
def alerts(args: Namespace) -> Exit:
    """List what is scheduled now: ``GET /omnimessage/{omnimessage_id}/status`` for each alert that Airflow knows."""
    rows: list[dict[str, Any]] = []
    codes = [Exit.DONE]
    with TerminalHook(args.conn_id) as hook:
        for called in call_each(hook, known_alerts(), functools.partial(_state, hook)):
            alert = called.item
            if called.error is not None and called.was_tried:
                print_progress(f"{alert.omnimessage_id}: {called.error}")
            codes.append(called.code)
            to, state = called.result or (None, "unknown")
            if state is not None:
                rows.append(
                    {
                        "kind": alert.kind,
                        "dag_id": alert.dag_id,
                        "run_id": alert.run_id,
                        "time_to_send": alert.time_to_send,
                        "omnimessage_id": alert.omnimessage_id,
                        "to": to,
                        "state": state,
                    }
                )
    print_rows(rows, args.output)
    if not rows and max(codes) is Exit.DONE:
        print_progress("No alert is scheduled")
    return max(codes)


def _state(hook: OmnimessageHook, alert: ScheduledAlert) -> tuple[str | None, str | None]:
    """Return an alert's masked recipient and its state; ``None`` as state: it is not scheduled any more."""
    try:
        report = hook.get_delivery_report(alert.omnimessage_id)
    except NotFoundError:
        return None, "unknown to this connection"
    return mask_number(report.to or ""), "scheduled" if report.outcome is Outcome.IN_PROGRESS else None


@command()
def disarm(args: Namespace) -> Exit:
    """Cancel all alerts of a DAG: ``DELETE /omnimessage/{omnimessage_id}`` for each."""
    rows: list[dict[str, Any]] = []
    codes = [Exit.DONE]
    kept: set[str] = set()
    found = [alert for alert in known_alerts() if alert.dag_id == args.dag_id]
    with TerminalHook(args.conn_id) as hook:

        def cancel(alert: ScheduledAlert) -> Cancellation:
            due = datetime.fromisoformat(alert.time_to_send) if alert.time_to_send else None
            return hook.try_to_cancel(alert.omnimessage_id, due)

        for called in call_each(hook, found, cancel):
            alert, cancellation = called.item, called.result
            if cancellation is None:
                codes.append(called.code)
                result, is_cancelled = called.reason, False
                print_progress(f"{alert.omnimessage_id}: {result}")
            else:
                codes.append(Exit.DONE if cancellation.is_cancelled else Exit.NOT_FOUND)
                result, is_cancelled = str(cancellation), cancellation.is_cancelled
            if not is_cancelled and alert.variable:
                kept.add(alert.variable)
            rows.append({"kind": alert.kind, "omnimessage_id": alert.omnimessage_id, "result": result})
    _forget({alert.variable for alert in found if alert.variable} - kept)
    print_rows(rows, args.output)
    if not rows:
        print_progress(f"No alert of the DAG {args.dag_id} is known")
    return max(codes)


def known_alerts() -> list[ScheduledAlert]:
    """Return the alerts in Airflow's database whose time has not passed: those of switches, then the others."""
    from sqlalchemy.exc import DBAPIError

    now = datetime.now(timezone.utc)
    try:
        found = {alert.omnimessage_id: alert for alert in (*_of_switches(), *_of_variables())}
    except DBAPIError as error:
        raise OmnimessageError(
            f"Airflow's database cannot be read: {error.orig}; run this where the scheduler runs, and run 'airflow db "
            "migrate' if the database is new"
        ) from error
    return [
        alert
        for alert in found.values()
        if alert.time_to_send is None or datetime.fromisoformat(alert.time_to_send) > now
    ]


def _of_switches() -> Iterator[ScheduledAlert]:
    """Find the alerts of switches, by the XComs and the stored state of their tasks ``arm`` and ``disarm``."""
    XComModel, StateModel = xcom_model(), task_state_model()
    xcom_keys = ("return_value", "time_to_send", "step_times")
    for (dag_id, task_id, run_id), values in _values_of_tasks(
        XComModel, xcom_keys, (ARM,), XComModel.deserialize_value
    ):
        try:
            times = _times_in_xcoms(values)
        except (TypeError, ValueError):
            # such as references to object storage
            print_progress(f"The XComs of {task_id} of {dag_id} {run_id} cannot be read")
            continue
        for omnimessage_id, time_to_send in times.items():
            yield ScheduledAlert("switch", dag_id, run_id, time_to_send, omnimessage_id)
    keys = (ALERTS, SENT)
    found = [*_values_of_tasks(XComModel, map(XCOM.format, keys), (ARM, DISARM), XComModel.deserialize_value)]
    if StateModel is not None:
        found += _values_of_tasks(StateModel, keys, (ARM, DISARM), lambda row: json.loads(row.value))
    for (dag_id, task_id, run_id), values in found:
        for value in values.values():
            try:
                times = kept_times(value)
            except (InvalidInputError, TypeError, KeyError):
                # such as a reference to the deployment's own store
                print_progress(f"The alerts that {task_id} of {dag_id} {run_id} has stored cannot be read")
                continue
            for omnimessage_id, time_to_send in times.items():
                yield ScheduledAlert("switch", dag_id, run_id, time_to_send, omnimessage_id)


def _times_in_xcoms(values: Mapping[str, Any]) -> dict[str, str | None]:
    """Return when each alert of a switch is sent, ISO 8601, by id, from the XComs of ``arm``.

    :raises TypeError: if they hold something else; also raises ``ValueError``.
    """
    ids, deadline, step_times = (values.get(key) for key in ("return_value", "time_to_send", "step_times"))
    if not isinstance(ids or [], (list, tuple)) or not isinstance(step_times or {}, Mapping):
        raise TypeError("not a list")
    times = {str(one): (step_times or {}).get(str(one), deadline) for one in ids or ()}
    if any(time is not None and datetime.fromisoformat(time).tzinfo is None for time in times.values()):
        raise ValueError("a time without an offset")
    return times


def _values_of_tasks(
    model: Any, keys: Iterable[str], operators: Iterable[str], read: Callable[[Any], Any]
) -> list[tuple[tuple[str, str, str], dict[str, Any]]]:
    """Return what the tasks of some operators have stored.

    :param model: of the rows: XComs, or the task state store.
    :param keys: of the values.
    :param read: returns the value of a row.
    :return: pairs of DAG id, task id and run id, and the values by key.
    """
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import select

    is_of_task = (
        (TaskInstance.dag_id == model.dag_id)
        & (TaskInstance.task_id == model.task_id)
        & (TaskInstance.run_id == model.run_id)
        & (TaskInstance.map_index == model.map_index)
        & TaskInstance.operator.in_(tuple(operators))
    )
    with create_session() as session:
        rows = session.scalars(select(model).join(TaskInstance, is_of_task).where(model.key.in_(tuple(keys)))).all()
        by_task: dict[tuple[str, str, str], dict[str, Any]] = {}
        for row in rows:
            by_task.setdefault((row.dag_id, row.task_id, row.run_id), {})[row.key] = read(row)
    return list(by_task.items())


def _of_variables() -> Iterator[ScheduledAlert]:
    """Find the alerts of heartbeats and for next runs, by the Variables that hold their state."""
    from airflow.models.variable import Variable
    from airflow.utils.session import create_session
    from sqlalchemy import select

    begin = DESCRIPTION.format("")
    with create_session() as session:
        rows = session.scalars(select(Variable).where(Variable.description.startswith(begin))).all()
        states = [(row.key, str(row.description), row.val) for row in rows]
    for variable, description, value in states:
        try:
            state = HeartbeatState.read(json.loads(value))
        except (ValueError, TypeError, AttributeError):
            print_progress(f"Variable {variable} does not hold the state of {description.removeprefix(begin)}")
            continue
        kind = description.removeprefix(begin).removeprefix("the ")
        for omnimessage_id in (*state.live, *state.left):
            time_to_send = state.times.get(omnimessage_id)
            yield ScheduledAlert(kind, state.dag_id or "", None, time_to_send, omnimessage_id, variable)


def _forget(variables: set[str]) -> None:
    """Delete Variables whose messages are all cancelled, so that no task takes them for scheduled."""
    from airflow.models.variable import Variable
    from airflow.utils.session import create_session
    from sqlalchemy import delete

    with create_session() as session:
        session.execute(delete(Variable).where(Variable.key.in_(variables)))
