"""Sends the messages of one event to all of its recipients, and reports each outcome."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from airflow_provider_omnimessage import metrics
from airflow_provider_omnimessage.alerts.recipients import recipients_at
from airflow_provider_omnimessage.alerts.steps import notices
from airflow_provider_omnimessage.api.cancel_result import CancelResult
from airflow_provider_omnimessage.api.errors import InvalidInputError
from airflow_provider_omnimessage.api.masking import mask_number
from airflow_provider_omnimessage.api.timing import TimeToSend
from airflow_provider_omnimessage.hooks.choosing import alert_time
from airflow_provider_omnimessage.notifications.texts import cut_message, event_tags, with_text
from airflow_provider_omnimessage.tasks.arguments import RECIPIENT

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

    from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook


@dataclass
class Notification:
    """A message to one recipient: what is posted, and its outcome."""

    to: str
    time_to_send: TimeToSend | None = None
    draft: dict[str, Any] | None = None
    omnimessage_id: str | None = None
    error: BaseException | None = None

    @property
    def may_be_sent(self) -> bool:
        """Whether it was sent, or may have been."""
        return self.error is None or getattr(self.error, "maybe_processed", False)


@dataclass(frozen=True)
class EventSender:
    """Composes the messages of one event, and reports their outcomes.

    :param to: as :func:`~airflow_provider_omnimessage.alerts.recipients.recipients_at` takes it.
    :param max_parts: most SMS parts.
    :param options: what else a message has: ``dlr_url``, ``text_store``, ``priority``.
    :param context: Airflow's context of the event.
    :param window: as :func:`~airflow_provider_omnimessage.hooks.choosing.alert_time` takes it.
    :param timezone: as that takes it; counts for a window, and if it is ``"recipient"``.
    :param notified: filled with the numbers that were, or may have been, notified.
    """

    to: Any
    max_parts: int
    options: Mapping[str, Any]
    context: Mapping[str, Any]
    log: Logger
    window: Any = None
    timezone: str | None = None
    notified: set[str] = field(default_factory=set)

    def compose(self, hook: OmnimessageHook, messages: Sequence[Any], time_to_send: Any) -> list[Notification]:
        """Return one notification for each recipient, with a body or an error.

        :param time_to_send: resolved; with the time zone of each recipient, as the notifier takes it; ``None``: now.
        """
        cut = [cut_message(message, self.max_parts) for message in messages]
        resolved = time_to_send if isinstance(time_to_send, TimeToSend) else None
        numbers, problems = recipients_at(self.to, resolved.utc if resolved else datetime.now(timezone.utc))
        notifications = [Notification("", error=InvalidInputError([problem])) for problem in problems]
        for to in numbers:
            notification = Notification(to, resolved)
            try:
                if self.window is not None or self.timezone == RECIPIENT:
                    notification.time_to_send = alert_time(
                        hook.settings,
                        to,
                        self.log,
                        time_to_send=resolved.utc if resolved else time_to_send,
                        timezone=self.timezone,
                        window=self.window,
                    ).chosen
                at = notification.time_to_send.utc if notification.time_to_send else None
                notification.draft = hook.compose(to, cut, time_to_send=at, **self.options)
            except Exception as error:
                notification.error = error
            notifications.append(notification)
        return notifications

    def post(self, hook: OmnimessageHook, messages: Sequence[Any], time_to_send: Any) -> list[str]:
        """Post to all recipients, and return the ids.

        :param time_to_send: as :meth:`compose` takes it.

        :raises Exception: as :meth:`report` does.
        """
        notifications = self.compose(hook, messages, time_to_send)
        for each in notifications:
            try:
                if each.draft is not None:
                    each.omnimessage_id = hook.post(each.draft).omnimessage_id
            except Exception as error:
                # the other recipients must still be notified
                each.error = error
        self.report(notifications)
        return [each.omnimessage_id for each in notifications if each.omnimessage_id]

    def report(self, notifications: Sequence[Notification]) -> None:
        """Count and log every outcome; raise if nobody was notified, or anybody was not in a deadline's callback."""
        tags = event_tags(self.context)
        self.notified.update(each.to for each in notifications if each.may_be_sent)
        for each in notifications:
            if each.error is None:
                metrics.count("scheduled" if each.time_to_send else "sent", tags)
                when = f"Scheduled for {each.time_to_send}" if each.time_to_send else "Sent"
                self.log.info("%s to %s: omnimessage_id %s", when, mask_number(each.to), each.omnimessage_id)
            elif len(notifications) > 1:
                self.log.error(
                    "%s was not notified: %s", mask_number(each.to) if each.to else "A recipient", each.error
                )
        errors = [each.error for each in notifications if each.error is not None]
        if errors and (len(errors) == len(notifications) or "deadline" in self.context):
            # one that may have been sent decides whether all of them are repeated
            raise next((error for error in errors if getattr(error, "maybe_processed", False)), errors[0])


@dataclass(frozen=True)
class EventCourier:
    """Sends, schedules and cancels for the deduplication of an event.

    :param messages: the event's own messages.
    :param escalate: as :func:`~airflow_provider_omnimessage.alerts.steps.plan_escalation` returns it, rendered.
    """

    sender: EventSender
    hook: OmnimessageHook
    messages: Sequence[Any]
    escalate: Sequence[Mapping[str, Any]] = ()

    def send(self) -> None:
        """Send the event's own messages."""
        self.sender.post(self.hook, self.messages, None)

    def send_text(self, text: str) -> None:
        """Send a text on the channels of the event's own messages."""
        self.sender.post(self.hook, with_text(self.messages, text), None)

    def schedule_text(self, text: str, at: datetime) -> list[str]:
        """Schedule a text, and return the ids."""
        return self._scheduler.post(self.hook, with_text(self.messages, text), self.hook.resolve_time_to_send(at))

    @property
    def has_notified(self) -> bool:
        """Whether anybody was, or may have been, notified of the event itself."""
        return bool(self.sender.notified)

    @property
    def has_steps(self) -> bool:
        """Whether there is an escalation."""
        return bool(self.escalate)

    def schedule_steps(self, now: datetime, done: frozenset[int]) -> Iterator[tuple[int, str, datetime]]:
        """Schedule the steps of the escalation, and yield the number, the id and the time of each.

        :param done: numbers of those that are scheduled already.
        """
        for notice in notices(self.sender.to, self.messages, self.escalate)[1:]:
            if notice.number in done:
                continue
            at = self.hook.resolve_time_to_send(now + notice.after)
            try:
                ids = replace(self._scheduler, to=notice.to).post(self.hook, notice.messages, at)
            except Exception as error:
                # the other steps stay scheduled
                self.sender.log.error("The %s is not scheduled: %s", notice, error)
            else:
                yield from ((notice.number, omnimessage_id, at.utc) for omnimessage_id in ids)

    def in_zone(self, time: datetime) -> str:
        """Return a time in words, in the connection's time zone."""
        local = self.hook.resolve_time_to_send(time).local
        return f"{local:%Y-%m-%d %H:%M %Z}"

    def cancel(self, omnimessage_id: str, at: datetime) -> None:
        """Cancel a message that is scheduled."""
        cancellation = self.hook.try_to_cancel(omnimessage_id, at)
        if cancellation.result is CancelResult.CANCELLED:
            metrics.count("cancelled", event_tags(self.sender.context))
        self.sender.log.info("%s %s", omnimessage_id, cancellation)

    @property
    def _scheduler(self) -> EventSender:
        # in a deadline's callback, one wrong recipient is an error, and the ids of the others would be lost
        context = {name: value for name, value in self.sender.context.items() if name != "deadline"}
        return replace(self.sender, context=context, notified=set())
