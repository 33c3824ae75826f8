"""The dead man's switch: a task group whose alert Messente sends unless the group's work is done in time.

``arm`` schedules the alert before the first task of the group; ``disarm`` cancels it after the last one. They are
Airflow's setup and teardown of the work between them: clearing any task of the work arms and disarms again, a short
circuit does not skip ``disarm``, and the state of the run is that of the work alone.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Literal

from airflow_provider_omnimessage._compat import TaskGroup
from airflow_provider_omnimessage.alerts.arming import (
    ArmDeadMansSwitchOperator,
    DisarmDeadMansSwitchOperator,
    _invalid,
    _rule,
)
from airflow_provider_omnimessage.alerts.known import alert_messages
from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook

#: Trigger rules on which one more task that has succeeded has no influence.
NEUTRAL_RULES = frozenset({"all_success", "none_failed", "none_skipped", "all_done"})


class DeadMansSwitch(TaskGroup):
    """
    A task group with an alert that goes out unless the group's work is done in time, even when Airflow is dead.

    The alert is scheduled at Messente before the first task of the group and cancelled after the last one has
    succeeded. If any task in the group fails, is late, or Airflow dies, nobody cancels, and Messente sends it.

    What is skipped is not late. A run that starts after its own deadline is alerted at once; backfills, and scheduled
    runs of which the next one is due already (catchup), stay silent then. Every run has an alert of its own.

    :param group_id: the group's id. The tasks ``arm`` and ``disarm`` are added to the group.
    :param to: the recipient in E.164, or a list of them: each gets an alert. (templated)
    :param text: the alert, as one SMS. Either this or ``messages``. (templated)
    :param messages: the alert on any channels, as the schedule operator takes it, instead of ``text``. (templated)
    :param time_to_send: the deadline: an ISO 8601 date and time, a datetime, or a timedelta from the moment of arming.
        (templated)
    :param timezone: IANA name for a ``time_to_send`` without an offset; default: the connection's, else UTC.
        (templated)
    :param on_failure: when work has failed: ``"wait"`` (default) lets the alert go out at its time, so that a run
        repaired by then still cancels it; ``"send_now"`` sends it as soon as all tasks of the group have ended.
    :param required: ``True``: if the alert cannot be scheduled, the work does not run. Default: it does, and the log
        of ``arm`` says so.
    :param dlr_url: where Messente posts delivery reports; default: the connection's. (templated)
    :param text_store: ``"plaintext"``, ``"sha256"`` or ``"nostore"``; default: the connection's. (templated)
    :param priority: ``"low"``, ``"regular"`` or ``"high"``; default: the connection's, else regular. (templated)
    :param omnimessage_conn_id: the Airflow connection, of type ``omnimessage``. (templated)
    :param kwargs: what a ``TaskGroup`` takes.
    :raises InvalidInputError: while the DAG is parsed: names what is wrong with the alert, or that the group is empty.
    """

    def __init__(
        self,
        group_id: str,
        *,
        to: Any,
        time_to_send: Any,
        text: Any = None,
        messages: Any = None,
        timezone: str | None = None,
        on_failure: Literal["wait", "send_now"] = "wait",
        required: bool = False,
        dlr_url: str | None = None,
        text_store: str | None = None,
        priority: str | None = None,
        omnimessage_conn_id: str = OmnimessageHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        if on_failure not in ("wait", "send_now"):
            raise _invalid("on_failure", f"{on_failure!r} is not accepted; give 'wait' or 'send_now'")
        if not isinstance(required, bool):
            raise _invalid("required", f"{required!r} is not accepted; give True or False")
        self._alert = {
            "to": to,
            "messages": alert_messages(text, messages),
            "dlr_url": dlr_url,
            "text_store": text_store,
            "priority": priority,
            "omnimessage_conn_id": omnimessage_conn_id,
        }
        self._arming = {"time_to_send": time_to_send, "timezone": timezone, "required": required}
        self._on_failure = on_failure
        self.arm: ArmDeadMansSwitchOperator | None = None
        self.disarm: DisarmDeadMansSwitchOperator | None = None
        super().__init__(group_id=group_id, **kwargs)

    def __exit__(self, _type: Any, _value: Any, _tb: Any) -> None:
        """Put the work between arming and disarming."""
        try:
            if _type is None:
                self._wire()
        finally:
            super().__exit__(_type, _value, _tb)  # type: ignore[no-untyped-call]

    def get_roots(self) -> Any:
        """
        Give the tasks that begin the group: arming, and those with which the work begins.

        Both, because what comes before the group is to decide on the work by the work's own trigger rules, while the
        arming runs in any case.
        """
        if self.arm is None:
            yield from super().get_roots()
            return
        yield self.arm
        yield from self._work_roots()

    def _work(self) -> list[Any]:
        return [task for task in self if task is not self.arm and task is not self.disarm]

    def _work_roots(self) -> list[Any]:
        work = self._work()
        ids = {task.task_id for task in work}
        return [task for task in work if task.upstream_task_ids.isdisjoint(ids)]

    def _wire(self) -> None:
        work = self._work()
        if not work:
            raise _invalid(f"DeadMansSwitch '{self.group_id}'", "holds no task; create the work inside the 'with'")
        if self.arm is None:
            self._make_ends()
        arm, disarm = self.arm, self.disarm
        assert arm is not None
        assert disarm is not None
        arm.guarded = [task.task_id for task in self._work_roots()]
        counted = [task for task in work if not task.is_teardown or task.on_failure_fail_dagrun]
        disarm.work = [task.task_id for task in counted]
        for root in self._work_roots():
            # a rule such as one_failed counts what is before the task, and would count the arming, too
            if _rule(root) in NEUTRAL_RULES and arm.task_id not in root.upstream_task_ids:
                arm.set_downstream(root)
        for task in counted:
            # Not only the leaves: those can end before all that is above them has, by one_done or a skip.
            if disarm.task_id not in task.downstream_task_ids:
                disarm.set_upstream(task)
        # Airflow demands all_success directly after a setup
        arm.is_setup = all(
            task.is_teardown or _rule(task) == "all_success" for task in arm.downstream_list if task is not disarm
        )

    def _make_ends(self) -> None:
        # what default_args say for the work must neither hold the alert up nor tell of a failure twice
        own: dict[str, Any] = {
            "task_group": self,
            "dag": self.dag,
            "depends_on_past": False,
            "wait_for_downstream": False,
            "retries": 5,
            "retry_delay": timedelta(seconds=10),
            "retry_exponential_backoff": False,
            "execution_timeout": None,
            "pool": None,
            "max_active_tis_per_dag": None,
            "max_active_tis_per_dagrun": None,
            "do_xcom_push": True,
            "inlets": None,
            "outlets": None,
            "pre_execute": None,
            "post_execute": None,
            "on_execute_callback": None,
            "on_failure_callback": None,
            "on_success_callback": None,
            "on_retry_callback": None,
            "on_skipped_callback": None,
            "email_on_failure": False,
            "email_on_retry": False,
        }
        arm_id, disarm_id = (name if self.prefix_group_id else f"{self._group_id}_{name}" for name in ("arm", "disarm"))
        self.arm = ArmDeadMansSwitchOperator(
            task_id=arm_id, trigger_rule="all_done", **self._arming, **self._alert, **own
        )
        self.disarm = DisarmDeadMansSwitchOperator(
            task_id=disarm_id,
            omnimessage_id=self.arm.output,
            arm_id=self.arm.task_id,
            on_failure=self._on_failure,
            **self._alert,
            **own,
        )
        self.disarm.as_teardown()
        self.arm.set_downstream(self.disarm)
