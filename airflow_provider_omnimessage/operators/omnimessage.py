"""Operators: send a message now, schedule it for later, and cancel it while it is still waiting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow_provider_omnimessage._compat import AirflowFailException, AirflowSkipException, BaseOperator
from airflow_provider_omnimessage.failures import task_failures
from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook, refuse_past

if TYPE_CHECKING:
    from airflow_provider_omnimessage.api.calls import Accepted
    from airflow_provider_omnimessage.api.timing import TimeToSend

DOUBT = (
    "Messente may have accepted the message all the same, so this task is not retried: a second one could go out. "
    "Look for it in Messente's dashboard; if it is not there, clear this task"
)


class SendOmnimessageOperator(BaseOperator):
    """
    Send a message now, on the first channel that delivers it: ``POST /omnimessage``.

    The return value, and so the XCom, is the ``omnimessage_id``. Further XComs: ``to`` (E.164), ``message_ids`` (by
    channel) and ``time_to_send`` (UTC, ISO 8601; null if sent now).

    Bad input, refused credentials and an answer that was lost fail the task without a retry; what surely was not sent
    takes the task's retries.

    :param to: the recipient in E.164, as ``"+37255555555"``; spaces, dashes, dots and brackets are tidied away.
        (templated)
    :param messages: one message per channel at most, in the order in which the channels are tried: built by ``sms()``,
        ``viber()``, ``whatsapp()`` or ``rcs()``, dicts of the same form, or the official client's objects. (templated)
    :param dlr_url: where Messente posts delivery reports; default: the connection's. (templated)
    :param text_store: how Messente keeps the text: ``"plaintext"``, ``"sha256"`` or ``"nostore"``; default: the
        connection's, else the account's. (templated)
    :param priority: ``"low"``, ``"regular"`` or ``"high"``; default: the connection's, else regular. (templated)
    :param omnimessage_conn_id: the Airflow connection, of type ``omnimessage``. (templated)
    :raises InvalidInputError: while the DAG is parsed, for what can be seen to be wrong by then.
    """

    template_fields: Sequence[str] = (
        "to",
        "messages",
        "dlr_url",
        "text_store",
        "priority",
        "omnimessage_conn_id",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"messages": "json"}
    ui_color = "#e3f0ff"

    def __init__(
        self,
        *,
        to: Any,
        messages: Any,
        dlr_url: str | None = None,
        text_store: str | None = None,
        priority: str | None = None,
        omnimessage_conn_id: str = OmnimessageHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        from airflow_provider_omnimessage.api.messages import draft_messages

        super().__init__(**kwargs)
        self.to = to
        self.messages = draft_messages(messages)
        self.dlr_url = dlr_url
        self.text_store = text_store
        self.priority = priority
        self.omnimessage_conn_id = omnimessage_conn_id

    @cached_property
    def hook(self) -> OmnimessageHook:
        """The hook on this task's connection."""
        return OmnimessageHook(self.omnimessage_conn_id)

    def execute(self, context: Mapping[str, Any]) -> str:
        """Send, and return the omnimessage_id."""
        return self._send(context, None)

    def _send(self, context: Mapping[str, Any], moment: TimeToSend | None) -> str:
        with task_failures(DOUBT), self.hook:
            accepted = self.hook.send(
                self.to,
                self.messages,
                time_to_send=moment,
                dlr_url=self.dlr_url,
                text_store=self.text_store,
                priority=self.priority,
            )
        self._report(context, accepted, moment)
        return accepted.omnimessage_id

    def _report(self, context: Mapping[str, Any], accepted: Accepted, moment: TimeToSend | None) -> None:
        from airflow_provider_omnimessage.api.masking import mask_number

        self.log.info(
            "%s %s to %s by %s: omnimessage_id %s",
            "Scheduled" if moment else "Sent",
            f"for {moment}" if moment else "now",
            mask_number(accepted.to),
            ", then ".join(accepted.message_ids) or "the channels given",
            accepted.omnimessage_id,
        )
        task_instance = context["ti"]
        # first of all what a person would need to find the message if the worker died between two pushes
        task_instance.xcom_push(key="message_ids", value=accepted.message_ids)
        task_instance.xcom_push(key="to", value=accepted.to)
        task_instance.xcom_push(key="time_to_send", value=moment.utc.isoformat() if moment else None)


class ScheduleOmnimessageOperator(SendOmnimessageOperator):
    """
    Schedule a message at Messente, which sends it at its time whatever becomes of Airflow: ``POST /omnimessage``.

    It takes everything that :class:`SendOmnimessageOperator` takes, and returns the same.

    :param time_to_send: when: an ISO 8601 date and time (what Jinja renders from a datetime included), a datetime, or a
        timedelta from now. An offset in it wins. (templated)
    :param timezone: IANA name for a ``time_to_send`` without an offset, as ``"Europe/Tallinn"``; default: the
        connection's, else UTC. A local time that a clock change skips moves forward; one that it repeats means the
        earlier. (templated)
    :param on_past: what to do when the moment has gone by, as in a backfill: ``"fail"`` without a retry (default),
        ``"skip"`` the task, or ``"send_now"``.
    """

    template_fields: Sequence[str] = (*SendOmnimessageOperator.template_fields, "time_to_send", "timezone")

    def __init__(
        self,
        *,
        time_to_send: Any,
        timezone: str | None = None,
        on_past: Literal["fail", "skip", "send_now"] = "fail",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        _demand_choice("on_past", on_past, ("fail", "skip", "send_now"))
        self.time_to_send = time_to_send
        self.timezone = timezone
        self.on_past = on_past

    def execute(self, context: Mapping[str, Any]) -> str:
        """Schedule, and return the omnimessage_id."""
        return self._send(context, self._moment())

    def _moment(self) -> TimeToSend | None:
        from airflow_provider_omnimessage.api.errors import PastTimeToSendError

        with task_failures():
            moment = self.hook.resolve_time_to_send(self.time_to_send, timezone=self.timezone)
            try:
                refuse_past(moment)
            except PastTimeToSendError as error:
                if self.on_past == "skip":
                    raise AirflowSkipException(f"Nothing is scheduled: {error}") from None
                if self.on_past == "fail":
                    raise
                self.log.warning("%s has gone by: sent now, as on_past='send_now' says", moment)
                return None
        return moment


class CancelScheduledMessageOperator(BaseOperator):
    """
    Cancel scheduled messages while they are still waiting: ``DELETE /omnimessage/{omnimessage_id}``.

    The return value, and so the XCom, is the list of ids that are cancelled now. A message that was cancelled before is
    one of them, so a task that is run again succeeds again.

    :param omnimessage_id: one id or many: ``schedule.output``, that of a mapped task, or ids from anywhere. Where an id
        is ``None``, its scheduling was skipped, and so is its cancelling. (templated)
    :param if_already_sent: what to do when a message cannot be cancelled any more, because it has been sent or is
        unknown: ``"fail"`` without a retry (default), ``"skip"`` the task, or ``"ignore"``. All others are cancelled
        first.
    :param omnimessage_conn_id: the Airflow connection, of type ``omnimessage``. (templated)
    """

    template_fields: Sequence[str] = ("omnimessage_id", "omnimessage_conn_id")
    ui_color = "#ffeee3"

    def __init__(
        self,
        *,
        omnimessage_id: Any,
        if_already_sent: Literal["fail", "skip", "ignore"] = "fail",
        omnimessage_conn_id: str = OmnimessageHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        _demand_choice("if_already_sent", if_already_sent, ("fail", "skip", "ignore"))
        self.omnimessage_id = omnimessage_id
        self.if_already_sent = if_already_sent
        self.omnimessage_conn_id = omnimessage_conn_id

    @cached_property
    def hook(self) -> OmnimessageHook:
        """The hook on this task's connection."""
        return OmnimessageHook(self.omnimessage_conn_id)

    def execute(self, context: Mapping[str, Any]) -> list[str]:
        """Cancel, and return the ids that are cancelled now."""
        ids = self._ids()
        if not ids:
            raise AirflowSkipException(
                "There is no omnimessage_id: nothing was scheduled, so there is nothing to cancel"
            )
        cancelled: list[str] = []
        too_late: list[str] = []
        unanswered: list[Exception] = []
        with task_failures(), self.hook:
            for omnimessage_id in ids:
                self._cancel(omnimessage_id, cancelled, too_late, unanswered)
        if unanswered or (too_late and self.if_already_sent != "ignore"):
            # a task that does not succeed returns nothing, but what it has done is done
            context["ti"].xcom_push(key="return_value", value=cancelled)
        if unanswered:
            raise unanswered[0]
        self._judge(too_late)
        return cancelled

    def _ids(self) -> list[str]:
        from airflow_provider_omnimessage.api.calls import checked_ids

        with task_failures():
            return [omnimessage_id for _, omnimessage_id in checked_ids(self.omnimessage_id)]

    def _cancel(
        self, omnimessage_id: str, cancelled: list[str], too_late: list[str], unanswered: list[Exception]
    ) -> None:
        from airflow_provider_omnimessage.api.errors import NotFoundError, OmnimessageError

        try:
            try:
                self.hook.cancel(omnimessage_id)
            except NotFoundError:
                if not self._was_cancelled(omnimessage_id, too_late):
                    return
            cancelled.append(omnimessage_id)
            self.log.info("Cancelled %s before it was sent", omnimessage_id)
        except OmnimessageError as error:
            if not error.may_pass:
                raise
            self.log.warning("%s: %s", omnimessage_id, error)
            unanswered.append(error)

    def _was_cancelled(self, omnimessage_id: str, too_late: list[str]) -> bool:
        """Find out what a 404 means: cancelled before, sent, or unknown."""
        from airflow_provider_omnimessage.api.delivery import Outcome
        from airflow_provider_omnimessage.api.errors import NotFoundError

        try:
            report = self.hook.get_delivery_report(omnimessage_id)
        except NotFoundError:
            too_late.append(f"{omnimessage_id} is unknown to Messente, or belongs to another account")
            return False
        if report.outcome is Outcome.CANCELLED:
            return True
        channels = "; ".join(map(str, report.statuses)) or "no channel tried yet"
        too_late.append(f"{omnimessage_id} has been sent already ({channels})")
        return False

    def _judge(self, too_late: list[str]) -> None:
        if not too_late:
            return
        what = f"Could not be cancelled: {'; '.join(too_late)}"
        if self.if_already_sent == "fail":
            raise AirflowFailException(what)
        if self.if_already_sent == "skip":
            raise AirflowSkipException(what)
        self.log.warning("%s. That is fine, as if_already_sent='ignore' says", what)


def _demand_choice(field: str, value: object, accepted: Sequence[str]) -> None:
    if value not in accepted:
        from airflow_provider_omnimessage.api.errors import InvalidInputError

        raise InvalidInputError.of(field, f"{value!r} is not accepted; give one of {', '.join(accepted)}")
