"""The sensor: the DAG continues when a message has been delivered or read."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_omnimessage import metrics
from airflow_provider_omnimessage._compat import (
    SHORTEST_ABSENCE,
    AirflowFailException,
    AirflowRescheduleException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    BaseSensorOperator,
    TaskMemory,
    default_deferrable,
    first_started_at,
    has_listeners,
)
from airflow_provider_omnimessage.api.errors import InvalidInputError
from airflow_provider_omnimessage.api.lists import plain_argument
from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook
from airflow_provider_omnimessage.sensors.arguments import reject_timedelta, reject_unused_options, require_share
from airflow_provider_omnimessage.sensors.failures import sensor_failures
from airflow_provider_omnimessage.tasks.arguments import require_choice
from airflow_provider_omnimessage.tasks.failures import constructor_errors
from airflow_provider_omnimessage.tasks.linking import MessageLinks
from airflow_provider_omnimessage.tasks.rendering import PrivateTemplates

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.sdk.definitions.context import Context

    from airflow_provider_omnimessage.api.types import Deferred
    from airflow_provider_omnimessage.api.wait_result import WaitResult
    from airflow_provider_omnimessage.api.waiting import Wait
    from airflow_provider_omnimessage.sensors.progress import Progress

Action = Literal["fail", "skip", "return"]

#: How long Airflow waits for the trigger after the deadline, in case the triggerer is late or down.
GRACE = timedelta(seconds=30)
#: Seconds for a last poll on a worker if the triggerer, or a rescheduled task, did not come back in time.
LAST_POLL_ON_WORKER = 10.0
#: The key in ``task_state_store`` under which mode ``reschedule`` keeps what it knows about its messages.
KEY = "omnimessage_wait"
ACTIONS = ("fail", "skip", "return")


class OmnimessageDeliverySensor(PrivateTemplates, BaseSensorOperator):
    """
    Wait until a message has been delivered or read.

    It polls ``GET /omnimessage/{omnimessage_id}/status``: never before ``time_to_send``, and then with gaps that grow
    with the message's age, from 5 seconds to ``poke_interval``. The log shows what each poll found, if it is new.

    The return value is the report as small data: ``omnimessage_id``, ``outcome`` (``"delivered"``, ``"seen"``,
    ``"failed"``, ``"cancelled"``, ``"in_progress"`` or ``"unknown"``), ``delivered_by`` (the channel),
    ``seconds_to_delivery`` (from ``time_to_send``, if that was passed), ``price`` and ``channels`` (``channel``,
    ``status``, ``error``, ``err``). For a list of ids it is a list of reports. The report is pushed as an XCom even if
    the task fails or is skipped.

    By default, a message that failed, was cancelled, or is unknown to Messente fails the task without a retry. Use
    ``on_failed="return"`` to branch on the report instead.

    With ``deferrable=True`` the wait holds no worker. A success ends the task in the triggerer, unless the task has
    outlets, an ``on_success_callback`` or a ``post_execute``, or a plugin listens to tasks: these need a worker.

    Example::

        wait = OmnimessageDeliverySensor(
            task_id="wait",
            omnimessage_id=schedule.output,
            time_to_send=schedule.output["time_to_send"],
            deferrable=True,
            timeout=timedelta(hours=1),
        )

    :param omnimessage_id: one id or many: ``schedule.output``, the output of a mapped task, or ids from anywhere. An id
        that is ``None`` was not scheduled and is left out; if all are, the task is skipped. The output of a bulk send,
        or a list of such outputs, is accepted too, and brings its own times. The return value then counts:
        ``messages``, ``delivered``, ``seen``, ``failed``, ``cancelled``, ``unknown``, ``in_progress``, and
        ``undelivered``, the first 100 with their reasons. Ids among such outputs are counted with them. (templated)
    :param wait_for: ``"delivered"`` (default) or ``"seen"``: read, which SMS cannot report.
    :param require: with many messages, ``"all"`` (default), ``"any"``, or a share of them such as ``0.95``.
    :param time_to_send: when the message is sent, such as ``schedule.output["time_to_send"]``: ISO 8601, a datetime, or
        a list with one for each id. Default: it was sent already. A value without an offset is in the connection's time
        zone. (templated)
    :param on_failed: what to do if messages failed: ``"fail"`` (default) or ``"skip"`` the task, or ``"return"`` the
        report, so that the task succeeds.
    :param on_cancelled: the same if messages were cancelled.
    :param on_timeout: the same if ``timeout`` or ``execution_timeout`` is over.
    :param deferrable: whether to wait in the triggerer; default: Airflow's ``[operators] default_deferrable``.
    :param poke_interval: seconds or timedelta, more than 0: the longest gap between two polls.
    :param timeout: seconds or timedelta for the whole wait, including the time before ``time_to_send``.
    :param omnimessage_conn_id: the Airflow connection, of type ``omnimessage``. (templated)
    :raises InvalidInputError: while the DAG is parsed, if a value can be seen to be wrong by then.
    """

    template_fields: Sequence[str] = ("omnimessage_id", "time_to_send", "omnimessage_conn_id")
    operator_extra_links = MessageLinks()
    ui_color = "#e6f7e9"

    def __init__(
        self,
        *,
        omnimessage_id: str | Sequence[object] | Mapping[str, object] | Deferred | None,
        wait_for: Literal["delivered", "seen"] = "delivered",
        require: Literal["all", "any"] | float = "all",
        time_to_send: str | datetime | Sequence[str | datetime | None] | Deferred | None = None,
        on_failed: Action = "fail",
        on_cancelled: Action = "fail",
        on_timeout: Action = "fail",
        deferrable: bool | None = None,
        omnimessage_conn_id: str = OmnimessageHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        with constructor_errors(self):
            require_choice("wait_for", wait_for, ("delivered", "seen"), rendered=True)
            for name, action in (("on_failed", on_failed), ("on_cancelled", on_cancelled), ("on_timeout", on_timeout)):
                require_choice(name, action, ACTIONS, rendered=True)
            require_share(require)
            reject_timedelta(time_to_send)
            reject_unused_options(self)
            if self.poke_interval <= 0:
                raise InvalidInputError.of("poke_interval", "0 is too short; pass seconds, more than 0")
        self.omnimessage_id = omnimessage_id
        self.wait_for: Literal["delivered", "seen"] = wait_for
        self.require = require
        self.time_to_send = time_to_send
        self.on_failed = on_failed
        self.on_cancelled = on_cancelled
        self.on_timeout = on_timeout
        self.deferrable = default_deferrable() if deferrable is None else deferrable
        self.omnimessage_conn_id = omnimessage_conn_id

    @cached_property
    def hook(self) -> OmnimessageHook:
        """The hook on this task's connection."""
        return OmnimessageHook(self.omnimessage_conn_id)

    def execute(self, context: Context) -> Any:
        """
        Wait on this worker, between two of its processes, or in the triggerer; return the report.

        :param context: the task's.
        """
        before = first_started_at(context) if self.reschedule and not self.deferrable else None
        progress: Progress | None = None
        with sensor_failures(self), self.hook:
            try:
                progress = self._start(before or _now())
                if before is None:
                    progress.log_start(self.log)
                else:
                    self._restore(context, progress.wait)
                if self.deferrable and progress.seconds_left > SHORTEST_ABSENCE:
                    return self._defer(context, progress)
                return self._wait_on_worker(context, progress, is_back=before is not None)
            except AirflowTaskTimeout:
                return self._finish(context, self._interrupted(progress), AirflowTaskTimeout)

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> Any:
        """
        End the task with what the trigger found.

        :param context: the task's.
        :param event: the trigger's; ``None`` is rejected.
        """
        from airflow_provider_omnimessage.api.wait_result import WaitResult

        with sensor_failures(self):
            return self._finish(context, WaitResult.from_event(event), self._timeout_error)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """
        Resume after the trigger. If Airflow has given it up at its deadline, poll one last time here.

        :param next_method: of this task, or what Airflow calls a failure.
        :param next_kwargs: its arguments; ``None`` means none.
        :param context: the task's.
        """
        if next_method != "__fail__" or (next_kwargs or {}).get("error") != "Trigger timeout":
            with sensor_failures(self):
                return super().resume_execution(next_method, next_kwargs, context)
        self.log.warning("The triggerer did not respond by the deadline; polling one last time on this worker")
        with sensor_failures(self), self.hook:
            progress = self._start(_now())
            progress.poll(seconds=LAST_POLL_ON_WORKER)
            result = progress.wait.result or progress.wait.timed_out(progress.limit)
            return self._finish(context, result, self._timeout_error)

    def _start(self, since: datetime) -> Progress:
        from airflow_provider_omnimessage.api.waiting import Wait
        from airflow_provider_omnimessage.sensors.polling import WorkerPoller
        from airflow_provider_omnimessage.sensors.progress import Progress
        from airflow_provider_omnimessage.triggers.awaited import list_awaited

        awaited = list_awaited(plain_argument(self.omnimessage_id), plain_argument(self.time_to_send), self._resolve)
        messages = awaited.messages()
        if not messages:
            raise AirflowSkipException("There is nothing to wait for: no message was sent or accepted")
        limit, seconds = f"the timeout of {timedelta(seconds=self.timeout)}", float(self.timeout)
        if self._is_bound_by_execution_timeout and self.execution_timeout:
            # Airflow 3 does not apply it to a deferred task
            limit = f"the execution_timeout of {self.execution_timeout}"
            seconds = self.execution_timeout.total_seconds()
        wait = Wait(
            messages,
            since=since,
            deadline=since + timedelta(seconds=seconds),
            poke_interval=self.poke_interval,
            wait_for=self.wait_for,
            require=self.require,
            only_count=awaited.only_count,
        )
        wait.start(_now(), poll_first=True)
        return Progress(awaited, wait, WorkerPoller(self.hook, wait, self.log), since, limit)

    def _interrupted(self, progress: Progress | None) -> WaitResult:
        """Return the result of a wait that Airflow has interrupted at the ``execution_timeout``."""
        from airflow_provider_omnimessage.api.wait_result import Ending, WaitResult

        limit = f"the execution_timeout of {self.execution_timeout}"
        if progress is not None:
            return progress.wait.timed_out(limit)
        return WaitResult(Ending.TIMED_OUT, f"Not {self.wait_for} within {limit}: nothing was polled", [])

    def _resolve(self, time_to_send: object) -> datetime:
        reject_timedelta(time_to_send)
        return self.hook.resolve_time_to_send(time_to_send).utc

    def _wait_on_worker(self, context: Context, progress: Progress, *, is_back: bool) -> Any:
        wait = progress.wait
        if is_back and progress.seconds_left < LAST_POLL_ON_WORKER:
            # it comes back when a worker has a slot for it, which may be after the last poll was due
            progress.poll(seconds=LAST_POLL_ON_WORKER)
        while progress.seconds_left > 0:
            progress.poll(seconds=self._seconds_per_process(progress))
            if result := wait.result:
                return self._finish(context, result)
            seconds = progress.seconds_to_next_poll
            # to come back takes longer than a short pause
            if self.reschedule and not wait.needs_confirmation and progress.seconds_left > SHORTEST_ABSENCE:
                self._keep(context, wait)
                time_of_return = _now() + timedelta(seconds=max(seconds, SHORTEST_ABSENCE))
                raise AirflowRescheduleException(time_of_return)  # type: ignore[no-untyped-call]
            time.sleep(seconds)
        return self._finish(context, wait.result or wait.timed_out(progress.limit), self._timeout_error)

    def _seconds_per_process(self, progress: Progress) -> float:
        limit = self.execution_timeout.total_seconds() if self.execution_timeout else progress.seconds_left
        return min(limit, progress.seconds_left)

    def _defer(self, context: Context, progress: Progress) -> Any:
        # A wrong connection fails here, and a message that has ended needs no trigger. The trigger logs how far the
        # others are; of thousands, one is enough to check the connection.
        seconds = min(progress.seconds_left, self.hook.settings.timeout)
        most = 1 if progress.awaited.only_count else None
        progress.poll(seconds=seconds, most=most, log_endings_only=True)
        if result := progress.wait.result:
            return self._finish(context, result)

        from airflow_provider_omnimessage.triggers.omnimessage import OmnimessageDeliveryTrigger

        return self.defer(
            trigger=OmnimessageDeliveryTrigger(
                **progress.awaited.to_row(),
                omnimessage_conn_id=self.omnimessage_conn_id,
                since=progress.since.isoformat(),
                deadline=progress.wait.deadline.isoformat(),
                poke_interval=self.poke_interval,
                wait_for=self.wait_for,
                require=self.require,
                limit=progress.limit,
                ends_task=self._may_end_in_triggerer(),
                returns=self._returned_endings(),
            ),
            method_name="execute_complete",
            timeout=timedelta(seconds=progress.seconds_left) + GRACE,
        )

    def _may_end_in_triggerer(self) -> bool:
        needs_a_worker = (
            self.outlets
            or self.on_success_callback
            or getattr(self, "_post_execute_hook", None)
            or type(self).post_execute is not BaseSensorOperator.post_execute
            # tasks that are mapped over the reports: only a worker tells Airflow how many there are
            or next(self.iter_mapped_dependants(), None)
        )
        return self.do_xcom_push and not needs_a_worker and not has_listeners()

    def _finish(
        self, context: Context, result: WaitResult, timeout_error: type[BaseException] = AirflowSensorTimeout
    ) -> Any:
        """Count, and return the report, or push it and then fail or skip the task."""
        from airflow_provider_omnimessage.api.wait_result import Ending
        from airflow_provider_omnimessage.triggers.awaited import is_single

        metrics.count_wait(result, context["ti"])
        output = result.output(single=is_single(plain_argument(self.omnimessage_id)))
        if result.ending.value in self._returned_endings():
            if result.ending is not Ending.FULFILLED:
                self.log.info("Not %s: %s", self.wait_for, result.reason)
            return output
        if self.do_xcom_push:
            # a task that does not succeed returns nothing
            context["ti"].xcom_push(key="return_value", value=output)
        is_timeout = result.ending is Ending.TIMED_OUT
        reason = result.reason if is_timeout else f"Not {self.wait_for}: {result.reason}"
        if self.soft_fail or self.never_fail or self._actions.get(result.ending.value) == "skip":
            raise AirflowSkipException(reason)
        raise timeout_error(reason) if is_timeout else AirflowFailException(reason)

    @property
    def _actions(self) -> dict[str, str]:
        return {"failed": self.on_failed, "cancelled": self.on_cancelled, "timed_out": self.on_timeout}

    def _returned_endings(self) -> list[str]:
        return ["fulfilled", *(ending for ending, action in self._actions.items() if action == "return")]

    @property
    def _is_bound_by_execution_timeout(self) -> bool:
        if self.reschedule and not self.deferrable:
            return False  # Airflow applies it to each process
        return bool(self.execution_timeout and self.execution_timeout.total_seconds() < self.timeout)

    @property
    def _timeout_error(self) -> type[BaseException]:
        return AirflowTaskTimeout if self._is_bound_by_execution_timeout else AirflowSensorTimeout

    def _restore(self, context: Context, wait: Wait) -> None:
        if memory := TaskMemory.of(context, KEY):
            try:
                wait.restore(memory.recall())
            except Exception:
                self.log.warning("The results of earlier polls could not be read; polling for all", exc_info=True)

    def _keep(self, context: Context, wait: Wait) -> None:
        # thousands of messages would be too much to keep
        if not wait.only_count and (memory := TaskMemory.of(context, KEY)):
            try:
                memory.keep(wait.to_dict())
            except Exception:
                self.log.warning("The results of this poll could not be stored; the next polls for all", exc_info=True)


def _now() -> datetime:
    return datetime.now(timezone.utc)
