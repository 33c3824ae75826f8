"""The hook: makes the API's calls with an Airflow connection of type ``omnimessage``."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_omnimessage._compat import BaseHook
from airflow_provider_omnimessage.api.errors import InvalidInputError, NotFoundError, OmnimessageError
from airflow_provider_omnimessage.hooks.budget import Budget

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from airflow_provider_omnimessage.api.calls import Call
    from airflow_provider_omnimessage.api.cancel_result import Cancellation
    from airflow_provider_omnimessage.api.delivery import DeliveryReport
    from airflow_provider_omnimessage.api.responses import Accepted, NotAccepted
    from airflow_provider_omnimessage.api.timing import TimeToSend
    from airflow_provider_omnimessage.api.types import Messages, Priority, Text, TextStore
    from airflow_provider_omnimessage.api.windows import SendWindow
    from airflow_provider_omnimessage.hooks.requests_transport import RequestsTransport
    from airflow_provider_omnimessage.hooks.rescheduling import Order, Rescheduled
    from airflow_provider_omnimessage.hooks.settings import Settings

T = TypeVar("T")

#: Messages that an event loop posts at a time, at most.
_IN_FLIGHT = 16


class OmnimessageHook(BaseHook):
    """
    Send, schedule, cancel and follow messages through Messente's Omnichannel API.

    The connection's login is the API username, its password the API password, its host the base URL (default:
    ``https://api.messente.com/v1``). Its extra can set defaults for every message (``sender``, ``timezone``,
    ``dlr_url``, ``text_store``, ``priority``), ``timeout``, the seconds to wait for a response (default: 30),
    ``deadline``, the seconds for a call including its repeats (default: 120), ``rate_limit`` and ``dashboard_url``.

    GET and DELETE are repeated on connection errors, timeouts, 429 and 5xx; POST only if it surely was not processed
    (no connection, or 429). The pauses between attempts grow exponentially, with full jitter and Messente's
    ``Retry-After``; each repeat is logged. Redirects are not followed. If Airflow retries your task, it posts again.

    The first call opens a pooled HTTP session. Use the hook in a ``with`` statement, or :meth:`close` it::

        with OmnimessageHook() as hook:
            accepted = hook.send("+37255555555", [sms("Hello")], time_to_send=timedelta(hours=1))
            hook.cancel(accepted.omnimessage_id)

    :param omnimessage_conn_id: the Airflow connection.
    """

    conn_name_attr = "omnimessage_conn_id"
    default_conn_name = "omnimessage_default"
    conn_type = "omnimessage"
    hook_name = "Messente Omnimessage"

    # Airflow looks for these two in the class itself, and only before version 3.2.
    @staticmethod
    def get_connection_form_widgets() -> dict[str, object]:
        """Return the connection form's own fields, for Airflow 2.11 to 3.1."""
        from airflow_provider_omnimessage.hooks.form import connection_form_widgets

        return connection_form_widgets()

    @staticmethod
    def get_ui_field_behaviour() -> dict[str, object]:
        """Return how the connection form shows the standard fields, for Airflow 2.11 to 3.1."""
        from airflow_provider_omnimessage.hooks.form import ui_field_behaviour

        return ui_field_behaviour()

    def __init__(self, omnimessage_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.omnimessage_conn_id = omnimessage_conn_id
        self._budget = Budget()
        self._settings: Settings | None = None
        self._transport: RequestsTransport | None = None
        self._unanswered: Call[Any] | None = None

    def __enter__(self) -> OmnimessageHook:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def settings(self) -> Settings:
        """
        The connection's fields. The connection is looked up once.

        :raises InvalidInputError: with the connection, the invalid field and what would be accepted.
        """
        if self._settings is None:
            from airflow_provider_omnimessage.hooks.settings import Settings

            self._settings = Settings.read(self.get_connection(self.omnimessage_conn_id))
        return self._settings

    async def look_up_connection(self) -> Settings:
        """
        Look up the connection without blocking the event loop, and return its :attr:`settings`.

        :raises InvalidInputError: as :attr:`settings` does.
        """
        if self._settings is None:
            from airflow_provider_omnimessage.hooks.lookup import look_up_settings

            self._settings = await look_up_settings(self.omnimessage_conn_id)
        return self._settings

    def get_conn(self) -> RequestsTransport:
        """Return the transport: one pooled session with the connection's credentials."""
        if self._transport is None:
            from airflow_provider_omnimessage.hooks.requests_transport import RequestsTransport

            self._transport = RequestsTransport(self.settings)
        return self._transport

    def close(self) -> None:
        """Close the session. The next call opens a new one."""
        transport, self._transport = self._transport, None
        if transport is not None:
            self._unanswered = transport.unanswered
            transport.close()

    def within(self, seconds: float) -> AbstractContextManager[None]:
        """
        Limit the time of every call inside a ``with`` block, including repeats and pauses.

        No request times out later than the limit. A pause that would end too late is not started: the call raises the
        error of its last attempt instead. A call that would start too late is not made. Limits can be nested; the
        earliest end counts. They apply to all threads that use this hook.

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

    def resolve_time_to_send(self, value: object, *, timezone: str | None = None) -> TimeToSend:
        """
        Return the time that a value stands for, and log a warning if a clock change affects it.

        :param value: an ISO 8601 date and time, a datetime, or a timedelta from now.
        :param timezone: IANA name for a value without an offset; default: the connection's, else UTC.
        :raises InvalidInputError: if it is not a time.
        """
        from airflow_provider_omnimessage.api import timing
        from airflow_provider_omnimessage.hooks.choosing import current_time

        resolved = timing.resolve(value, zone=timezone or self.settings.timezone, now=current_time())
        if resolved.warning:
            self.log.warning(resolved.warning)
        return resolved

    def send(
        self,
        to: str,
        messages: Messages,
        *,
        time_to_send: str | datetime | timedelta | TimeToSend | None = None,
        timezone: str | None = None,
        window: SendWindow | str | None = None,
        on_unknown_zone: str = "fail",
        dlr_url: str | None = None,
        text_store: TextStore | None = None,
        priority: Priority | None = None,
    ) -> Accepted:
        """
        Send or schedule a message: ``POST /omnimessage``.

        :param to: the recipient in E.164 format.
        :param messages: at most one for each channel, in the order in which the channels are tried.
        :param time_to_send: any value that :meth:`resolve_time_to_send` accepts or returns; ``None``: now.
        :param timezone: IANA name for a local time, or ``"recipient"``; default: the connection's, else UTC.
        :param window: outside of it, the message is scheduled for the next time in it. Default: the connection's. A
            ``time_to_send`` that was resolved before ignores both.
        :param on_unknown_zone: if the recipient's zone counts and is unknown: ``"fail"`` (UnknownZoneError), or a zone.
        :param dlr_url: where Messente posts delivery reports; default: the connection's.
        :param text_store: how Messente keeps the text; default: the connection's, else the account's.
        :param priority: default: the connection's, else regular.
        :raises InvalidInputError: if the message is invalid; nothing was sent.
        :raises PastTimeToSendError: if the time is in the past; nothing was sent. A resolved time is not checked again.
        :raises NotSentError: if Messente was not reached.
        :raises LostResponseError: if it is unknown whether Messente accepted the message.
        :raises ApiError: if Messente responded with an error.
        """
        from airflow_provider_omnimessage.hooks.choosing import prepare

        return self.post(
            prepare(
                self,
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

    def reschedule(
        self, omnimessage_id: str, to: Any, messages: Any, *, order: Order = "cancel_first", **options: Any
    ) -> Rescheduled[Accepted]:
        """
        Replace a scheduled message: ``DELETE`` and ``POST``. Too late is no error: see the result's ``is_too_late``.

        :param omnimessage_id: the message to replace.
        :param to: as :meth:`send` takes it; ``messages`` too.
        :param order: ``"cancel_first"``: never two messages. ``"schedule_first"``: never none.
        :param options: what else :meth:`send` takes.
        :raises OmnimessageError: if a request failed. The log says which message is scheduled.
        """
        from airflow_provider_omnimessage.hooks.rescheduling import reschedule_with

        return reschedule_with(self, omnimessage_id, to, messages, order=order, options=options)

    def compose(
        self,
        to: Text,
        messages: Messages,
        *,
        time_to_send: datetime | None = None,
        dlr_url: str | None = None,
        text_store: TextStore | None = None,
        priority: Priority | None = None,
    ) -> dict[str, Any]:
        """
        Build the body that :meth:`send` posts, and post nothing. Parameters: as of :meth:`send`.

        :param time_to_send: with a zone; ``None``: now.
        :raises InvalidInputError: if the message is invalid.
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
        Post a body that :meth:`compose` built: ``POST /omnimessage``.

        :raises OmnimessageError: as :meth:`send` does.
        """
        from airflow_provider_omnimessage.api import calls

        return self._make(calls.send(omnimessage))

    async def post_all(self, omnimessages: Sequence[dict[str, Any]]) -> list[Accepted | BaseException]:
        """
        Post bodies that :meth:`compose` built, a few at a time, without blocking the event loop.

        Each is repeated as by :meth:`post`.

        :return: in order, the accepted message, or the error that :meth:`post` would have raised.
        """
        import asyncio

        from airflow_provider_omnimessage.api import calls
        from airflow_provider_omnimessage.hooks.aiohttp_transport import AiohttpTransport
        from airflow_provider_omnimessage.hooks.repeating import repeat_async

        settings = await self.look_up_connection()
        transport = await AiohttpTransport.open(settings, connections=_IN_FLIGHT)
        try:
            posting = [
                repeat_async(
                    calls.send(omnimessage),
                    transport,
                    self._budget.end_of_call(settings.deadline),
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
        :raises InvalidInputError: unless there are 1 to 1,000.
        :raises OmnimessageError: as :meth:`send` does, for all of them.
        """
        from airflow_provider_omnimessage.api import calls
        from airflow_provider_omnimessage.api.bulk import MOST_IN_A_CALL, BulkCall

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
        :param time_to_send: the message's time; default: unknown; see :meth:`try_to_cancel`.
        :raises NotFoundError: if the message was sent already, or is unknown; the error says which.
        :raises OmnimessageError: as :meth:`try_to_cancel` does.
        """
        cancellation = self.try_to_cancel(omnimessage_id, time_to_send)
        if not cancellation.is_cancelled:
            raise NotFoundError(f"cancel: {omnimessage_id} {cancellation}", status_code=404)

    def try_to_cancel(self, omnimessage_id: str, time_to_send: datetime | TimeToSend | None = None) -> Cancellation:
        """
        Cancel a message if it is still scheduled, and return the outcome.

        Messente responds with 404 if the message was cancelled before, was sent, or is unknown; the delivery report
        shows which. If it stays unknown whether the message is cancelled, the cancel is repeated a few times.

        :param omnimessage_id: the id that :meth:`send` returned.
        :param time_to_send: the message's time, with a zone; default: unknown. Pass it if you can: a message in
            progress was sent if its time has passed, and is not cancelled if it has not.
        :raises NotCancelledError: if Messente does not cancel the message, and does not show that it was sent.
        :raises OmnimessageError: if a request failed. The message may still be scheduled.
        """
        from airflow_provider_omnimessage.hooks.cancelling import try_to_cancel

        due = time_to_send if isinstance(time_to_send, datetime) or time_to_send is None else time_to_send.utc
        end = self._budget.end_of_call(self.settings.deadline)
        return try_to_cancel(self._make, omnimessage_id, due=due, end=end, log=self.log)

    def get_delivery_report(self, omnimessage_id: str) -> DeliveryReport:
        """
        Return a message's delivery report: ``GET /omnimessage/{omnimessage_id}/status``.

        :param omnimessage_id: the id that :meth:`send` returned.
        :raises NotFoundError: if the message is unknown, or belongs to another account.
        :raises OmnimessageError: as :meth:`send` does.
        """
        from airflow_provider_omnimessage.api import calls

        return self._make(calls.delivery_report(omnimessage_id))

    def test_connection(self) -> tuple[bool, str]:
        """Check the base URL and the credentials, with one request for a message that does not exist."""
        from airflow_provider_omnimessage.hooks.form import check_connection

        return check_connection(self)

    @property
    def unanswered_call(self) -> str | None:
        """Name and method of a call that may have reached Messente, but has no response: in flight, or interrupted."""
        call = self._transport.unanswered if self._transport is not None else self._unanswered
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

        self.log.warning("%s. Attempt %d; repeating in %.1f s", error, attempt, seconds)
        metrics.count("retried", {"call": call.name.replace(" ", "_")})
