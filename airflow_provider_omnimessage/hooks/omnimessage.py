"""The hook: an Airflow connection of type ``omnimessage``, and the API's calls made with it."""

from __future__ import annotations

import random
import time
from datetime import datetime, timedelta, timezone
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_omnimessage._compat import BaseHook
from airflow_provider_omnimessage.api.errors import AuthenticationError, NotCancelledError, OmnimessageError
from airflow_provider_omnimessage.hooks.budget import Budget

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from airflow_provider_omnimessage.api.calls import Accepted, Call, NotAccepted
    from airflow_provider_omnimessage.api.delivery import Cancellation, DeliveryReport
    from airflow_provider_omnimessage.api.timing import TimeToSend
    from airflow_provider_omnimessage.api.windows import SendWindow
    from airflow_provider_omnimessage.hooks.requests_transport import RequestsTransport
    from airflow_provider_omnimessage.hooks.rescheduling import Order, Rescheduled
    from airflow_provider_omnimessage.hooks.settings import Settings

T = TypeVar("T")

#: Messages that are posted at a time from an event loop, at most.
_SIDE_BY_SIDE = 16

#: How often a message is cancelled, at most, while it stays open whether it is cancelled.
CANCEL_ATTEMPTS = 4


class OmnimessageHook(BaseHook):
    """
    Talk to Messente's Omnichannel API with the credentials of an Airflow connection.

    The connection's login is the API username, its password the API password, its host the base URL (default
    ``https://api.messente.com/v1``). Its extra may hold defaults for every message: ``sender``, ``timezone``,
    ``dlr_url``, ``text_store``, ``priority``; ``timeout``, the seconds to wait for an answer (default 30);
    ``deadline``, the seconds that a call may take in all, its repeats included (default 120); and ``dashboard_url``,
    to which the tasks' link leads.

    GET and DELETE are repeated on connection errors, timeouts, 429 and 5xx; POST only where it surely was not
    processed: no connection, or 429. Between attempts it waits with exponential backoff, full jitter and Messente's
    ``Retry-After``; each repeat is logged. No redirect is followed. The HTTP session is pooled and opened with the
    first call; use the hook in a ``with`` statement, or :meth:`close` it, where many hooks come and go.

    :param omnimessage_conn_id: the Airflow connection.
    """

    conn_name_attr = "omnimessage_conn_id"
    default_conn_name = "omnimessage_default"
    conn_type = "omnimessage"
    hook_name = "Messente Omnimessage"

    # Airflow looks for these two in the class itself, and asks for them before version 3.2 only.
    @staticmethod
    def get_connection_form_widgets() -> dict[str, Any]:
        """Draw the connection form's fields of its own, for Airflow 2.11 to 3.1."""
        from airflow_provider_omnimessage.hooks.form import connection_form_widgets

        return connection_form_widgets()

    @staticmethod
    def get_ui_field_behaviour() -> dict[str, Any]:
        """Hide, name and explain the connection form's standard fields, for Airflow 2.11 to 3.1."""
        from airflow_provider_omnimessage.hooks.form import ui_field_behaviour

        return ui_field_behaviour()

    def __init__(self, omnimessage_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.omnimessage_conn_id = omnimessage_conn_id
        self._unanswered: Call[Any] | None = None
        self._budget = Budget()

    def __enter__(self) -> OmnimessageHook:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @cached_property
    def settings(self) -> Settings:
        """
        What the connection says.

        :raises InvalidInputError: names the connection, the refused field and what would be accepted.
        """
        from airflow_provider_omnimessage.hooks.settings import Settings

        return Settings.read(self.get_connection(self.omnimessage_conn_id))

    def get_conn(self) -> RequestsTransport:
        """Return the transport: one pooled session with the connection's credentials."""
        return self._transport

    @cached_property
    def _transport(self) -> RequestsTransport:
        from airflow_provider_omnimessage.hooks.requests_transport import RequestsTransport

        return RequestsTransport(self.settings)

    def close(self) -> None:
        """Close the session. The next call opens a new one."""
        transport = self.__dict__.pop("_transport", None)
        if transport is not None:
            self._unanswered = transport.unanswered
            transport.close()

    def within(self, seconds: float) -> AbstractContextManager[None]:
        """
        Limit the time of every call inside a ``with`` block, repeats and pauses included.

        The timeout of each request is bounded by what is left, and a pause that would end too late is not begun: the
        call then raises the error of its last attempt. A call that would begin too late is not made. Limits may be
        nested; the earliest end counts. They hold in all threads that use this hook.

        Example::

            with hook.within(30):
                for omnimessage_id in ids:
                    hook.try_to_cancel(omnimessage_id)

        :param seconds: from now.
        :raises DeadlineExceededError: by a call, if no time is left; nothing was sent.
        """
        return self._budget.within(seconds)

    @property
    def seconds_left(self) -> float | None:
        """Seconds left of the time that :meth:`within` set; ``None`` if it set none."""
        return self._budget.remaining()

    def resolve_time_to_send(self, value: Any, *, timezone: str | None = None) -> TimeToSend:
        """
        Turn any accepted way to say when into one UTC moment; log what a clock change does to it.

        :param value: an ISO 8601 date and time, a datetime, or a timedelta from now.
        :param timezone: IANA name for a value without an offset; default: the connection's, else UTC.
        :raises InvalidInputError: where it does not say when.
        """
        from airflow_provider_omnimessage.api import timing

        moment = timing.resolve(value, zone=timezone or self.settings.timezone, now=_now())
        if moment.warning:
            self.log.warning(moment.warning)
        return moment

    def send(
        self,
        to: Any,
        messages: Any,
        *,
        time_to_send: str | datetime | timedelta | TimeToSend | None = None,
        timezone: str | None = None,
        window: SendWindow | str | None = None,
        on_unknown_zone: str = "fail",
        dlr_url: str | None = None,
        text_store: str | None = None,
        priority: str | None = None,
    ) -> Accepted:
        """
        Send a message, or schedule it: ``POST /omnimessage``. What is left out, the connection may say.

        :param to: the recipient in E.164.
        :param messages: one per channel at most, in the order in which they are tried.
        :param time_to_send: when, as :meth:`resolve_time_to_send` takes it, or what that returned; ``None``: now.
        :param timezone: IANA name for a ``time_to_send`` without an offset, or ``"recipient"``; default: the
            connection's, else UTC.
        :param window: when it may be sent; outside of it, it is scheduled for the next time in it. Default: the
            connection's. A ``time_to_send`` that was resolved before ignores both.
        :param on_unknown_zone: if the recipient's zone counts and is unknown: ``"fail"``, or the IANA name to use.
        :param dlr_url: where Messente posts delivery reports; default: the connection's.
        :param text_store: ``plaintext``, ``sha256`` or ``nostore``; default: the connection's, else the account's.
        :param priority: ``low``, ``regular`` or ``high``; default: the connection's, else regular.
        :raises InvalidInputError: where it cannot be sent; nothing was.
        :raises PastTimeToSendError: where the moment has gone by; nothing was sent. What was resolved before is not
            asked again: its age has then been judged.
        :raises NotSentError: where Messente was not reached.
        :raises LostResponseError: where it may have been accepted, but nobody can tell.
        :raises ApiError: where Messente answered, and not with success.
        """
        return self._post_prepared(
            *self._prepare(
                to,
                messages,
                time_to_send=time_to_send,
                timezone=timezone,
                window=window,
                on_unknown_zone=on_unknown_zone,
                dlr_url=dlr_url,
                text_store=text_store,
                priority=priority,
            )
        )

    def _prepare(
        self,
        to: Any,
        messages: Any,
        *,
        time_to_send: str | datetime | timedelta | TimeToSend | None = None,
        timezone: str | None = None,
        window: SendWindow | str | None = None,
        on_unknown_zone: str = "fail",
        dlr_url: str | None = None,
        text_store: str | None = None,
        priority: str | None = None,
    ) -> tuple[dict[str, Any], TimeToSend | None]:
        """Return the body without its time, and its time, both checked."""
        from airflow_provider_omnimessage.api.number_zones import require_possible
        from airflow_provider_omnimessage.api.timing import TimeToSend
        from airflow_provider_omnimessage.hooks.choosing import choose_time, rules_of

        draft = self.compose(to, messages, dlr_url=dlr_url, text_store=text_store, priority=priority)
        require_possible(draft["to"])
        chosen: TimeToSend | None
        if isinstance(time_to_send, TimeToSend):
            chosen = time_to_send
        else:
            rules = rules_of(
                self.settings,
                time_to_send=time_to_send,
                timezone=timezone,
                window=window,
                on_unknown_zone=on_unknown_zone,
            )
            chosen = choose_time(rules, draft["to"], self.log).chosen
            if chosen is not None:
                require_future(chosen)
        return draft, chosen

    def _post_prepared(self, draft: dict[str, Any], chosen: TimeToSend | None) -> Accepted:
        from airflow_provider_omnimessage.api.timing import as_time_to_send

        return self.post({**draft, "time_to_send": as_time_to_send(chosen.utc)} if chosen else draft)

    def reschedule(
        self, omnimessage_id: str, to: Any, messages: Any, *, order: Order = "cancel_first", **options: Any
    ) -> Rescheduled[Accepted]:
        """
        Replace a scheduled message by another one: ``DELETE`` and ``POST``.

        Everything is checked before the first request.

        :param omnimessage_id: the message to replace.
        :param to: as :meth:`send` takes it; ``messages`` too.
        :param order: ``"cancel_first"``: never two messages. ``"schedule_first"``: never none.
        :param options: what else :meth:`send` takes.
        :return: the new message, and the outcome of the cancel. If it is too late, ``is_too_late`` is true.
        :raises OmnimessageError: if a request failed. The log says which message is scheduled.
        """
        from airflow_provider_omnimessage.api.calls import checked_id
        from airflow_provider_omnimessage.api.fields import choice, require
        from airflow_provider_omnimessage.hooks.rescheduling import ORDERS, reschedule

        require("order", order, choice(*ORDERS), rendered=True)
        draft, chosen = self._prepare(to, messages, **options)
        return reschedule(
            order,
            checked_id(omnimessage_id),
            cancel=self.try_to_cancel,
            post=lambda: self._post_prepared(draft, chosen),
            id_of=lambda accepted: accepted.omnimessage_id,
            log=self.log,
        )

    def compose(
        self,
        to: Any,
        messages: Any,
        *,
        time_to_send: datetime | None = None,
        dlr_url: str | None = None,
        text_store: str | None = None,
        priority: str | None = None,
    ) -> dict[str, Any]:
        """
        Build what :meth:`send` posts, and post nothing. What is left out, the connection may say.

        :param to: the recipient in E.164.
        :param messages: one per channel at most, in the order in which they are tried.
        :param time_to_send: when, with a zone; ``None``: now.
        :param dlr_url: where Messente posts delivery reports; default: the connection's.
        :param text_store: ``plaintext``, ``sha256`` or ``nostore``; default: the connection's, else the account's.
        :param priority: ``low``, ``regular`` or ``high``; default: the connection's, else regular.
        :raises InvalidInputError: where it cannot be sent.
        """
        from airflow_provider_omnimessage.api.messages import omnimessage

        settings = self.settings
        return omnimessage(
            to,
            messages,
            time_to_send=time_to_send,
            dlr_url=dlr_url or settings.dlr_url,
            text_store=text_store or settings.text_store,
            priority=priority or settings.priority,
            sender=settings.sender,
        )

    def post(self, omnimessage: dict[str, Any]) -> Accepted:
        """
        Post what :meth:`compose` built: ``POST /omnimessage``.

        :param omnimessage: the whole body.
        :raises OmnimessageError: as :meth:`send` does.
        """
        from airflow_provider_omnimessage.api import calls

        return self._make(calls.send(omnimessage))

    async def look_up_connection(self) -> Settings:
        """
        Read the connection without blocking the event loop; after that, what asks for :attr:`settings` has them.

        :raises InvalidInputError: as :attr:`settings` does.
        """
        from asgiref.sync import sync_to_async

        from airflow_provider_omnimessage._compat import connection_of
        from airflow_provider_omnimessage.hooks.settings import Settings

        if "settings" not in self.__dict__:
            connection = await connection_of(self.omnimessage_conn_id)
            # reading the extra masks it in the logs, for which Airflow may wait for its supervisor: not on this loop
            self.__dict__["settings"] = await sync_to_async(Settings.read)(connection)
        return self.settings

    async def post_all(self, omnimessages: Sequence[dict[str, Any]]) -> list[Accepted | BaseException]:
        """
        Post what :meth:`compose` built, side by side and without blocking the event loop; repeated as :meth:`post` is.

        :param omnimessages: whole bodies. :meth:`look_up_connection` comes first.
        :return: in their order, what was accepted, or the error that :meth:`post` would have raised.
        """
        import asyncio

        from airflow_provider_omnimessage.api import calls
        from airflow_provider_omnimessage.hooks.aiohttp_transport import AiohttpTransport
        from airflow_provider_omnimessage.hooks.repeating import repeat_async

        transport = await AiohttpTransport.open(self.settings, connections=_SIDE_BY_SIDE)
        try:
            posting = [
                repeat_async(
                    calls.send(omnimessage),
                    transport,
                    self._budget.end_of_call(self.settings.deadline),
                    self._report_repeat,
                )
                for omnimessage in omnimessages
            ]
            return list(await asyncio.gather(*posting, return_exceptions=True))
        finally:
            await transport.close()

    def post_bulk(
        self, omnimessages: Sequence[dict[str, Any] | bytes] | Callable[[], Sequence[bytes]]
    ) -> list[Accepted | NotAccepted]:
        """
        Post up to 1,000 messages that :meth:`compose` built in one call: ``POST /omnimessages``.

        Each is accepted or rejected on its own. The result has an entry for each message, in order.

        :param omnimessages: the whole bodies, or their JSON. A function is called before each attempt and returns the
            JSON: a call that is rate limited may wait for minutes. What it raises ends the call.
        :raises InvalidInputError: for none, or more than 1,000.
        :raises OmnimessageError: as :meth:`send` does, for all of them.
        """
        from airflow_provider_omnimessage.api import calls
        from airflow_provider_omnimessage.api.bulk import MOST_IN_A_CALL, BulkCall
        from airflow_provider_omnimessage.api.errors import InvalidInputError

        if callable(omnimessages):
            return self._make(BulkCall.of(omnimessages))
        if not 1 <= len(omnimessages) <= MOST_IN_A_CALL:
            raise InvalidInputError.of(
                "omnimessages",
                f"a list of {len(omnimessages):,} is not accepted; pass 1 to {MOST_IN_A_CALL:,} messages",
            )
        return self._make(calls.send_bulk(omnimessages))

    def cancel(self, omnimessage_id: str, time_to_send: datetime | TimeToSend | None = None) -> None:
        """
        Cancel a message that is still scheduled: ``DELETE /omnimessage/{omnimessage_id}``.

        It also succeeds if the message was cancelled before.

        :param omnimessage_id: the id that :meth:`send` returned.
        :param time_to_send: the message's time, default: not known; see :meth:`try_to_cancel`.
        :raises NotFoundError: if the message was sent already, or is unknown; the error says which.
        :raises OmnimessageError: as :meth:`try_to_cancel` does.
        """
        from airflow_provider_omnimessage.api.errors import NotFoundError

        cancellation = self.try_to_cancel(omnimessage_id, time_to_send)
        if not cancellation.is_cancelled:
            raise NotFoundError(f"cancel: {omnimessage_id} {cancellation}", status_code=404)

    def try_to_cancel(self, omnimessage_id: str, time_to_send: datetime | TimeToSend | None = None) -> Cancellation:
        """
        Cancel a message if it is still scheduled, and return the outcome.

        Messente answers 404 if the message was cancelled before, was sent, or is unknown; the delivery report tells
        which. If that leaves it open whether the message is cancelled, the cancel is repeated a few times.

        :param omnimessage_id: the id that :meth:`send` returned.
        :param time_to_send: the message's time, with a zone; default: not known. Pass it if you know it: a message in
            progress was sent if its time has passed, and is not cancelled if it has not. Without it, that stays open.
        :raises NotCancelledError: if Messente does not cancel the message, and does not show that it was sent.
        :raises OmnimessageError: if a request failed. The message may still be scheduled.
        """
        from airflow_provider_omnimessage.api import backoff

        due = time_to_send if isinstance(time_to_send, datetime) or time_to_send is None else time_to_send.utc
        end = self._budget.end_of_call(self.settings.deadline)
        attempt = 0
        while True:
            attempt += 1
            found = self._cancel_once(omnimessage_id, None if due is None else _now() < due)
            if not isinstance(found, OmnimessageError):
                return found
            seconds = backoff.pause(found, attempt, random.random())
            if attempt == CANCEL_ATTEMPTS or time.monotonic() + seconds >= end:
                raise found
            self.log.warning("%s. Attempt %d; cancelling again in %.1f s", found, attempt, seconds)
            time.sleep(seconds)

    def _cancel_once(self, omnimessage_id: str, before_time: bool | None) -> Cancellation | OmnimessageError:
        """Return the outcome of a cancel, or the error to raise if it stays open."""
        from airflow_provider_omnimessage.api import calls, cancelling
        from airflow_provider_omnimessage.api.delivery import Cancellation, CancelResult, DeliveryReport

        errors: list[OmnimessageError] = []
        try:
            self._make(calls.cancel(omnimessage_id), errors)
            return Cancellation(CancelResult.CANCELLED)
        except OmnimessageError as error:
            errors.append(error)
        deletion = cancelling.read_deletion(errors)
        if deletion is None:
            raise errors[-1]
        report: DeliveryReport | OmnimessageError
        try:
            report = self.get_delivery_report(omnimessage_id)
        except AuthenticationError:
            raise
        except OmnimessageError as error:
            report = error
        finding = cancelling.read_finding(report)
        in_doubt = any(error.maybe_processed for error in errors)
        result = cancelling.decide(deletion, finding, before_time=before_time, earlier_in_doubt=in_doubt)
        if result is CancelResult.CANCELLED:
            self.log.info("%s is cancelled, although a response was lost", omnimessage_id)
        if result is not None:
            return Cancellation(result, report if isinstance(report, DeliveryReport) else None)
        if deletion is not cancelling.Deletion.NOT_FOUND:
            return errors[-1]
        if isinstance(report, OmnimessageError):
            return report
        return NotCancelledError.of(omnimessage_id, str(report))

    def get_delivery_report(self, omnimessage_id: str) -> DeliveryReport:
        """
        Ask how far a message has come: ``GET /omnimessage/{omnimessage_id}/status``.

        :param omnimessage_id: what :meth:`send` returned.
        :raises NotFoundError: where there is no such message, or it is not yours.
        :raises OmnimessageError: as :meth:`send` does.
        """
        from airflow_provider_omnimessage.api import calls

        return self._make(calls.delivery_report(omnimessage_id))

    def test_connection(self) -> tuple[bool, str]:
        """Check address and credentials by asking, once, for a message that nobody has; it never sends one."""
        from airflow_provider_omnimessage.hooks.form import check_connection

        return check_connection(self)

    @property
    def unanswered_call(self) -> str | None:
        """Name and method of the call that may be at Messente, without an answer: it is awaited, or was interrupted."""
        transport = self.__dict__.get("_transport")
        call = transport.unanswered if transport is not None else self._unanswered
        return f"'{call.name}' ({call.method})" if call is not None else None

    def _make(self, call: Call[T], failures: list[OmnimessageError] | None = None) -> T:
        from airflow_provider_omnimessage.hooks.repeating import repeat

        def on_repeat(call: Call[Any], error: OmnimessageError, attempt: int, seconds: float) -> None:
            self._report_repeat(call, error, attempt, seconds)
            if failures is not None:
                failures.append(error)

        return repeat(call, self.get_conn(), self._budget.end_of_call(self.settings.deadline), on_repeat)

    def _report_repeat(self, call: Call[Any], error: OmnimessageError, attempt: int, seconds: float) -> None:
        from airflow_provider_omnimessage import metrics

        self.log.warning("%s. That was attempt %d; the next is in %.1f s", error, attempt, seconds)
        metrics.count("retried", {"call": call.name.replace(" ", "_")})


def require_future(moment: TimeToSend) -> None:
    """
    Demand a moment that is still to come: Messente would send at once what is scheduled for the past.

    :param moment: when the message is to be sent.
    :raises PastTimeToSendError: where it has gone by.
    """
    from airflow_provider_omnimessage.api.errors import PastTimeToSendError

    late = _now() - moment.utc
    if late > timedelta(0):
        raise PastTimeToSendError.of(
            "time_to_send",
            f"{moment} has gone by ({_in_words(late)} ago); give a moment to come, or say with on_past what to do then",
        )


def _now() -> datetime:
    return datetime.now(timezone.utc)


def _in_words(span: timedelta) -> str:
    import pendulum

    seconds = max(1, int(span.total_seconds()))
    # a backfill's moment is weeks old: nobody reads the seconds of those
    for unit in (86400, 3600, 60):
        if seconds >= 2 * unit:
            seconds -= seconds % unit
            break
    return pendulum.duration(seconds=seconds).in_words(locale="en")
