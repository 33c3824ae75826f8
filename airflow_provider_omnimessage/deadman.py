"""
The dead man's switch: a task group whose alert waits at Messente, and goes out unless the work is done in time.

The task ``arm`` schedules the alert before the first task of the group; the task ``disarm`` cancels it after the last.
They are Airflow's setup and teardown of the work between them, and that decides most of what happens around them:
clearing any task of the work arms and disarms anew, a short circuit does not skip the disarming, and the state of the
run is that of the work alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow_provider_omnimessage._compat import (
    AirflowFailException,
    BaseOperator,
    TaskGroup,
    core_timetable,
    task_states,
)
from airflow_provider_omnimessage.alerts import KnownAlerts, alert_messages, recipients
from airflow_provider_omnimessage.failures import task_failures
from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook
from airflow_provider_omnimessage.links import OmnimessageLink
from airflow_provider_omnimessage.rendering import PlainStrings

if TYPE_CHECKING:
    from airflow_provider_omnimessage.api.timing import TimeToSend
    from airflow_provider_omnimessage.posting import Now

LONG_PAST = timedelta(hours=24)
"""A deadline that has been gone for longer than this is nobody's news, where no timetable says more."""

DONE = frozenset({"success", "skipped", "removed"})
"""States that work may end in without being late: what is skipped is not late."""

#: Trigger rules on which one more task that has succeeded has no influence.
NEUTRAL_RULES = frozenset({"all_success", "none_failed", "none_skipped", "all_done"})


class _Alert(PlainStrings, BaseOperator):
    """What arming and disarming have in common: the alert, and whom it goes to."""

    template_fields: Sequence[str] = ("to", "messages", "dlr_url", "text_store", "priority", "omnimessage_conn_id")
    template_fields_renderers: ClassVar[dict[str, str]] = {"messages": "json"}
    operator_extra_links = (OmnimessageLink(),)

    def __init__(
        self,
        *,
        to: Any,
        messages: Any,
        dlr_url: str | None,
        text_store: str | None,
        priority: str | None,
        omnimessage_conn_id: str,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.to = to
        self.messages = messages
        self.dlr_url = dlr_url
        self.text_store = text_store
        self.priority = priority
        self.omnimessage_conn_id = omnimessage_conn_id
        self._unrendered: Exception | None = None

    def render_template_fields(self, context: Any, jinja_env: Any = None) -> None:
        """Render; an error waits for :meth:`execute`, which knows what it may stop."""
        try:
            super().render_template_fields(context, jinja_env)
        except Exception as error:
            self._unrendered = error

    def _compose(self, hook: OmnimessageHook, to: str) -> dict[str, Any]:
        return hook.compose(to, self.messages, dlr_url=self.dlr_url, text_store=self.text_store, priority=self.priority)

    def _recipients(self) -> list[str]:
        return recipients(self.to)


class ArmDeadMansSwitchOperator(_Alert):
    """
    Schedule the alert of a :class:`DeadMansSwitch`, which makes this task: ``POST /omnimessage`` per recipient.

    XCom: the ids of the alerts; ``time_to_send`` (UTC, ISO 8601). What was scheduled is also kept in the task's state
    store (Airflow 3.3), so that a retry or a cleared task finds its own alerts again: one that still waits for the same
    moment is kept, any other is replaced, and one that has gone out is not repeated. All that is known and not
    cancelled is in the XCom, whatever else fails: the disarming cancels it.

    A request whose answer was lost is made again, two more times at most: two alerts are better than none.

    :param time_to_send: the deadline, in every form that the schedule operator takes. (templated)
    :param timezone: IANA name for a ``time_to_send`` without an offset. (templated)
    :param required: fail where the alert cannot be scheduled, and so keep the work from running.
    :param guarded: the ids of the tasks with which the work begins.
    """

    template_fields: Sequence[str] = (*_Alert.template_fields, "time_to_send", "timezone")
    ui_color = "#e3f0ff"

    def __init__(
        self, *, time_to_send: Any, timezone: str | None, required: bool, guarded: Iterable[str] = (), **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.time_to_send = time_to_send
        self.timezone = timezone
        self.required = required
        self.guarded = list(guarded)

    def execute(self, context: Mapping[str, Any]) -> list[str]:
        """Schedule what is missing, and return the ids of this run's alerts."""
        known = KnownAlerts(context)
        ti = context["ti"]
        try:
            if self.guarded and set(_states(context, self.guarded).values()) == {"skipped"}:
                self.log.info("The whole group is skipped, and what is skipped is not late: no alert is scheduled")
                return known.ids()
            if not self.required and ti.try_number > max(1, ti.max_tries):
                raise _Ended("all tries but this last one were ended from outside, so this one leaves it at that")
            if self._unrendered is not None:
                raise self._unrendered
            self._arm(context, known)
        except Exception as error:
            if self.required:
                with task_failures("Look for the alert in Messente's dashboard, then clear this task"):
                    raise
            if not known.ids():
                self.log.error(
                    "THE ALERT IS NOT SCHEDULED, as far as is known, and the work runs without it; required=True would "
                    "stop it instead. %s: %s",
                    type(error).__name__,
                    error,
                )
            else:
                self.log.error("The alert of an earlier try or run of this task stands: %s", error)
        self._tell_doubts(known)
        return known.ids()

    def _tell_doubts(self, known: KnownAlerts) -> None:
        for message in known.in_doubt():
            if message.waits(_now()):
                self.log.warning(
                    "An alert may have been scheduled at %s of which nobody knows the id. If it was, it goes out at "
                    "%s, even if the work is done by then: look for it in Messente's dashboard",
                    message.since,
                    message.time_to_send,
                )

    def _arm(self, context: Mapping[str, Any], known: KnownAlerts) -> None:
        from airflow_provider_omnimessage.api.masking import mask_number

        problems: list[Exception] = []
        wanted: list[str] = []
        with OmnimessageHook(self.omnimessage_conn_id) as hook:
            moment = self._moment(hook, known)
            context["ti"].xcom_push(key="time_to_send", value=moment.utc.isoformat())
            until = time.monotonic() + hook.settings.deadline
            for to in self._recipients():
                try:
                    if problems and time.monotonic() > until:
                        raise _Ended(f"nobody answered for {hook.settings.deadline:g} seconds, and the work waits")
                    omnimessage_id = self._arm_for(to, moment, hook, known, context)
                except Exception as error:
                    self.log.error("No alert for %s: %s", mask_number(to), error)
                    problems.append(error)
                else:
                    wanted += [omnimessage_id] if omnimessage_id else []
            if not problems:
                # where one could not be scheduled, the one that it was to replace is better than none
                self._cancel_others(wanted, hook, known)
        if problems and (self.required or not wanted):
            raise problems[0]

    def _moment(self, hook: OmnimessageHook, known: KnownAlerts) -> TimeToSend:
        """Tell the deadline. A retry keeps that of the first try: a timedelta would begin anew."""
        for alert in known.alerts:
            if alert.message.max_tries == known.max_tries and alert.message.time_to_send:
                return hook.resolve_time_to_send(alert.message.time_to_send)
        return hook.resolve_time_to_send(self.time_to_send, timezone=self.timezone)

    def _arm_for(
        self, to: str, moment: TimeToSend, hook: OmnimessageHook, known: KnownAlerts, context: Mapping[str, Any]
    ) -> str | None:
        from airflow_provider_omnimessage.api.masking import mask_number
        from airflow_provider_omnimessage.durable import fingerprint
        from airflow_provider_omnimessage.posting import Now

        draft = self._compose(hook, to)
        password = hook.settings.password
        earlier = known.of(fingerprint({"to": draft["to"]}, password))
        if moment.utc > _now():
            for message in earlier:
                is_retry = message.max_tries == known.max_tries
                is_same = message.fingerprint == fingerprint(draft, password)
                if is_same and (
                    is_retry
                    or (message.time_to_send == moment.utc.isoformat() and self._state(hook, message) is Now.WAITING)
                ):
                    self.log.info("The alert to %s is scheduled already: %s", mask_number(to), message.omnimessage_id)
                    return message.omnimessage_id
            omnimessage_id = known.schedule(hook, draft, moment.utc, moment)
            self.log.info(
                "The alert to %s goes out at %s unless it is cancelled: %s", mask_number(to), moment, omnimessage_id
            )
            return omnimessage_id
        if earlier:
            state = self._state(hook, earlier[0])
            self.log.warning(
                "%s has gone by; the alert of this run, %s, %s, and is not repeated",
                moment,
                earlier[0].omnimessage_id,
                state.value if state else "may have gone out",
            )
            return earlier[0].omnimessage_id
        reason = silent_because(context, moment.utc, _now())
        if reason:
            self.log.info("%s has gone by, and nobody is alerted: %s", moment, reason)
            return None
        omnimessage_id = known.schedule(hook, draft, moment.utc, None)
        self.log.warning(
            "%s had gone by before the work began: the alert to %s goes out now: %s",
            moment,
            mask_number(to),
            omnimessage_id,
        )
        return omnimessage_id

    def _state(self, hook: OmnimessageHook, message: Any) -> Now | None:
        from airflow_provider_omnimessage.api.errors import OmnimessageError
        from airflow_provider_omnimessage.posting import look_up

        try:
            return look_up(hook, message, _now())
        except OmnimessageError as error:
            self.log.warning("What became of %s could not be found out: %s", message.omnimessage_id, error)
            return None

    def _cancel_others(self, wanted: Sequence[str], hook: OmnimessageHook, known: KnownAlerts) -> None:
        """Cancel what is replaced: after its successor is scheduled, so that there is no moment without an alert."""
        from airflow_provider_omnimessage.api.errors import OmnimessageError

        gone = []
        for alert in known.alerts:
            omnimessage_id = alert.message.omnimessage_id
            if not omnimessage_id or omnimessage_id in wanted:
                continue
            if alert.message.waits(_now()):
                try:
                    cancellation = hook.try_to_cancel(omnimessage_id)
                except OmnimessageError as error:
                    self.log.error(
                        "The alert %s that was replaced is still scheduled; the disarming tries again: %s",
                        omnimessage_id,
                        error,
                    )
                    continue
                self.log.info("%s, which was replaced, %s", omnimessage_id, cancellation)
            gone.append(alert)
        if gone:
            known.drop(gone)


class _Ended(Exception):
    """What keeps the arming from going on, although nothing is wrong with the alert."""


class DisarmDeadMansSwitchOperator(_Alert):
    """
    Cancel the alert of a :class:`DeadMansSwitch`, which makes this task: ``DELETE /omnimessage/{omnimessage_id}``.

    It runs when all work has ended. Where a task of it has failed, the alert stands, and this task fails to say so:
    as a teardown it leaves the run's state alone, and clearing the failed tasks of a run clears it, too.

    :param omnimessage_id: the ids that arming returned. (templated)
    :param arm_id: the id of the task that arms.
    :param work: the ids of the tasks that must have succeeded or been skipped.
    :param on_failure: ``"wait"`` or ``"send_now"``.
    """

    # the ids first: what else fails to render must not keep them from being cancelled
    template_fields: Sequence[str] = ("omnimessage_id", *_Alert.template_fields)
    ui_color = "#ffeee3"

    def __init__(
        self,
        *,
        omnimessage_id: Any,
        arm_id: str,
        work: Iterable[str] = (),
        on_failure: Literal["wait", "send_now"],
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.arm_id = arm_id
        self.omnimessage_id = omnimessage_id
        self.work = list(work)
        self.on_failure = on_failure

    def execute(self, context: Mapping[str, Any]) -> list[str]:
        """Cancel the alert, or let it stand, and return the ids that are cancelled now."""
        if self._unrendered is not None and not isinstance(self.omnimessage_id, (list, tuple, type(None))):
            raise self._unrendered
        ids = [str(item) for item in self.omnimessage_id or ()]
        undone = {task: state for task, state in _states(context, self.work).items() if state not in DONE}
        if undone:
            reason = ", ".join(f"{task} is {state}" for task, state in sorted(undone.items())[:5])
            if self.on_failure == "send_now":
                self._send_now(context, ids)
                raise AirflowFailException(f"The work is not done ({reason}): the alert has gone out")
            raise AirflowFailException(
                f"The work is not done ({reason}): the alert stands and goes out at its time; "
                "a repaired run still cancels it"
                if ids
                else f"The work is not done ({reason}), and no alert was scheduled"
            )
        if not ids:
            self.log.info("There is no alert to cancel")
            return []
        return self._disarm(ids)

    def _disarm(self, ids: list[str]) -> list[str]:
        cancelled: list[str] = []
        unanswered: list[Exception] = []
        with task_failures(), OmnimessageHook(self.omnimessage_conn_id) as hook:
            for omnimessage_id in ids:
                self._cancel(omnimessage_id, hook, cancelled, unanswered)
            if unanswered:
                raise unanswered[0]
        return cancelled

    def _cancel(
        self, omnimessage_id: str, hook: OmnimessageHook, cancelled: list[str], unanswered: list[Exception]
    ) -> None:
        from airflow_provider_omnimessage import metrics
        from airflow_provider_omnimessage.api.delivery import Cancelled
        from airflow_provider_omnimessage.api.errors import OmnimessageError

        try:
            cancellation = hook.try_to_cancel(omnimessage_id)
        except OmnimessageError as error:
            # the others are to be cancelled all the same
            self.log.warning("%s is not cancelled yet: %s", omnimessage_id, error)
            unanswered.append(error)
            return
        if cancellation.is_cancelled:
            if cancellation.result is Cancelled.NOW:
                metrics.count("cancelled", {"dag_id": self.dag_id, "task_id": self.task_id})
            cancelled.append(omnimessage_id)
            self.log.info("Done in time: the alert %s is cancelled", omnimessage_id)
        elif cancellation.result is Cancelled.SENT:
            self.log.warning("Done, but late: the alert %s has already gone out", omnimessage_id)
        else:
            self.log.warning("The alert %s %s", omnimessage_id, cancellation)

    def _send_now(self, context: Mapping[str, Any], ids: list[str]) -> None:
        """Send, then cancel what waits: were it the other way round, a crash in between would leave silence."""
        from airflow_provider_omnimessage.api.masking import mask_number
        from airflow_provider_omnimessage.durable import fingerprint

        if self._unrendered is not None:
            raise AirflowFailException(f"The alert stands and goes out at its time: {self._unrendered}")
        moment = self._moment(context)
        if ids and moment is not None and moment <= _now():
            self.log.info("The alert has already gone out: %s", ", ".join(ids))
            return
        # for these ids, of these alerts: another arming, another alert
        sent = KnownAlerts(context, f"sent-{_print_of(ids)}")
        problems: list[Exception] = []
        with task_failures("The alert that is scheduled stands"), OmnimessageHook(self.omnimessage_conn_id) as hook:
            for to in self._recipients():
                try:
                    draft = self._compose(hook, to)
                    before = sent.of(fingerprint({"to": draft["to"]}, hook.settings.password))
                    if any(ids or message.max_tries == sent.max_tries for message in before):
                        continue
                    omnimessage_id = sent.schedule(hook, draft, _now(), None)
                except Exception as error:
                    # the others are to hear of it all the same
                    self.log.error("No alert for %s: %s", mask_number(to), error)
                    problems.append(error)
                else:
                    self.log.warning("The alert to %s goes out now: %s", mask_number(to), omnimessage_id)
            if problems:
                raise problems[0]
            for item in ids:
                self.log.info("%s %s", item, hook.try_to_cancel(item))

    def _moment(self, context: Mapping[str, Any]) -> datetime | None:
        ti = context["ti"]
        value = ti.xcom_pull(task_ids=self.arm_id, key="time_to_send", map_indexes=ti.map_index)
        return datetime.fromisoformat(value) if isinstance(value, str) else None


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
            raise _refused("on_failure", f"{on_failure!r} is not accepted; give 'wait' or 'send_now'")
        if not isinstance(required, bool):
            raise _refused("required", f"{required!r} is not accepted; give True or False")
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
            raise _refused(f"DeadMansSwitch '{self.group_id}'", "holds no task; create the work inside the 'with'")
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


def silent_because(context: Mapping[str, Any], deadline: datetime, now: datetime) -> str | None:
    """
    Tell why a run that begins after its deadline alerts nobody, or ``None`` where it does.

    :param context: Airflow's context of the running task.
    :param deadline: when the work should have been done; it has gone by.
    :param now: the current moment.
    """
    dag_run = context["dag_run"]
    run_type = str(getattr(dag_run.run_type, "value", dag_run.run_type))
    if run_type == "backfill":
        return "this is a backfill"
    if run_type == "scheduled":
        following = _following_run(context)
        if following is not None:
            return f"the next run was due at {following:%Y-%m-%d %H:%M} UTC already" if following <= now else None
    if now - deadline > LONG_PAST:
        return f"that is more than {LONG_PAST.total_seconds() / 3600:.0f} hours ago"
    return None


def _following_run(context: Mapping[str, Any]) -> datetime | None:
    """Ask the DAG's timetable when the run after this one is due."""
    try:
        from airflow.timetables.base import DataInterval, TimeRestriction

        dag_run = context["dag_run"]
        start = dag_run.data_interval_start or dag_run.run_after
        following = core_timetable(context["dag"]).next_dagrun_info(
            last_automated_data_interval=DataInterval(start, dag_run.data_interval_end or start),
            restriction=TimeRestriction(earliest=None, latest=None, catchup=True),
        )
    except Exception:
        # a timetable of the user's own may need what is not here
        return None
    return following.run_after.astimezone(timezone.utc) if following else None


def _states(context: Mapping[str, Any], task_ids: Sequence[str]) -> dict[str, Any]:
    """Ask Airflow how the given tasks of this run have ended, those of its own map index where it is mapped."""
    ti = context["ti"]
    own_index = ti.map_index if ti.map_index is not None and ti.map_index >= 0 else None
    return {
        task: str(getattr(state, "value", state)) if state is not None else "not done"
        for task, state in task_states(ti, task_ids, own_index).items()
    }


def _rule(task: Any) -> str:
    return str(getattr(task.trigger_rule, "value", task.trigger_rule))


def _print_of(ids: Sequence[str]) -> str:
    import hashlib

    return hashlib.sha256(" ".join(ids).encode()).hexdigest()[:16]


def _now() -> datetime:
    return datetime.now(timezone.utc)


def _refused(field: str, reason: str) -> Exception:
    from airflow_provider_omnimessage.api.errors import InvalidInputError

    return InvalidInputError.of(field, reason)
