"""Reschedule the message of a task: what is checked first, and how the task ends if it is too late."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_omnimessage._compat import AirflowFailException, AirflowSkipException, TaskMemory
from airflow_provider_omnimessage.api.errors import InvalidInputError
from airflow_provider_omnimessage.api.fields import describe
from airflow_provider_omnimessage.api.ids import checked_id
from airflow_provider_omnimessage.hooks.rescheduling import Order, Rescheduled, reschedule
from airflow_provider_omnimessage.tasks.memory import Mark, MessageRecord, Since

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.types import Logger

    from airflow_provider_omnimessage.api.send_times import ChosenTime
    from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook
    from airflow_provider_omnimessage.tasks.scheduling import Schedule
    from airflow_provider_omnimessage.tasks.sending import DurableMessage


#: The key in ``task_state_store`` of the old message that a try has begun to cancel.
KEY = "omnimessage_cancel_first"


class BegunCancel:
    """
    The old message that an earlier try of this task has begun to cancel: from then on, there must be a new one.

    Without a state store, nothing is known about earlier tries.

    :param durable: whether to use Airflow's, if it has one.
    """

    def __init__(self, context: Context, *, durable: bool) -> None:
        self._memory = TaskMemory.of(context, KEY) if durable else None
        self._mark = Mark.of(context)

    def is_of(self, omnimessage_id: str) -> bool:
        """Return whether it is this message, and the task was not cleared since."""
        kept = self._memory.recall() if self._memory is not None else None
        if not isinstance(kept, Mapping) or kept.get("omnimessage_id") != omnimessage_id:
            return False
        earlier = Mark(kept.get("max_tries", -1), kept.get("try_number"), kept.get("clear_number"))
        return self._mark.since(earlier) is not Since.CLEAR

    def begin(self, omnimessage_id: str) -> None:
        """Remember the message before it is cancelled. If that fails, nothing is cancelled."""
        if self._memory is not None:
            self._memory.keep({"omnimessage_id": omnimessage_id, **asdict(self._mark)})


@dataclass(frozen=True)
class RescheduleTask:
    """
    One try of a task that reschedules.

    :param message: the new one.
    :param begun: what earlier tries have begun with ``cancel_first``.
    """

    hook: OmnimessageHook
    message: DurableMessage
    begun: BegunCancel
    order: Order
    if_already_sent: Literal["fail", "skip", "ignore"]
    log: Logger

    def run(self, omnimessage_id: object, draft: dict[str, Any], schedule: Schedule) -> MessageRecord | None:
        """
        Return the new message; ``None``: it was too late, which is ignored.

        :param omnimessage_id: of the old one.
        :raises AirflowSkipException: if there is no old message.
        """
        if omnimessage_id in (None, "None", ""):
            raise AirflowSkipException("There is no omnimessage_id: no message was scheduled, so none is rescheduled")
        if not isinstance(omnimessage_id, str) and isinstance(omnimessage_id, Iterable):
            raise InvalidInputError.of(
                "omnimessage_id",
                f"{describe(omnimessage_id)} is not an id; a task reschedules one message: for several, use "
                ".expand(omnimessage_id=...)",
            )
        old_id = checked_id(omnimessage_id)
        post: Callable[[], MessageRecord] = partial(self.message.send, draft, schedule)
        if self.order == "cancel_first":
            # nothing is cancelled for a new message that cannot be scheduled
            found = self.message.find(draft, schedule)
            if isinstance(found, MessageRecord) and self.begun.is_of(old_id):
                return found  # an earlier try has done both
            post = self._prepare(old_id, found, draft, schedule)
        done: Rescheduled[MessageRecord] = reschedule(
            self.order,
            old_id,
            cancel=self.hook.try_to_cancel,
            post=post,
            id_of=lambda record: str(record.omnimessage_id),
            log=self.log,
        )
        if not done.is_too_late:
            self.log.info("The old message %s %s", old_id, done.old)
            return done.new
        return self._too_late(old_id, done)

    def _prepare(
        self, old_id: str, found: MessageRecord | ChosenTime, draft: dict[str, Any], schedule: Schedule
    ) -> Callable[[], MessageRecord]:
        """
        Do all that can fail before the request, and return the function that posts the new message.

        :param found: that message, if an earlier try has posted it, or the time of the one to post.
        """
        if isinstance(found, MessageRecord):
            return lambda: found
        # the time may pass while the old one is being cancelled, or until a retry: late is better than never
        late = schedule.but_now_if_past("the old message is cancelled")
        if not self.begun.is_of(old_id):
            schedule.judge(self.hook, found, self.log)
            self.begun.begin(old_id)
        return partial(self.message.post, draft, late, found)

    def _too_late(self, old_id: str, done: Rescheduled[MessageRecord]) -> MessageRecord | None:
        new_id = done.new.omnimessage_id if done.new else None
        if done.new is None:
            fate = "nothing was scheduled"
        elif done.withdrawn is None:
            fate = f"the new message {new_id} is kept"
        else:
            fate = f"the new message {new_id} {done.withdrawn}"
        what = f"Too late to reschedule: {old_id} {done.old}; {fate}"
        if self.if_already_sent == "fail":
            raise AirflowFailException(what)
        if self.if_already_sent == "skip":
            raise AirflowSkipException(what)
        self.log.warning("%s. Ignored, because if_already_sent='ignore'", what)
        return done.new if done.stands else None
