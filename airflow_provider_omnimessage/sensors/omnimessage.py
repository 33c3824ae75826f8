"""The sensor: a DAG goes on when a message has been delivered or read, and fails with the carrier's reason when not."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from airflow_provider_omnimessage._compat import (
    SHORTEST_ABSENCE,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    BaseSensorOperator,
    PokeReturnValue,
    TaskMemory,
    default_deferrable,
    first_started_at,
    has_listeners,
)
from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook
from airflow_provider_omnimessage.links import OmnimessageLink
from airflow_provider_omnimessage.tasks.failures import constructor_errors, task_failures

if TYPE_CHECKING:
    from airflow_provider_omnimessage.api.delivery import DeliveryReport
    from airflow_provider_omnimessage.api.errors import OmnimessageError
    from airflow_provider_omnimessage.api.waiting import Awaited, Verdict, Wait

#: For a triggerer that is late or gone: Airflow itself ends the wait so long after the trigger should have.
GRACE = timedelta(seconds=30)
#: Under which a task in mode ``reschedule`` keeps in ``task_state_store`` how far its messages have come.
KEY = "omnimessage_wait"


class OmnimessageDeliverySensor(BaseSensorOperator):
    """
    Wait until a message has been delivered or read: ``GET /omnimessage/{omnimessage_id}/status``, asked rarely.

    Nobody asks before ``time_to_send``. After it, the gap between two looks grows with the message's age, from 5
    seconds to ``poke_interval``. The log says what each look found, where it is news.

    The return value, and so the XCom, is the report as small data: ``omnimessage_id``, ``outcome`` (``"delivered"`` or
    ``"seen"``), ``delivered_by`` (the channel), ``seconds_to_delivery`` (from ``time_to_send``, if that was given),
    ``price`` and ``channels`` (``channel``, ``status``, ``error``, ``err``); a list of them where a list was given.

    A message that failed, was cancelled, or is not known fails the task without a retry, as no retry delivers it.
    Deferred, it holds no worker; a success ends the task in the triggerer, unless the task has outlets, an
    ``on_success_callback`` or a ``post_execute``, or a plugin listens: those are served on a worker.

    :param omnimessage_id: one id or many: ``schedule.output``, that of a mapped task, or ids from anywhere. Where an id
        is ``None``, its scheduling was skipped; where all are, so is this task. The output of a bulk send is taken as
        it is, its times included; the XCom then counts: ``messages``, ``delivered``, ``seen``, ``failed``,
        ``cancelled``, ``unknown``, ``in_progress``, and ``undelivered``, the first 100 with their reason. (templated)
    :param wait_for: ``"delivered"`` (default), or ``"seen"``: read, which SMS cannot tell.
    :param require: of many messages, ``"all"`` (default), ``"any"``, or a share of them, as ``0.95``.
    :param time_to_send: when the message is sent, as ``schedule.output["time_to_send"]``: ISO 8601, a datetime, or a
        list with one for each id. ``None`` (default): it has been sent. A naive one is meant in the connection's time
        zone. (templated)
    :param on_cancelled: what to do when the message was cancelled: ``"fail"`` (default) or ``"skip"`` the task.
    :param deferrable: whether to wait in the triggerer; default: Airflow's ``[operators] default_deferrable``.
    :param poke_interval: seconds or timedelta, more than 0: the longest gap between two looks.
    :param timeout: seconds or timedelta to wait in all, the time before ``time_to_send`` included.
    :param omnimessage_conn_id: the Airflow connection, of type ``omnimessage``. (templated)
    :raises InvalidInputError: while the DAG is parsed, for what can be seen to be wrong by then.
    """

    template_fields: Sequence[str] = ("omnimessage_id", "time_to_send", "omnimessage_conn_id")
    operator_extra_links = (OmnimessageLink(),)
    ui_color = "#e6f7e9"

    def __init__(
        self,
        *,
        omnimessage_id: Any,
        wait_for: Literal["delivered", "seen"] = "delivered",
        require: Literal["all", "any"] | float = "all",
        time_to_send: Any = None,
        on_cancelled: Literal["fail", "skip"] = "fail",
        deferrable: bool | None = None,
        omnimessage_conn_id: str = OmnimessageHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        with constructor_errors(self):
            _demand("wait_for", wait_for, wait_for in ("delivered", "seen"), "'delivered' or 'seen'")
            is_share = isinstance(require, (int, float)) and not isinstance(require, bool) and 0 < require <= 1
            _demand("require", require, require in ("all", "any") or is_share, "'all', 'any', or a share as 0.95")
            _demand("on_cancelled", on_cancelled, on_cancelled in ("fail", "skip"), "'fail' or 'skip'")
            _demand("poke_interval", self.poke_interval, self.poke_interval > 0, "seconds, more than 0")
            _demand_a_moment(time_to_send)
        self.omnimessage_id = omnimessage_id
        self.wait_for = wait_for
        self.require = require
        self.time_to_send = time_to_send
        self.on_cancelled = on_cancelled
        self.deferrable = default_deferrable() if deferrable is None else deferrable
        self.omnimessage_conn_id = omnimessage_conn_id

    @cached_property
    def hook(self) -> OmnimessageHook:
        """The hook on this task's connection."""
        return OmnimessageHook(self.omnimessage_conn_id)

    def execute(self, context: Mapping[str, Any]) -> Any:
        """Wait, in the way that mode and deferrable say, and return the report."""
        before = first_started_at(context) if self.reschedule and not self.deferrable else None
        self._since = before or _now()
        self._deadline = self._since + timedelta(seconds=self.timeout)
        with task_failures(), self.hook:
            self._wait = self._begin()
            if before is None:
                self._say_what_is_awaited()
            else:
                self._recall(context)
            if self.deferrable:
                return self._defer(context)
            try:
                return super().execute(context)  # type: ignore[arg-type]
            except AirflowTaskTimeout as error:
                # Airflow itself does not skip for one that comes between two looks
                if self.soft_fail or self.never_fail:
                    raise AirflowSkipException(f"Not {self.wait_for} within the execution_timeout") from error
                raise

    def poke(self, context: Mapping[str, Any]) -> bool | PokeReturnValue:
        """Look at the messages that are due."""
        while True:
            now = _now()
            last = now >= self._deadline
            self._look(now, last=last)
            verdict = self._wait.verdict
            if verdict:
                return PokeReturnValue(is_done=True, xcom_value=self._end(context, verdict))
            if last:
                verdict = self._wait.timed_out(self._limit("timeout", self.timeout))
                self._tell(context, verdict)
                self._time_out(verdict, AirflowSensorTimeout)
            if not self._wait.in_doubt:
                self._keep(context)
                if _now() < self._deadline:
                    return False
                continue  # a slow look: Airflow would end the task now, and not say how far the message has come
            # short, and here: to come back takes longer
            time.sleep(self._seconds_to_next_look())

    def execute_complete(self, context: Mapping[str, Any], event: dict[str, Any]) -> Any:
        """
        End the task as the trigger found.

        :param context: the task's.
        :param event: the trigger's.
        """
        from airflow_provider_omnimessage.api.waiting import Ending, Verdict

        verdict = Verdict.of(event)
        if verdict.ending is Ending.TIMED_OUT:
            self._tell(context, verdict)
            self._time_out(verdict, AirflowTaskTimeout if self._is_bound_by_execution_timeout else AirflowSensorTimeout)
        return self._end(context, verdict)

    def _get_next_poke_interval(
        self, started_at: datetime | float, run_duration: Callable[[], float], poke_count: int
    ) -> float:
        """Ask as rarely in the modes poke and reschedule as the trigger does."""
        seconds = self._seconds_to_next_look()
        return max(seconds, SHORTEST_ABSENCE) if self.reschedule else seconds

    def _recall(self, context: Mapping[str, Any]) -> None:
        if memory := TaskMemory.of(context, KEY):
            try:
                self._wait.recall(memory.recall())
            except Exception:
                self.log.warning("What the last look found could not be read; all is asked for anew", exc_info=True)

    def _keep(self, context: Mapping[str, Any]) -> None:
        # of thousands it would be too much to keep
        if self.reschedule and not self._is_bulk and (memory := TaskMemory.of(context, KEY)):
            try:
                memory.keep(self._wait.as_dict())
            except Exception:
                self.log.warning("What was found could not be stored; the next look asks for all of it", exc_info=True)

    def _begin(self) -> Wait:
        from airflow_provider_omnimessage.api.waiting import Wait

        wait = Wait(
            self._awaited(),
            since=self._since,
            poke_interval=self.poke_interval,
            wait_for=self.wait_for,
            require=self.require,
            only_count=self._is_bulk,
        )
        wait.plan(_now(), look_first=True)
        return wait

    def _awaited(self) -> list[Awaited]:
        return self._awaited_in_bulk() if self._is_bulk else self._awaited_one_by_one()

    def _awaited_in_bulk(self) -> list[Awaited]:
        from airflow_provider_omnimessage.api.waiting import Awaited
        from airflow_provider_omnimessage.bulk.results import accepted_in

        awaited = [
            Awaited(omnimessage_id, datetime.fromisoformat(moment) if moment else None)
            for omnimessage_id, moment in accepted_in(self.omnimessage_id)
        ]
        if not awaited:
            raise AirflowSkipException("No message was accepted, so there is nothing to wait for")
        return awaited

    def _awaited_one_by_one(self) -> list[Awaited]:
        from airflow_provider_omnimessage.api.calls import as_list, checked_ids
        from airflow_provider_omnimessage.api.errors import InvalidInputError
        from airflow_provider_omnimessage.api.waiting import Awaited

        given = as_list(self.omnimessage_id)
        ids = checked_ids(given)
        if not ids:
            raise AirflowSkipException("There is no omnimessage_id: nothing was sent, so there is nothing to wait for")
        moments = as_list(self.time_to_send)
        if len(moments) == 1:
            moments *= len(given)
        if len(moments) != len(given):
            raise InvalidInputError.of(
                "time_to_send", f"{len(moments)} of them for {len(given)} ids; give one, or one for each id"
            )
        return [Awaited(omnimessage_id, self._moment(moments[position])) for position, omnimessage_id in ids]

    def _moment(self, value: Any) -> datetime | None:
        # a template renders None as text
        if value is None or value in ("None", ""):
            return None
        _demand_a_moment(value)
        return self.hook.resolve_time_to_send(value).utc

    def _say_what_is_awaited(self) -> None:
        ids = [message.omnimessage_id for message in self._wait.messages]
        what = ", ".join(ids) if len(ids) <= 5 else f"{len(ids)} messages"
        begin = self._wait.first_time_to_send
        if begin and begin > _now():
            self.log.info("Waiting for %s: nobody asks before %s UTC", what, f"{begin:%Y-%m-%d %H:%M:%S}")
        else:
            self.log.info("Waiting for %s until %s UTC at most", what, f"{self._deadline:%Y-%m-%d %H:%M:%S}")

    def _look(self, now: datetime, *, last: bool = False, most: int | None = None, quiet: bool = False) -> None:
        from airflow_provider_omnimessage.api.errors import OmnimessageError
        from airflow_provider_omnimessage.bulk.parallel import a_few_at_a_time

        due = self._wait.due(now, last=last)[:most]
        looks = a_few_at_a_time(self._ask, due) if self._is_bulk else ((each, self._ask(each)) for each in due)
        for message, answer in looks:
            if isinstance(answer, OmnimessageError):
                news = self._wait.heard_error(message, answer, _now())
            else:
                news = self._wait.heard(message, answer, _now())
                if quiet and not message.ending:
                    continue
            if news and not self._is_bulk:
                self.log.info(news)
            if self._is_bulk and self._wait.is_over:
                break

    def _ask(self, message: Awaited) -> DeliveryReport | OmnimessageError:
        from airflow_provider_omnimessage.api.calls import delivery_report
        from airflow_provider_omnimessage.api.errors import OmnimessageError

        try:
            # once: what may pass is asked again at the next look, as rarely as ever
            return self.hook.get_conn().make(delivery_report(message.omnimessage_id))
        except OmnimessageError as error:
            return error

    def _seconds_to_next_look(self) -> float:
        now = _now()
        return max(0.0, (min(self._wait.next_look or now, self._deadline) - now).total_seconds())

    def _defer(self, context: Mapping[str, Any]) -> Any:
        # what the trigger would only find out later is found out here: a wrong connection, and a message that is
        # through already, which needs no trigger
        _ = self.hook.settings
        # the trigger's log will say how far the others have come; of thousands, one is enough for the connection
        self._look(_now(), most=1 if self._is_bulk else None, quiet=True)
        verdict = self._wait.verdict
        if verdict:
            return self._end(context, verdict)

        from airflow_provider_omnimessage.triggers.omnimessage import OmnimessageDeliveryTrigger

        limit, deadline = self._limit("timeout", self.timeout), self._deadline
        if self._is_bound_by_execution_timeout and self.execution_timeout:
            # Airflow 3 does not apply it to a task that is deferred
            limit = self._limit("execution_timeout", self.execution_timeout.total_seconds())
            deadline = self._since + self.execution_timeout
        return self.defer(
            trigger=OmnimessageDeliveryTrigger(
                messages=[] if self._is_bulk else self._messages(),
                bulk=self._bulk() if self._is_bulk else None,
                omnimessage_conn_id=self.omnimessage_conn_id,
                since=self._since.isoformat(),
                deadline=deadline.isoformat(),
                poke_interval=self.poke_interval,
                wait_for=self.wait_for,
                require=self.require,
                limit=limit,
                ends_task=self._may_end_in_triggerer(),
                one=self._is_one(),
            ),
            method_name="execute_complete",
            timeout=max(deadline - _now(), timedelta(0)) + GRACE,
        )

    def _messages(self) -> list[tuple[str, str | None]]:
        return [
            (message.omnimessage_id, message.time_to_send.isoformat() if message.time_to_send else None)
            for message in self._wait.messages
        ]

    def _bulk(self) -> dict[str, str]:
        """Say to the trigger which messages, in little: its row in the database is to stay small."""
        if "results" in self.omnimessage_id:
            return {"results": self.omnimessage_id["results"]}
        ids, moments = zip(*self._messages(), strict=True)
        written = [moment or "-" for moment in moments]
        return {"ids": " ".join(ids), "moments": written[0] if len(set(written)) == 1 else " ".join(written)}

    @property
    def _is_bulk(self) -> bool:
        from airflow_provider_omnimessage.bulk.results import is_result

        return is_result(self.omnimessage_id)

    @property
    def _is_bound_by_execution_timeout(self) -> bool:
        return bool(self.execution_timeout and self.execution_timeout.total_seconds() < self.timeout)

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

    def _is_one(self) -> bool:
        return isinstance(self.omnimessage_id, str)

    def _end(self, context: Mapping[str, Any], verdict: Verdict) -> Any:
        from airflow_provider_omnimessage import metrics
        from airflow_provider_omnimessage.api.waiting import Ending

        metrics.count_verdict(verdict, context["ti"])
        if verdict.ending is Ending.FULFILLED:
            return verdict.counted or (verdict.reports[0] if self._is_one() else verdict.reports)
        self._tell(context, verdict)
        reason = f"Not {self.wait_for}: {verdict.reason}"
        if self.soft_fail or self.never_fail or (verdict.ending is Ending.CANCELLED and self.on_cancelled == "skip"):
            raise AirflowSkipException(reason)
        raise AirflowFailException(reason)

    def _time_out(self, verdict: Verdict, error: type[BaseException]) -> NoReturn:
        if self.soft_fail or self.never_fail:
            raise AirflowSkipException(verdict.reason)
        raise error(verdict.reason)

    def _tell(self, context: Mapping[str, Any], verdict: Verdict) -> None:
        """Leave the numbers of a bulk send that was not delivered: a task that does not succeed returns nothing."""
        if verdict.counted is not None:
            context["ti"].xcom_push(key="return_value", value=verdict.counted)

    def _limit(self, name: str, seconds: float) -> str:
        return f"the {name} of {timedelta(seconds=seconds)}"


def _demand(field: str, value: object, accepted: bool, what: str) -> None:
    if not accepted:
        from airflow_provider_omnimessage.api.errors import InvalidInputError

        raise InvalidInputError.of(field, f"{value!r} is not accepted; give {what}")


def _demand_a_moment(time_to_send: object) -> None:
    if isinstance(time_to_send, timedelta):
        from airflow_provider_omnimessage.api.errors import InvalidInputError

        raise InvalidInputError.of(
            "time_to_send",
            "a timedelta would count from each look anew; give the moment, as schedule.output['time_to_send']",
        )


def _now() -> datetime:
    return datetime.now(timezone.utc)
