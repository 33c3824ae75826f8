"""The commands that list all scheduled alerts of this Airflow, and cancel those of a DAG before it is paused."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from airflow_provider_omnimessage._compat import xcom_model
from airflow_provider_omnimessage.alerts.beats import DESCRIPTION, HeartbeatState
from airflow_provider_omnimessage.api.delivery import Outcome
from airflow_provider_omnimessage.api.errors import AuthenticationError, NotFoundError, OmnimessageError
from airflow_provider_omnimessage.api.masking import mask_number
from airflow_provider_omnimessage.cli.terminal import Exit, TerminalHook, command, exit_code, print_progress, print_rows

ARM = "ArmDeadMansSwitchOperator"


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
        for alert in known_alerts():
            row = {
                "kind": alert.kind,
                "dag_id": alert.dag_id,
                "run_id": alert.run_id,
                "time_to_send": alert.time_to_send,
                "omnimessage_id": alert.omnimessage_id,
            }
            try:
                report = hook.get_delivery_report(alert.omnimessage_id)
            except NotFoundError:
                rows.append({**row, "to": None, "state": "unknown to this connection"})
            except OmnimessageError as error:
                codes.append(exit_code(error, changes_something=False))
                print_progress(f"{alert.omnimessage_id}: {error}")
                if isinstance(error, AuthenticationError):
                    break
            else:
                if report.outcome is Outcome.IN_PROGRESS:
                    rows.append({**row, "to": mask_number(report.to or ""), "state": "scheduled"})
    if rows:
        print_rows(rows, args.output)
    elif max(codes) is Exit.DONE:
        print_progress("No alert is scheduled")
    return max(codes)


@command()
def disarm(args: Namespace) -> Exit:
    """Cancel all alerts of a DAG: ``DELETE /omnimessage/{omnimessage_id}`` for each."""
    rows: list[dict[str, Any]] = []
    codes = [Exit.DONE]
    kept: set[str] = set()
    found = [alert for alert in known_alerts() if alert.dag_id == args.dag_id]
    with TerminalHook(args.conn_id) as hook:
        for alert in found:
            due = datetime.fromisoformat(alert.time_to_send) if alert.time_to_send else None
            try:
                cancellation = hook.try_to_cancel(alert.omnimessage_id, due)
            except OmnimessageError as error:
                codes.append(exit_code(error, changes_something=False))
                result, is_cancelled = str(error), False
            else:
                codes.append(Exit.DONE if cancellation.is_cancelled else Exit.NOT_FOUND)
                result, is_cancelled = str(cancellation), cancellation.is_cancelled
            if not is_cancelled and alert.variable:
                kept.add(alert.variable)
            rows.append({"kind": alert.kind, "omnimessage_id": alert.omnimessage_id, "result": result})
    _forget({alert.variable for alert in found if alert.variable} - kept)
    if rows:
        print_rows(rows, args.output)
    else:
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
    """Find the alerts of switches, by the XComs of their tasks ``arm``."""
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import select

    XComModel = xcom_model()
    is_of_arm = (
        (TaskInstance.dag_id == XComModel.dag_id)
        & (TaskInstance.task_id == XComModel.task_id)
        & (TaskInstance.run_id == XComModel.run_id)
        & (TaskInstance.map_index == XComModel.map_index)
        & (TaskInstance.operator == ARM)
    )
    keys = ("return_value", "time_to_send", "step_times")
    with create_session() as session:
        rows = session.scalars(select(XComModel).join(TaskInstance, is_of_arm).where(XComModel.key.in_(keys))).all()
        by_task: dict[tuple[str, str, str], dict[str, Any]] = {}
        for row in rows:
            values = by_task.setdefault((row.dag_id, row.task_id, row.run_id), {})
            values[row.key] = XComModel.deserialize_value(row)
    for (dag_id, _, run_id), values in by_task.items():
        step_times = values.get("step_times") or {}
        for omnimessage_id in map(str, values.get("return_value") or ()):
            time_to_send = step_times.get(omnimessage_id, values.get("time_to_send"))
            yield ScheduledAlert("switch", dag_id, run_id, time_to_send, omnimessage_id)


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
