"""Operators: send a message now, schedule it for later, and cancel it while it is still waiting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow_provider_omnimessage._compat import AirflowFailException, AirflowSkipException, BaseOperator, push_xcom
from airflow_provider_omnimessage.api.lists import plain_argument
from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook
from airflow_provider_omnimessage.tasks.arguments import (
    IF_ALREADY_SENT,
    ON_PAST,
    ORDERS,
    check_time_at_parse,
    check_window_at_parse,
    check_zone_at_parse,
    require_choice,
    require_time,
    task_tags,
)
from airflow_provider_omnimessage.tasks.failures import constructor_errors, log_kill, task_failures
from airflow_provider_omnimessage.tasks.linking import MessageLinks
from airflow_provider_omnimessage.tasks.rendering import PlainStrings, PrivateTemplates

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from airflow.sdk import Context

    from airflow_provider_omnimessage.api.types import Deferred, Messages, Text
    from airflow_provider_omnimessage.api.windows import SendWindow
    from airflow_provider_omnimessage.tasks.cancelling import CancelOutcome, CancelSummary
    from airflow_provider_omnimessage.tasks.memory import MessageRecord
    from airflow_provider_omnimessage.tasks.scheduling import Schedule
    from airflow_provider_omnimessage.tasks.sending import DurableMessage

#: A cancel task with more ids logs numbers instead of a line for each id.
LOGGED_ONE_BY_ONE = 20


class SendOmnimessageOperator(PlainStrings, BaseOperator):
    """
    Send a message now, on the first channel that delivers it: ``POST /omnimessage``.

    The return value, and so the XCom, is the ``omnimessage_id``. Further XComs: ``to`` (E.164), ``message_ids`` (by
    channel), ``time_to_send`` (UTC, ISO 8601; null if sent now) and, if a window or the recipient's time zone counted,
    ``time_choice``: the ``wanted`` and the ``chosen`` time, and the ``reason`` for the difference.

    Bad input, rejected credentials and, by default, a lost response fail the task without a retry. If certainly nothing
    was sent, the task uses its retries::

        send = SendOmnimessageOperator(task_id="send", to="+37255555555", messages=[sms("The report is ready")])

    :param to: the recipient in E.164 format, such as ``"+37255555555"``; spaces, dashes, dots and brackets are removed.
        (templated)
    :param messages: one message per channel at most, in the order in which the channels are tried: built by ``sms()``,
        ``viber()``, ``whatsapp()`` or ``rcs()``, dicts of the same form, or the official client's objects. (templated)
    :param window: when the message may be sent, a :class:`~airflow_provider_omnimessage.api.windows.SendWindow` or its
        text form; outside of it, the message is scheduled for the next time in it. Default: the connection's.
        ``"00:00-24:00"`` is any time. (templated)
    :param timezone: of a window without its own: IANA name, or ``"recipient"``; default: the connection's. (templated)
    :param on_unknown_zone: what to do if the time zone of the recipient counts and is unknown: ``"fail"`` (default),
        ``"drop"`` to skip the task, or the IANA name of a zone to use. (templated)
    :param dlr_url: where Messente posts delivery reports; default: the connection's. (templated)
    :param text_store: how Messente keeps the text: ``"plaintext"``, ``"sha256"`` or ``"nostore"``; default: the
        connection's, else the account's. (templated)
    :param priority: ``"low"``, ``"regular"`` or ``"high"``; default: the connection's, else regular. (templated)
    :param delivery_guarantee: what to do if it is unknown whether Messente accepted the message: ``"at_most_once"``
        (default) fails the task without a retry and says what to check; ``"at_least_once"`` uses the task's retries to
        send it again, so that there may be two.
    :param durable: whether the task remembers its message across retries, crashes and clears. A retry then returns the
        message that an earlier try posted. A cleared task keeps a message that is still scheduled and the same,
        replaces one that changed, and otherwise sends a new one. Before Airflow 3.3, the log says what that lacks.
    :param omnimessage_conn_id: the Airflow connection, of type ``omnimessage``. (templated)
    :raises InvalidInputError: while the DAG is parsed, for everything that is known to be wrong by then.
    """

    template_fields: Sequence[str] = (
        "to",
        "messages",
        "window",
        "timezone",
        "on_unknown_zone",
        "dlr_url",
        "text_store",
        "priority",
        "omnimessage_conn_id",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"messages": "json"}
    operator_extra_links = MessageLinks()
    ui_color = "#e3f0ff"

    def __init__(
        self,
        *,
        to: Text,
        messages: Messages,
        window: SendWindow | Mapping[str, Any] | str | None = None,
        timezone: str | None = None,
        on_unknown_zone: str = "fail",
        dlr_url: str | None = None,
        text_store: str | None = None,
        priority: str | None = None,
        delivery_guarantee: Literal["at_most_once", "at_least_once"] = "at_most_once",
        durable: bool = True,
        omnimessage_conn_id: str = OmnimessageHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        from airflow_provider_omnimessage.api.messages import draft_omnimessage

        super().__init__(**kwargs)
        with constructor_errors(self):
            require_choice("delivery_guarantee", delivery_guarantee, ("at_most_once", "at_least_once"))
            drafts = draft_omnimessage(to, messages, dlr_url=dlr_url, text_store=text_store, priority=priority)
            window_argument = check_window_at_parse(window, on_unknown_zone)
            check_zone_at_parse(timezone)
        self.to = to
        self.messages = drafts
        self.window = window_argument
        self.timezone = timezone
        self.on_unknown_zone = on_unknown_zone
        self.dlr_url = dlr_url
        self.text_store = text_store
        self.priority = priority
        self.delivery_guarantee = delivery_guarantee
        self.durable = durable
        self.omnimessage_conn_id = omnimessage_conn_id

    @cached_property
    def hook(self) -> OmnimessageHook:
        """The hook on this task's connection."""
        return OmnimessageHook(self.omnimessage_conn_id)

    def execute(self, context: Context) -> str | None:
        """Send the message, or find the one that an earlier try has sent, and return the omnimessage_id."""
        from airflow_provider_omnimessage.tasks.sending import DurableMessage

        message = DurableMessage(
            self.hook, context, durable=self.durable, at_least_once=self._at_least_once, log=self.log
        )
        try:
            with self.hook:
                draft = self.hook.compose(
                    self.to,
                    self.messages,
                    dlr_url=self.dlr_url,
                    text_store=self.text_store,
                    priority=self.priority,
                )
                sent = self._send(context, message, draft)
            if sent is None:
                return None
            self._report(context, sent, draft["to"])
            return str(sent.omnimessage_id)
        except BaseException as error:
            message.fail(error)

    def on_kill(self) -> None:
        """Log what a kill interrupts."""
        log_kill(self.hook.unanswered_call, self.log)

    @property
    def _at_least_once(self) -> bool:
        return self.delivery_guarantee == "at_least_once"

    def _send(self, context: Context, message: DurableMessage, draft: dict[str, Any]) -> MessageRecord | None:
        """Return the message that stands; ``None``: there is none, and the task succeeds anyway."""
        return message.send(draft, self._schedule())

    def _schedule(self) -> Schedule:
        """Return when to send."""
        from airflow_provider_omnimessage.tasks.scheduling import Schedule

        return Schedule(timezone=self.timezone, window=self.window, on_unknown_zone=self.on_unknown_zone)

    def _report(self, context: Context, message: MessageRecord, to: str) -> None:
        values: dict[str, Any] = {
            "message_ids": message.message_ids,
            "to": to,
            "time_to_send": message.time_to_send,
            **({"time_choice": message.choice} if message.choice else {}),
        }
        for key, value in values.items():
            try:
                push_xcom(context["ti"], key, value)
            except Exception:
                # The message is there. To fail now would lose its id, and a retry could send it again.
                self.log.exception("The XCom '%s' could not be pushed", key)


class ScheduleOmnimessageOperator(SendOmnimessageOperator):
    """
    Schedule a message at Messente, which sends it at its time even if Airflow is down: ``POST /omnimessage``.

    It accepts the parameters of :class:`SendOmnimessageOperator`, and returns the same::

        schedule = ScheduleOmnimessageOperator(
            task_id="schedule", to="+37255555555", messages=[sms("Good morning")], time_to_send="{{ ds }}T09:00"
        )

    :param time_to_send: an ISO 8601 date and time (also as Jinja renders it from a datetime), a datetime, or a
        timedelta from now. An offset in the value wins. (templated)
    :param timezone: IANA name for a ``time_to_send`` without an offset, such as ``"Europe/Tallinn"``; default: the
        connection's, else UTC. ``"recipient"`` is the zone of the recipient's number; if that may be in several zones,
        the latest of the times. A local time that a clock change skips moves forward; one that it repeats means the
        earlier. (templated)
    :param on_past: what to do if the time is in the past, as in a backfill: ``"fail"`` without a retry (default),
        ``"skip"`` the task, or ``"send_now"``. (templated)
    """

    template_fields: Sequence[str] = (*SendOmnimessageOperator.template_fields, "time_to_send", "on_past")

    def __init__(
        self,
        *,
        time_to_send: str | datetime | timedelta | Deferred,
        on_past: Literal["fail", "skip", "send_now"] = "fail",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        with constructor_errors(self):
            require_choice("on_past", on_past, ON_PAST)
            check_time_at_parse(time_to_send, self.timezone)
        self.time_to_send = time_to_send
        self.on_past = on_past

    def _schedule(self) -> Schedule:
        require_choice("on_past", self.on_past, ON_PAST, rendered=True)
        require_time(self.time_to_send)
        from airflow_provider_omnimessage.tasks.scheduling import Schedule

        return Schedule(self.time_to_send, self.timezone, self.on_past, self.window, self.on_unknown_zone)


class RescheduleOmnimessageOperator(ScheduleOmnimessageOperator):
    """
    Move a scheduled message to another time, or replace what it says: ``DELETE`` and ``POST``, in either order.

    Messente cannot change a message, and this package never reads its text back: pass the recipient and the messages
    again. ::

        alert = ScheduleOmnimessageOperator(task_id="alert", ...)
        RescheduleOmnimessageOperator(
            task_id="later", omnimessage_id=alert.output, to=TO, messages=MESSAGES, time_to_send=timedelta(hours=2)
        )

    It takes everything that :class:`ScheduleOmnimessageOperator` takes, and returns the id of the new message.

    :param omnimessage_id: the message to replace. ``None`` stands for one whose scheduling was skipped: this task is
        skipped too. (templated)
    :param order: ``"cancel_first"`` (default): there are never two messages, but none if the second request fails.
        ``"schedule_first"``: there is never none, but two until the second request succeeds. (templated)
    :param if_already_sent: what to do if it is too late, because the message was sent or is unknown to Messente:
        ``"fail"`` without a retry (default), ``"skip"`` the task, or ``"ignore"``. With ``schedule_first``, the new
        message is cancelled again if the old one was sent. (templated)
    """

    template_fields: Sequence[str] = (
        *ScheduleOmnimessageOperator.template_fields,
        "omnimessage_id",
        "order",
        "if_already_sent",
    )

    def __init__(
        self,
        *,
        omnimessage_id: object,
        order: Literal["cancel_first", "schedule_first"] = "cancel_first",
        if_already_sent: Literal["fail", "skip", "ignore"] = "fail",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        with constructor_errors(self):
            require_choice("order", order, ORDERS)
            require_choice("if_already_sent", if_already_sent, IF_ALREADY_SENT)
        self.omnimessage_id = omnimessage_id
        self.order = order
        self.if_already_sent = if_already_sent

    def _send(self, context: Context, message: DurableMessage, draft: dict[str, Any]) -> MessageRecord | None:
        from airflow_provider_omnimessage.tasks.rescheduling import BegunCancel, RescheduleTask

        require_choice("order", self.order, ORDERS, rendered=True)
        require_choice("if_already_sent", self.if_already_sent, IF_ALREADY_SENT, rendered=True)
        begun = BegunCancel(context, durable=self.durable)
        task = RescheduleTask(self.hook, message, begun, self.order, self.if_already_sent, self.log)
        return task.run(self.omnimessage_id, draft, self._schedule())


class CancelScheduledMessageOperator(PrivateTemplates, BaseOperator):
    """
    Cancel scheduled messages before they are sent: ``DELETE /omnimessage/{omnimessage_id}``.

    ::

        alert = ScheduleOmnimessageOperator(task_id="alert", ...)
        CancelScheduledMessageOperator(task_id="cancel", omnimessage_id=alert.output)

    The return value, and so the XCom, is the list of ids that are cancelled. A message that was cancelled before
    counts as cancelled, so running the task again succeeds again. For the output of a bulk send the return value is
    numbers: ``cancelled``, ``sent_already``, ``unknown_to_messente``, ``failed``, ``not_tried``, and up to 100 ids in
    ``first_not_cancelled``.

    All ids share one time budget. Refused credentials, or the same failure three times in a row, end the task early;
    it reports what was not tried.

    :param omnimessage_id: one id or a list of ids, such as ``schedule.output``, also that of a mapped task; or the
        output of a bulk send, also that of a mapped one. ``None`` stands for a message whose scheduling was skipped,
        and is left out. (templated)
    :param if_already_sent: what to do if a message cannot be cancelled because it was sent, or is unknown to Messente:
        ``"fail"`` without a retry (default), ``"skip"`` the task, or ``"ignore"``. The other messages are cancelled
        first. (templated)
    :param trigger_rule: Airflow's. The default is ``"none_failed"``, because skipped work is not late work: a branch
        that was not taken must not let the alert go out.
    :param omnimessage_conn_id: the Airflow connection, of type ``omnimessage``. (templated)
    """

    template_fields: Sequence[str] = ("omnimessage_id", "if_already_sent", "omnimessage_conn_id")
    operator_extra_links = MessageLinks()
    ui_color = "#ffeee3"

    def __init__(
        self,
        *,
        omnimessage_id: object,
        if_already_sent: Literal["fail", "skip", "ignore"] = "fail",
        omnimessage_conn_id: str = OmnimessageHook.default_conn_name,
        trigger_rule: str = "none_failed",
        **kwargs: Any,
    ) -> None:
        super().__init__(trigger_rule=trigger_rule, **kwargs)
        with constructor_errors(self):
            require_choice("if_already_sent", if_already_sent, IF_ALREADY_SENT)
        self.omnimessage_id = omnimessage_id
        self.if_already_sent = if_already_sent
        self.omnimessage_conn_id = omnimessage_conn_id

    @cached_property
    def hook(self) -> OmnimessageHook:
        """The hook for this task's connection."""
        return OmnimessageHook(self.omnimessage_conn_id)

    def execute(self, context: Context) -> list[str] | dict[str, Any]:
        """Cancel the messages, and return the cancelled ids; for the output of a bulk send, return numbers."""
        from airflow_provider_omnimessage.bulk.cancelling import MessagesToCancel
        from airflow_provider_omnimessage.tasks.cancelling import CancelSummary, cancel_each

        with task_failures(again=True), self.hook:
            require_choice("if_already_sent", self.if_already_sent, IF_ALREADY_SENT, rendered=True)
            wanted = MessagesToCancel.read(plain_argument(self.omnimessage_id))
            if not wanted:
                raise AirflowSkipException("There is no omnimessage_id: no message was scheduled, so none is cancelled")
            cancelled: list[str] = []
            summary = CancelSummary.of(wanted.invalid)
            for outcome in wanted.invalid[:LOGGED_ONE_BY_ONE]:
                self._log_outcome(outcome)
            tags = task_tags(context)
            for outcome in cancel_each(self.hook, wanted.ids, times=wanted.times, log=self.log, tags=tags):
                summary.add(outcome)
                if outcome.is_cancelled:
                    cancelled.append(outcome.omnimessage_id)
                if len(wanted.ids) <= LOGGED_ONE_BY_ONE:
                    self._log_outcome(outcome)
            self.log.info("%s messages: %s", f"{len(wanted.ids) + len(wanted.invalid):,}", summary)
            result = summary.as_dict() if wanted.are_of_bulk else cancelled
            if summary.errors or (summary.too_late and self.if_already_sent != "ignore"):
                # Airflow stores a return value only if the task succeeds, but what was cancelled is cancelled.
                context["ti"].xcom_push(key="return_value", value=result)
            summary.raise_if_unknown()
            self._judge(summary)
        return result

    def on_kill(self) -> None:
        """Log what a kill interrupts."""
        call = self.hook.unanswered_call
        doing = f"waiting for the response to {call}" if call else "no request to Messente was in flight"
        self.log.warning("Killed while %s. What was cancelled stays cancelled; run this task again for the rest", doing)

    def _log_outcome(self, outcome: CancelOutcome) -> None:
        if outcome.is_cancelled:
            self.log.info("Cancelled before it was sent: omnimessage_id %s", outcome.omnimessage_id)
        elif outcome.error is not None:
            self.log.warning("Not cancelled: omnimessage_id %s", outcome)

    def _judge(self, summary: CancelSummary) -> None:
        if not summary.too_late:
            return
        listed = summary.too_late_in_words[:LOGGED_ONE_BY_ONE]
        more = f"; and {summary.too_late - len(listed):,} more" if summary.too_late > len(listed) else ""
        what = f"Could not be cancelled: {'; '.join(listed)}{more}"
        if self.if_already_sent == "fail":
            raise AirflowFailException(what)
        if self.if_already_sent == "skip":
            raise AirflowSkipException(what)
        self.log.warning("%s. Ignored, because if_already_sent='ignore'", what)
