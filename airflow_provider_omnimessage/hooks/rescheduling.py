"""Reschedule a message: cancel the old one and post a new one, in either order, since Messente cannot change one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar

from airflow_provider_omnimessage.api.cancel_result import Cancellation, CancelResult
from airflow_provider_omnimessage.api.errors import OmnimessageError
from airflow_provider_omnimessage.api.fields import choice, require
from airflow_provider_omnimessage.api.ids import checked_id
from airflow_provider_omnimessage.hooks.choosing import Composer, prepare

if TYPE_CHECKING:
    from airflow_provider_omnimessage.api.responses import Accepted
    from airflow_provider_omnimessage.api.types import Messages

Order = Literal["cancel_first", "schedule_first"]
ORDERS: tuple[Order, ...] = ("cancel_first", "schedule_first")

New = TypeVar("New")


class _Log(Protocol):
    def error(self, message: str, /, *args: object) -> object:
        """Log an error."""


class Rescheduler(Composer, Protocol):
    """What is needed of a hook."""

    def post(self, omnimessage: dict[str, Any]) -> Accepted:
        """Post a message."""

    def try_to_cancel(self, omnimessage_id: str) -> Cancellation:
        """Cancel a message."""


@dataclass(frozen=True)
class Rescheduled(Generic[New]):
    """
    The outcome for both messages.

    :param old: the outcome of the cancel of the old message.
    :param new: the new message; ``None``: it was not posted, because it was too late.
    :param withdrawn: the outcome of the cancel of the new message, which was posted too late; ``None``: it stands.
    """

    old: Cancellation
    new: New | None = None
    withdrawn: Cancellation | None = None

    @property
    def is_too_late(self) -> bool:
        """Whether the old message was not cancelled, because it was sent or is unknown to Messente."""
        return not self.old.is_cancelled

    @property
    def stands(self) -> bool:
        """Whether the new message is scheduled, or was sent."""
        return self.new is not None and (self.withdrawn is None or not self.withdrawn.is_cancelled)


def reschedule(
    order: Order,
    omnimessage_id: str,
    *,
    cancel: Callable[[str], Cancellation],
    post: Callable[[], New],
    id_of: Callable[[New], str],
    log: _Log,
) -> Rescheduled[New]:
    """
    Cancel the old message and post the new one.

    ``cancel_first`` never leaves two messages: nothing is posted unless the old one is known to be cancelled.
    ``schedule_first`` never leaves none: the old one is cancelled once the new one is accepted. If the old one was sent
    meanwhile, the new one is cancelled.

    :param cancel: returns the outcome of a cancel; its errors are raised.
    :param post: posts the new message; its errors are raised.
    """
    if order == "schedule_first":
        new = post()
        try:
            old = cancel(omnimessage_id)
        except BaseException:
            log.error("The new message %s is scheduled; the old one, %s, may be too", id_of(new), omnimessage_id)
            raise
        if old.result is CancelResult.ALREADY_SENT:
            return Rescheduled(old, new, _withdraw(cancel, omnimessage_id, id_of(new), log))
        return Rescheduled(old, new)
    old = cancel(omnimessage_id)
    if not old.is_cancelled:
        return Rescheduled(old)
    try:
        return Rescheduled(old, post())
    except BaseException as error:
        if isinstance(error, OmnimessageError) and not error.maybe_processed:
            log.error("The old message %s is cancelled; the new one is not scheduled", omnimessage_id)
        else:
            log.error(
                "The old message %s is cancelled; it is not certain that the new one is scheduled", omnimessage_id
            )
        raise


def _withdraw(cancel: Callable[[str], Cancellation], old_id: str, new_id: str, log: _Log) -> Cancellation:
    """Cancel the new message, because the old one was sent."""
    try:
        return cancel(new_id)
    except BaseException:
        log.error("The old message %s was sent; the new one, %s, may be scheduled too: cancel it", old_id, new_id)
        raise


def reschedule_with(
    hook: Rescheduler,
    omnimessage_id: str,
    to: str,
    messages: Messages,
    *,
    order: Order,
    options: Mapping[str, Any],
    log: _Log | None = None,
    on_posted: Callable[[Accepted], object] | None = None,
) -> Rescheduled[Accepted]:
    """
    Reschedule without a task around it.

    :param options: what the hook's ``send`` takes.
    :param log: says which of the two messages is scheduled if a request fails; default: the hook's.
    :param on_posted: is called as soon as the new message is accepted, whatever fails after that.
    """
    require("order", order, choice(*ORDERS), rendered=True)
    body = prepare(hook, to, messages, **options)

    def post() -> Accepted:
        accepted = hook.post(body)
        if on_posted is not None:
            on_posted(accepted)
        return accepted

    return reschedule(
        order,
        checked_id(omnimessage_id),
        cancel=hook.try_to_cancel,
        post=post,
        id_of=lambda accepted: accepted.omnimessage_id,
        log=hook.log if log is None else log,
    )
