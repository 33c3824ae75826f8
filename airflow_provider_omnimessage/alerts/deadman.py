"""The dead man's switch: a task group whose alert Messente sends unless the group's work is done in time."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_omnimessage._compat import TaskGroup
from airflow_provider_omnimessage.alerts.arming import ArmDeadMansSwitchOperator
from airflow_provider_omnimessage.alerts.content import alert_messages, check_alert_at_parse, check_alert_window
from airflow_provider_omnimessage.alerts.deadlines import Deadline
from airflow_provider_omnimessage.alerts.disarming import DisarmDeadMansSwitchOperator
from airflow_provider_omnimessage.alerts.markers import MarkerOperator
from airflow_provider_omnimessage.alerts.next_run import ExpectNextRunOperator, check_next_run, next_run_messages
from airflow_provider_omnimessage.alerts.steps import Step, plan_escalation
from airflow_provider_omnimessage.alerts.variables import variable_of
from airflow_provider_omnimessage.alerts.wiring import wire
from airflow_provider_omnimessage.api.errors import InvalidInputError
from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook
from airflow_provider_omnimessage.tasks.arguments import require_choice, require_flag

if TYPE_CHECKING:
    from airflow.sdk import DAG

#: ``arm`` and ``disarm`` are tried again after at least 20, 40, 80, 160 and 300 seconds: a short fault costs little
#: time, and an outage of Airflow's API server of five minutes leaves a try. The last one of ``arm`` does not count: it
#: only keeps what earlier ones have scheduled.
TRIES: dict[str, Any] = {
    "retries": 5,
    "retry_delay": timedelta(seconds=20),
    "retry_exponential_backoff": True,
    "max_retry_delay": timedelta(minutes=5),  # a cleared task goes on counting
}

#: What ``default_args`` say about where tasks run, and whose they are, holds for the switch too; nothing else does.
PASSED_ON = frozenset({"executor", "executor_config", "owner", "queue", "run_as_user"})


class DeadMansSwitch(TaskGroup):
    """A task group with an alert that Messente sends unless the group's work is done in time, even if Airflow is down.

    The alert is scheduled before the first task of the group starts, and cancelled when all of its work is done. If a
    task fails or is late, or Airflow goes down, nothing cancels it. Skipped work is done. Every run has its own alert.

    A run that starts after its own deadline alerts at once; backfills, and scheduled runs whose successor is already
    due, stay silent.

    Pass exactly one of ``by``, ``within`` and ``time_to_send``.

    Example::

        with DeadMansSwitch("report_by_nine", to="+37255555555", text="Late: {{ run_id }}", by="09:00"):
            extract() >> load()

    :param group_id: the group's id. The switch adds its own tasks beside the group: ``before_arm``, ``arm``,
        ``after_arm`` and ``disarm``.
    :param to: the recipient in E.164 format, or several: a list, JSON text, or separated by commas. Each gets an alert.
        Or a function ``(datetime) -> number(s)`` or an :class:`OnCall`, for the time at which the alert goes out.
        (templated)
    :param by: the deadline as a local time of day, ``"HH:MM"``: the next one after the run was due (the end of its data
        interval, else its ``run_after``). Default: see ``within`` and ``time_to_send``. (templated)
    :param within: the deadline as a timedelta, more than 0, from the time at which the run was due. Default: see
        ``by``.
    :param time_to_send: any other deadline: an ISO 8601 date and time, a datetime, or a timedelta from when ``arm``
        runs. Default: see ``by``. (templated)
    :param days: with ``by``: the days of the week that count, such as ``"mon-fri"`` or ``"sat,sun"``; default: every
        day. (templated)
    :param text: the alert, as one SMS. Either this or ``messages``. (templated)
    :param messages: the alert on any channels, as the schedule operator takes it, instead of ``text``. (templated)
    :param timezone: IANA name for ``by``, for a ``time_to_send`` without an offset, and for a ``window`` without one;
        default: the connection's, else UTC. (templated)
    :param on_failure: what happens if work fails: ``"wait"`` (default) lets the alert go out at its time, so that a run
        that is repaired by then still cancels it; ``"send_now"`` sends it as soon as all tasks of the group have ended.
    :param required: ``True``: if the alert cannot be scheduled, the work does not run. Default: the work runs, and
        ``arm`` is shown as failed.
    :param next_run_within: how late the next run may start, a timedelta of at least one minute. If it does not start in
        time, for example because the DAG is paused or its file is broken, an alert goes out. It is scheduled when the
        work has ended, by a task ``next_run``. Default: no such alert.
    :param next_run_text: what that alert says, as one SMS. ``{{ expected }}`` is when the next run is due. Default:
        names the DAG and that time. (templated)
    :param escalate: further messages after the alert: a list of :class:`Step`. They are scheduled together with it, and
        cancelled together with it. Default: none. (templated)
    :param window: when alerts may be sent, a :class:`~airflow_provider_omnimessage.api.windows.SendWindow` or its text
        form. An alert that is due outside of it is scheduled for the next time in it, and its steps follow from there:
        nobody is alerted before, and if the work is done by then, nobody is alerted at all. ``"connection"`` is the
        connection's window. Default: any time, even if the connection has a window. (templated)
    :param dlr_url: where Messente posts delivery reports; default: the connection's. (templated)
    :param text_store: ``"plaintext"``, ``"sha256"`` or ``"nostore"``; default: the connection's. (templated)
    :param priority: ``"low"``, ``"regular"`` or ``"high"``; default: the connection's, else regular. (templated)
    :param omnimessage_conn_id: the Airflow connection, of type ``omnimessage``. (templated)
    :param pool: the pool of ``arm`` and ``disarm``; default: Airflow's default pool. A pool of their own keeps a slot
        free for ``disarm`` when the work of other DAGs fills the default pool.
    :param queue: the queue of ``arm`` and ``disarm``, on executors with queues; default: that of ``default_args``.
    :param priority_weight: the priority of ``arm`` and ``disarm`` over other queued tasks; default: Airflow's.
    :param kwargs: what a ``TaskGroup`` takes.
    :raises InvalidInputError: while the DAG is parsed, names everything that is wrong by then; also if the work cannot
        be guarded, or if the DAG's schedule is due at its own deadline.
    """

    def __init__(
        self,
        group_id: str,
        *,
        to: Any,
        by: Any = None,
        within: Any = None,
        time_to_send: Any = None,
        days: Any = None,
        text: Any = None,
        messages: Any = None,
        timezone: str | None = None,
        on_failure: Literal["wait", "send_now"] = "wait",
        required: bool = False,
        next_run_within: timedelta | None = None,
        next_run_text: str | None = None,
        escalate: Sequence[Step] | None = None,
        window: Any = None,
        dlr_url: str | None = None,
        text_store: str | None = None,
        priority: str | None = None,
        omnimessage_conn_id: str = OmnimessageHook.default_conn_name,
        pool: str | None = None,
        queue: str | None = None,
        priority_weight: int | None = None,
        **kwargs: Any,
    ) -> None:
        require_choice("on_failure", on_failure, ("wait", "send_now"))
        require_flag("required", required)
        drafts = alert_messages(text, messages)
        steps = plan_escalation(escalate)
        check_alert_at_parse(
            to=to, messages=drafts, timezone=timezone, dlr_url=dlr_url, text_store=text_store, priority=priority
        )
        deadline = {"by": by, "within": within, "time_to_send": time_to_send, "days": days}
        Deadline(**deadline, timezone=timezone).check_at_parse()
        alert = {
            "to": to,
            "messages": drafts,
            "timezone": timezone,
            "window": check_alert_window(window, to, steps),
            "dlr_url": dlr_url,
            "text_store": text_store,
            "priority": priority,
            "omnimessage_conn_id": omnimessage_conn_id,
        }
        slots = {"pool": pool, "queue": queue, "priority_weight": priority_weight}
        following = None
        if next_run_within is not None:
            following = {"within": next_run_within, "messages": next_run_messages(next_run_text)}
        elif next_run_text is not None:
            raise InvalidInputError.of("next_run_text", "works with next_run_within only; pass both, or neither")
        super().__init__(group_id=group_id, **kwargs)
        Deadline(**deadline, timezone=timezone).check_at_parse(self.dag)
        if following is not None:
            check_next_run(next_run_within, self.dag)
        # All that a switch knows is in its tasks: a copied task group loses what Airflow does not know of.
        own = {name: value for name, value in slots.items() if value is not None}
        self._make_tasks({**alert, **own}, {**deadline, "required": required}, on_failure, following, steps)

    @property
    def arm(self) -> ArmDeadMansSwitchOperator:
        """The task that schedules the alert."""
        arm = self.dag.task_dict[self.task_id_of("arm")]
        assert isinstance(arm, ArmDeadMansSwitchOperator)
        return arm

    @property
    def disarm(self) -> DisarmDeadMansSwitchOperator:
        """The task that cancels it."""
        disarm = self.dag.task_dict[self.task_id_of("disarm")]
        assert isinstance(disarm, DisarmDeadMansSwitchOperator)
        return disarm

    def __exit__(self, _type: Any, _value: Any, _tb: Any) -> None:
        """Put the work between ``arm`` and ``disarm``."""
        super().__exit__(_type, _value, _tb)  # type: ignore[no-untyped-call]
        if _type is None:
            # What is wrong now may be put right by what follows in the DAG file. Airflow validates the whole DAG.
            with suppress(InvalidInputError):
                self.wire_in(self.dag)

    def wire_in(self, dag: DAG) -> None:
        """Set the edges between the switch and its work anew, as the DAG is now.

        :param dag: which contains the switch: its own, or a copy.
        :raises InvalidInputError: if the work cannot be guarded.
        """
        wire(self, dag)

    def task_id_of(self, name: str) -> str:
        """
        Return the id of one of the switch's own tasks.

        :param name: ``before_arm``, ``arm``, ``after_arm`` or ``disarm``.
        """
        return f"{self.group_id}{'.' if self.prefix_group_id else '_'}{name}"

    def marker_after(self, task: Any, dag: DAG) -> MarkerOperator:
        """
        Return an empty task of the switch that stands directly after a task of the work.

        :param task: which task.
        :param dag: which contains it.
        """
        task_id = f"{task.task_id}_ended"
        marker = dag.task_dict.get(task_id)
        if not isinstance(marker, MarkerOperator):
            with _without_default_args(dag) as default_args:
                marker = MarkerOperator(
                    task_id=task_id,
                    switch_id=str(self.group_id),
                    dag=dag,
                    task_group=dag.task_group,
                    **_passed_on(default_args),
                )
            marker.after_work = True
            marker.as_teardown()
        return marker

    def drop_markers(self, dag: DAG, keep: Collection[str]) -> None:
        """
        Remove the empty tasks that stand after no task of the work any more.

        :param dag: which contains them.
        :param keep: the ids of those that do.
        """
        for task_id, task in list(dag.task_dict.items()):
            is_own = isinstance(task, MarkerOperator) and task.switch_id == self.group_id and task.after_work
            if is_own and task_id not in keep:
                del dag.task_dict[task_id]
                del dag.task_group.children[task_id]
                dag.task_group.used_group_ids.discard(task_id)

    def invalid(self, reason: str) -> Exception:
        """
        Make the error for a switch that cannot guard its work.

        :param reason: what is wrong, and the way out.
        """
        return InvalidInputError.of(f"DeadMansSwitch '{self.group_id}'", reason)

    def _make_tasks(
        self,
        alert: dict[str, Any],
        arming: dict[str, Any],
        on_failure: Literal["wait", "send_now"],
        following: dict[str, Any] | None,
        steps: list[dict[str, Any]],
    ) -> None:
        dag = self.dag
        if following is not None:
            variable = variable_of("next_run", dag.dag_id, str(self.group_id))
            arming = {**arming, "next_run_variable": variable}
        # At the top level of the DAG: the group then means the work alone, to Airflow and to users.
        common: dict[str, Any] = {"switch_id": str(self.group_id), "dag": dag, "task_group": dag.task_group}
        with _without_default_args(dag) as default_args:
            common |= _passed_on(default_args)
            own = {**common, **TRIES, **alert}
            disarm_id = self.task_id_of("disarm")
            arm = ArmDeadMansSwitchOperator(
                task_id=self.task_id_of("arm"), disarm_id=disarm_id, escalate=steps, **arming, **own
            )
            gate = MarkerOperator(task_id=self.task_id_of("after_arm"), **common)
            disarm = DisarmDeadMansSwitchOperator(
                task_id=disarm_id,
                omnimessage_id=arm.output,
                arm_id=arm.task_id,
                on_failure=on_failure,
                escalate=steps,
                **own,
            )
            if arming["required"]:
                arm.as_setup()  # type: ignore[no-untyped-call]
            else:
                before = MarkerOperator(task_id=self.task_id_of("before_arm"), **common)
                before.as_setup()  # type: ignore[no-untyped-call]
                arm.as_teardown()
                before.set_downstream([arm, gate, disarm])
            if following is not None:
                # a teardown too: the state of the run stays that of the work
                ExpectNextRunOperator(
                    task_id=self.task_id_of("next_run"),
                    variable=variable,
                    **{**own, **following},
                ).as_teardown().set_upstream(disarm)
        gate.as_teardown()
        disarm.as_teardown()
        arm.set_downstream([gate, disarm])


@contextmanager
def _without_default_args(dag: DAG) -> Iterator[dict[str, Any]]:
    """Keep a DAG's ``default_args``, which are meant for the work, from the tasks that are created meanwhile."""
    default_args = dag.default_args
    dag.default_args = {}
    try:
        yield default_args
    finally:
        dag.default_args = default_args


def _passed_on(default_args: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in default_args.items() if name in PASSED_ON}
