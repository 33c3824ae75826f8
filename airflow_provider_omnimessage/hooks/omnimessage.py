"""The hook: an Airflow connection of type ``omnimessage``, and the API's calls made with it."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_omnimessage._compat import BaseHook

if TYPE_CHECKING:
    from airflow_provider_omnimessage.api.calls import Accepted, Call
    from airflow_provider_omnimessage.api.delivery import DeliveryReport
    from airflow_provider_omnimessage.api.timing import TimeToSend
    from airflow_provider_omnimessage.hooks.settings import Settings
    from airflow_provider_omnimessage.hooks.transport import RequestsTransport

T = TypeVar("T")


class OmnimessageHook(BaseHook):
    """
    Talk to Messente's Omnichannel API with the credentials of an Airflow connection.

    The connection's login is the API username, its password the API password, its host the base URL (default
    ``https://api.messente.com/v1``). Its extra may hold defaults for every message: ``sender``, ``timezone``,
    ``dlr_url``, ``text_store``, ``priority``; ``timeout``, the seconds to wait for an answer (default 30); and
    ``dashboard_url``, to which the tasks' link leads.

    A call is made once: nothing is repeated, and no redirect is followed. The HTTP session is pooled and opened with
    the first call; use the hook in a ``with`` statement, or :meth:`close` it, where many hooks come and go.

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
        from airflow_provider_omnimessage.hooks.transport import RequestsTransport

        return RequestsTransport(self.settings)

    def close(self) -> None:
        """Close the session. The next call opens a new one."""
        transport = self.__dict__.pop("_transport", None)
        if transport is not None:
            transport.close()

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
        dlr_url: str | None = None,
        text_store: str | None = None,
        priority: str | None = None,
    ) -> Accepted:
        """
        Send a message, or schedule it: ``POST /omnimessage``. What is left out, the connection may say.

        :param to: the recipient in E.164.
        :param messages: one per channel at most, in the order in which they are tried.
        :param time_to_send: when, as :meth:`resolve_time_to_send` takes it, or what that returned; ``None``: now.
        :param timezone: IANA name for a ``time_to_send`` without an offset.
        :param dlr_url: where Messente posts delivery reports.
        :param text_store: ``plaintext``, ``sha256`` or ``nostore``.
        :param priority: ``low``, ``regular`` or ``high``.
        :raises InvalidInputError: where it cannot be sent; nothing was.
        :raises PastTimeToSendError: where the moment has gone by; nothing was sent. What was resolved before is not
            asked again: its age has then been judged.
        :raises NotSentError: where Messente was not reached.
        :raises LostAnswerError: where it may have been accepted, but nobody can tell.
        :raises ApiError: where Messente answered, and not with success.
        """
        from airflow_provider_omnimessage.api import calls
        from airflow_provider_omnimessage.api.messages import omnimessage
        from airflow_provider_omnimessage.api.timing import TimeToSend

        settings = self.settings
        moment = time_to_send
        if moment is not None and not isinstance(moment, TimeToSend):
            moment = self.resolve_time_to_send(moment, timezone=timezone)
            refuse_past(moment)
        body = omnimessage(
            to,
            messages,
            time_to_send=moment.utc if moment else None,
            dlr_url=dlr_url or settings.dlr_url,
            text_store=text_store or settings.text_store,
            priority=priority or settings.priority,
            sender=settings.sender,
        )
        return self._make(calls.send(body))

    def cancel(self, omnimessage_id: str) -> None:
        """
        Cancel a message that is still scheduled: ``DELETE /omnimessage/{omnimessage_id}``.

        :param omnimessage_id: what :meth:`send` returned.
        :raises NotFoundError: where it has been sent already, or is unknown.
        :raises OmnimessageError: as :meth:`send` does.
        """
        from airflow_provider_omnimessage.api import calls

        self._make(calls.cancel(omnimessage_id))

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
        """Check address and credentials by asking for a message that nobody has; it never sends one."""
        from airflow_provider_omnimessage.hooks.form import check_connection

        return check_connection(self)

    def _make(self, call: Call[T]) -> T:
        return self.get_conn().make(call)


def refuse_past(moment: TimeToSend) -> None:
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

    return pendulum.duration(seconds=max(1, int(span.total_seconds()))).in_words(locale="en")
