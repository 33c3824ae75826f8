"""Send the one message of a task: across retries, crashes and clears, and never twice unless asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_provider_omnimessage import metrics
from airflow_provider_omnimessage._compat import AirflowFailException, AirflowSkipException, TaskMemory
from airflow_provider_omnimessage.api.errors import OmnimessageError
from airflow_provider_omnimessage.api.masking import mask_number
from airflow_provider_omnimessage.tasks import posting
from airflow_provider_omnimessage.tasks.arguments import task_tags
from airflow_provider_omnimessage.tasks.failures import as_task_failure
from airflow_provider_omnimessage.tasks.memory import (
    KEY,
    Mark,
    MessageRecord,
    SendStep,
    Since,
    fingerprint,
    next_step,
)
from airflow_provider_omnimessage.tasks.posting import MessageState

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.types import Logger

    from airflow_provider_omnimessage.api.send_times import ChosenTime
    from airflow_provider_omnimessage.api.timing import TimeToSend
    from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook
    from airflow_provider_omnimessage.tasks.scheduling import Schedule

DOUBT = (
    "Messente may have accepted the message, so this task is not retried: a retry could send it twice. Look for it in "
    "Messente's dashboard; if it is not there, clear this task"
)
#: Seconds after ``time_to_send`` until which a request that was begun in time, or is repeated, may go on.
GRACE = 10.0


class DurableMessage:
    """
    The message of one task.

    ``send`` returns the message of an earlier try, or posts one. From the first request on, every exception that ends
    the task must go through :meth:`fail`, which decides whether Airflow may retry it.

    :param durable: whether to remember the message in ``task_state_store``, if Airflow has one.
    :param at_least_once: whether a second message is better than none.
    """

    def __init__(
        self, hook: OmnimessageHook, context: Context, *, durable: bool, at_least_once: bool, log: Logger
    ) -> None:
        self._hook = hook
        self._tags = task_tags(context)
        self._at_least_once = at_least_once
        self._log = log
        self._mark = Mark.of(context)
        self._place = _Place(TaskMemory.of(context, KEY) if durable else None)
        if durable and self._place.memory is None:
            log.info(
                "durable=True requires Airflow 3.3 or newer. On this version, if a worker dies during the request, its "
                "retry may send the message twice, and a cleared task schedules another message"
            )

    def send(self, draft: dict[str, Any], schedule: Schedule) -> MessageRecord:
        """
        Return the message of an earlier try, or post one.

        :param draft: the whole body, without its time.
        """
        found = self.find(draft, schedule)
        return found if isinstance(found, MessageRecord) else self.post(draft, schedule, found)

    def find(self, draft: dict[str, Any], schedule: Schedule) -> MessageRecord | ChosenTime:
        """
        Return the message of an earlier try that stands, or the time of the one to post. Withdraw one that changed.

        Whether that time is in the past is left to :meth:`post`, so that a changed message is withdrawn in any case.

        :param draft: the whole body, without its time.
        :raises AirflowFailException: if nothing may be posted, because it is unknown whether an earlier try has.
        """
        earlier = self._place.recall()
        step = next_step(earlier, self._mark, at_least_once=self._at_least_once)
        if earlier is not None:
            if step is SendStep.FAIL:
                self._fail_again(earlier)
            if step is SendStep.KEEP:
                return self._keep(earlier, draft)
        try:
            choice = schedule.choose(self._hook, draft["to"], self._log)
        except AirflowSkipException:
            if earlier is not None and step is SendStep.LOOK_UP:
                self._look_up(earlier, draft, None)
            raise
        if earlier is not None and step is SendStep.LOOK_UP:
            kept = self._look_up(earlier, draft, choice.chosen)
            if kept is not None:
                return kept
        elif earlier is not None:
            self._log.warning(
                "An earlier try may have posted this message at %s; posting another one, because %s",
                earlier.since,
                "delivery_guarantee='at_least_once'" if self._at_least_once else "the task was cleared",
            )
        return choice

    def fail(self, error: BaseException) -> NoReturn:
        """
        Raise what ends the task: the error itself, or one that Airflow does not retry if a retry could send twice.

        :raises AirflowFailException: if a message was or may have been posted that a retry would not know.
        """
        failure = self._failure(error)
        if failure is error:
            raise error
        raise failure from error

    def _failure(self, error: BaseException) -> BaseException:
        place = self._place
        if place.accepted is not None:
            known = place.is_stored or (place.memory is not None and self._is_stored_now(place.accepted))
            if known or isinstance(error, (AirflowFailException, AirflowSkipException)):
                return error
            return AirflowFailException(
                f"The message was sent (omnimessage_id {place.accepted.omnimessage_id}), but the task ended before it "
                f"was done: {error!r}. This task is not retried: a retry could send it twice"
            )
        if place.intent is None:
            return as_task_failure(error, again=self._at_least_once)
        if self._at_least_once:
            return error
        self._remember(replace(place.intent, reported=True))
        what = str(error) if isinstance(error, OmnimessageError) else f"Interrupted before the response came: {error!r}"
        return AirflowFailException(f"{what}. {DOUBT}")

    def _is_stored_now(self, record: MessageRecord) -> bool:
        try:
            self._place.keep(record.as_dict())
        except Exception:
            return False
        return True

    def _remember(self, record: MessageRecord) -> None:
        if self._place.memory is None:
            return
        try:
            self._place.memory.keep(record.as_dict())
        except Exception:
            self._log.exception("The state of the message could not be stored: a later try is more careful than needed")

    def _fail_again(self, earlier: MessageRecord) -> NoReturn:
        self._remember(replace(earlier.marked(self._mark), reported=True))
        raise AirflowFailException(
            f"An earlier try of this task was about to post its message at {earlier.since}, and ended before it stored "
            f"the response. Look into the log of that try first: if it names an omnimessage_id, the message was "
            f"accepted. {DOUBT}"
        )

    def _keep(self, earlier: MessageRecord, draft: Mapping[str, Any]) -> MessageRecord:
        self._log.info("An earlier try has posted this message: keeping omnimessage_id %s", earlier.omnimessage_id)
        if fingerprint(draft, self._hook.settings.password) != earlier.fingerprint:
            self._log.warning("The message or the connection has changed since; clear this task to replace it")
        return earlier

    def _look_up(
        self, earlier: MessageRecord, draft: Mapping[str, Any], time: TimeToSend | None
    ) -> MessageRecord | None:
        """Return the message of a cleared task if it is still scheduled and the same; withdraw it if it changed."""
        omnimessage_id = str(earlier.omnimessage_id)
        is_sure = self._mark.since(earlier.mark) is Since.CLEAR or self._at_least_once
        now = datetime.now(timezone.utc)
        if is_sure and not earlier.waits(now):
            return None
        state = posting.message_state(self._hook, earlier, now)
        if state is MessageState.SCHEDULED:
            is_same = earlier.fingerprint == fingerprint(draft, self._hook.settings.password)
            if is_same and earlier.time_to_send == _as_text(time):
                self._log.info("Still scheduled and unchanged: keeping omnimessage_id %s", omnimessage_id)
                kept = earlier.marked(self._mark)
                self._remember(kept)
                return kept
            cancellation = self._hook.try_to_cancel(omnimessage_id, earlier.due)
            if cancellation.is_cancelled:
                self._log.info("Changed, so it was cancelled: omnimessage_id %s", omnimessage_id)
                return None
            state = MessageState.SENT
        if is_sure or state is MessageState.CANCELLED:
            self._log.info("omnimessage_id %s %s; posting a new message", omnimessage_id, state.value)
            return None
        self._remember(earlier.marked(self._mark))
        raise AirflowFailException(
            f"omnimessage_id {omnimessage_id} {state.value}, and it is unknown whether this task was cleared or is a "
            "retry; to send another message, clear this task again"
        )

    def post(self, draft: dict[str, Any], schedule: Schedule, choice: ChosenTime) -> MessageRecord:
        """
        Post the message, unless its time is in the past and ``on_past`` forbids that.

        :param choice: what :meth:`find` returned.
        """
        choice = schedule.judge(self._hook, choice, self._log)
        time = choice.chosen
        intent = MessageRecord(
            fingerprint=fingerprint(draft, self._hook.settings.password),
            time_to_send=_as_text(time),
            since=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            choice=choice.as_dict() if choice.zones or choice.places or choice.reason else None,
            **asdict(self._mark),
        )
        body = {**draft, "time_to_send": time.utc.isoformat(timespec="seconds")} if time else draft
        with self._hook.within(_seconds_until(time)):
            posted = posting.post(self._hook, body, intent, self._place, self._log)
        self._log.info(
            "%s to %s via %s: omnimessage_id %s",
            f"Scheduled for {time}" if time else "Sent now",
            mask_number(draft["to"]),
            ", ".join(posted.message_ids or ()) or "the channels of the message",
            posted.omnimessage_id,
        )
        metrics.count("scheduled" if time else "sent", self._tags)
        return posted


class _Place:
    """Where the message is remembered, and what this try knows about it. Without a memory, only this try knows."""

    def __init__(self, memory: TaskMemory | None) -> None:
        self.memory = memory
        self.intent: MessageRecord | None = None
        self.accepted: MessageRecord | None = None
        self.is_stored = False

    def recall(self) -> MessageRecord | None:
        return MessageRecord.read(self.memory.recall()) if self.memory is not None else None

    def keep(self, value: dict[str, Any]) -> None:
        record = MessageRecord.read(value)
        if record is None or record.omnimessage_id is None:
            # Stored first: if that fails, nothing is posted.
            if self.memory is not None:
                self.memory.keep(value)
            self.intent = record
            return
        self.accepted = record
        if self.memory is not None:
            self.memory.keep(value)
            self.is_stored = True

    def forget(self) -> None:
        self.intent = None
        if self.memory is not None:
            self.memory.forget()


def _seconds_until(time: TimeToSend | None) -> float:
    """Return the seconds in which the message must be posted, so that it is not repeated long after its time."""
    if time is None:
        return float("inf")
    return max((time.utc - datetime.now(timezone.utc)).total_seconds(), 0.0) + GRACE


def _as_text(time: TimeToSend | None) -> str | None:
    return time.utc.isoformat() if time else None
