"""The operator that sends or schedules thousands of messages in one task."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow_provider_omnimessage._compat import BaseOperator
from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook
from airflow_provider_omnimessage.tasks.arguments import (
    ON_PAST,
    check_budget_at_parse,
    check_time_at_parse,
    check_window_at_parse,
    require_choice,
    require_flag,
)
from airflow_provider_omnimessage.tasks.failures import constructor_errors
from airflow_provider_omnimessage.tasks.linking import MessageLinks
from airflow_provider_omnimessage.tasks.rendering import PlainStrings

if TYPE_CHECKING:
    from airflow.sdk import Context, ObjectStoragePath

    from airflow_provider_omnimessage.api.types import Deferred, Messages
    from airflow_provider_omnimessage.api.windows import SendWindow

    Rows = Iterable[object] | Callable[..., Iterable[object]] | str | ObjectStoragePath | Deferred


class ScheduleBulkOmnimessageOperator(PlainStrings, BaseOperator):
    """
    Send or schedule thousands of messages in one task: ``POST /omnimessages``, up to 1,000 in a call.

    Everything is checked before anything is sent, and one report lists all problems. Set either ``omnimessages``, or
    ``recipients`` and ``messages``::

        send = ScheduleBulkOmnimessageOperator(
            task_id="send",
            recipients=[
                {"to": "+37255555555", "name": "Mari", "timezone": "Europe/Tallinn"},
                {"to": "+12025550142", "name": "Ann", "timezone": "America/New_York"},
            ],
            messages=[viber("Hello $name", ttl=600), sms("Hello $name")],
            time_to_send="{{ ds }}T09:00",
        )

    The return value, and so the XCom, has an entry for each row of the input, in order. ``messages`` (their number),
    ``accepted``, ``rejected``, ``unknown``, ``invalid``, ``skipped`` and ``not_sent`` are numbers of rows;
    ``omnimessage_id`` is a list, with null for rows that were not accepted; ``time_to_send`` (UTC, ISO 8601) is one
    value, or a list; ``errors`` lists each reason with its rows, counted from 1. With ``results_path``, a file holds
    the rows, and the XCom the numbers and the path in ``results``. A task that fails leaves the same, so no id is lost.
    ``CancelScheduledMessageOperator`` and ``OmnimessageDeliverySensor`` take the output as it is, also that of a mapped
    task.

    :param omnimessages: any mix of messages: ``{"to", "messages"}`` each, and ``time_to_send``, ``timezone``,
        ``dlr_url``, ``text_store``, ``priority`` if they differ. A list, the output of a task, a function that returns
        them, or the path of a file of JSON Lines. ``None``: use ``recipients``. (templated)
    :param recipients: who gets the same messages: ``{"to"}`` each, ``time_to_send`` and ``timezone`` if they differ,
        and any other fields. The same sources as ``omnimessages``, and CSV files with a column ``to``. A function
        receives the context variables that its parameters name. ``None``: use ``omnimessages``. (templated)
    :param messages: what each recipient gets, as :class:`ScheduleOmnimessageOperator` takes it. ``$name`` or
        ``${name}`` in any text is replaced by that field of the recipient, and ``$$`` by a dollar sign. ``None``: each
        of the ``omnimessages`` has its own. (templated)
    :param time_to_send: for rows without their own; ``None`` (default): now. (templated)
    :param timezone: IANA name for times without an offset, for rows without their own; default: the connection's, else
        UTC. ``"recipient"`` is the zone of each recipient's number; if that may be in several zones, the latest of the
        times. (templated)
    :param window: when messages may be sent, a :class:`~airflow_provider_omnimessage.api.windows.SendWindow` or its
        text form; a row whose time is outside of it is scheduled for the next time in it. Default: the connection's.
        ``"00:00-24:00"`` is any time. (templated)
    :param on_unknown_zone: what to do with a row if the time zone of its recipient counts and is unknown: ``"fail"``
        (default): the row cannot be sent; ``"drop"`` leaves it out; or the IANA name of a zone to use. (templated)
    :param on_past: what to do with a row whose time has passed when it is posted: ``"fail"`` (default) does not send
        it and fails the task, ``"skip"`` leaves it out, ``"send_now"`` sends it now. (templated)
    :param on_invalid: what to do if rows cannot be sent: ``"fail"`` (default) sends nothing, ``"drop"`` leaves them
        out.
    :param dry_run: whether to check everything and send nothing. The XCom is then the estimate: ``rows``, ``rejected``
        with ``problems``, ``dropped``, ``skipped``, ``recipients``, ``sms_parts``, ``parts`` (of each row),
        ``per_parts``, ``price``, ``per_hour`` and ``most_parts``, the recipients with the most SMS parts.
    :param prices: what an SMS part costs, by country prefix: a dict such as ``{"372": 0.05}``, or the path of a JSON
        file with one, or of a CSV file with the columns ``prefix`` and ``price``. Default: no price is
        computed. (templated)
    :param budget: the most that the send may cost by that estimate; a higher one fails the task before the first
        request. Default: no limit.
    :param max_failed: how many messages Messente may reject before the task fails: a number (int), or a share of the
        messages (float, 0.0 to 1.0). What was accepted stays accepted.
    :param batch_size: rows in a call, 1 to 1,000.
    :param parallel: calls in flight at the same time, 1 to 10.
    :param results_path: where to write the results instead of the XCom: a path or URL that ends in ``.jsonl``, or an
        ``ObjectStoragePath``. It must be visible to all workers. Default: ``None``, the XCom. (templated)
    :param dlr_url: where Messente posts delivery reports; default: the connection's. (templated)
    :param text_store: how Messente keeps the text; default: the connection's, else the account's. (templated)
    :param priority: ``"low"``, ``"regular"`` or ``"high"``; default: the connection's, else regular. (templated)
    :param delivery_guarantee: what to do if it is unknown whether a batch was accepted: ``"at_most_once"`` (default)
        sends the other batches and fails without a retry; ``"at_least_once"`` lets the task's retries post that batch
        again.
    :param durable: whether the task remembers what it sent, batch by batch. A retry then goes on with what was not
        sent; a clear after a failure also posts again what was rejected or is unknown; a clear after a success
        cancels what is still scheduled and begins again. Requires Airflow 3.3 (``task_state_store``).
    :param omnimessage_conn_id: the Airflow connection, of type ``omnimessage``. (templated)
    :raises InvalidInputError: while the DAG is parsed, for everything that is known to be wrong by then.
    """

    template_fields: Sequence[str] = (
        "omnimessages",
        "recipients",
        "messages",
        "time_to_send",
        "timezone",
        "window",
        "on_unknown_zone",
        "on_past",
        "results_path",
        "prices",
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
        omnimessages: Rows | None = None,
        recipients: Rows | None = None,
        messages: Messages | None = None,
        time_to_send: str | datetime | timedelta | Deferred | None = None,
        timezone: str | None = None,
        window: SendWindow | Mapping[str, Any] | str | None = None,
        on_unknown_zone: str = "fail",
        on_past: Literal["fail", "skip", "send_now"] = "fail",
        on_invalid: Literal["fail", "drop"] = "fail",
        dry_run: bool = False,
        prices: Mapping[str, float] | str | ObjectStoragePath | None = None,
        budget: float | None = None,
        max_failed: float = 0,
        batch_size: int = 1000,
        parallel: int = 1,
        results_path: str | ObjectStoragePath | None = None,
        dlr_url: str | None = None,
        text_store: str | None = None,
        priority: str | None = None,
        delivery_guarantee: Literal["at_most_once", "at_least_once"] = "at_most_once",
        durable: bool = True,
        omnimessage_conn_id: str = OmnimessageHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        from airflow_provider_omnimessage.bulk.arguments import check_input, require_numbers, require_results_path
        from airflow_provider_omnimessage.bulk.rows import wrap_function

        super().__init__(**kwargs)
        with constructor_errors(self):
            require_choice("delivery_guarantee", delivery_guarantee, ("at_most_once", "at_least_once"))
            require_choice("on_past", on_past, ON_PAST)
            require_choice("on_invalid", on_invalid, ("fail", "drop"))
            require_numbers(batch_size, parallel, max_failed)
            require_flag("dry_run", dry_run)
            if time_to_send is not None:
                check_time_at_parse(time_to_send, timezone)
            require_results_path(results_path)
            self.window = check_window_at_parse(window, on_unknown_zone)
            check_budget_at_parse(budget, prices)
            self.messages = check_input(omnimessages, recipients, messages)
        self.omnimessages = wrap_function(omnimessages)
        self.recipients = wrap_function(recipients)
        self.time_to_send, self.timezone = time_to_send, timezone
        self.on_unknown_zone = on_unknown_zone
        self.on_past, self.on_invalid = on_past, on_invalid
        self.is_dry_run = dry_run  # Airflow's operators have a method dry_run
        self.prices, self.budget = prices, budget
        self.max_failed = max_failed
        self.batch_size = batch_size
        self.parallel = parallel
        self.results_path = results_path
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

    def execute(self, context: Context) -> dict[str, Any]:
        """Check everything, send what is not sent yet, and return the result of each row."""
        from airflow_provider_omnimessage.bulk.run import BulkRun
        from airflow_provider_omnimessage.bulk.settings import BulkSettings

        settings = BulkSettings(
            omnimessages=self.omnimessages,
            recipients=self.recipients,
            messages=self.messages,
            time_to_send=self.time_to_send,
            timezone=self.timezone,
            on_past=self.on_past,
            on_invalid=self.on_invalid,
            max_failed=self.max_failed,
            batch_size=self.batch_size,
            parallel=self.parallel,
            results_path=self.results_path,
            defaults={"dlr_url": self.dlr_url, "text_store": self.text_store, "priority": self.priority},
            at_least_once=self.delivery_guarantee == "at_least_once",
            durable=self.durable,
            window=self.window,
            on_unknown_zone=self.on_unknown_zone,
            prices=self.prices,
            budget=self.budget,
        )
        if self.is_dry_run:
            from airflow_provider_omnimessage.bulk.dry_run import dry_run

            return dry_run(self.hook, settings, context, self.log)
        return BulkRun(self.hook, settings, context, self.log).execute()

    def on_kill(self) -> None:
        """Log what a kill interrupts."""
        from airflow_provider_omnimessage.bulk.run import NO_MEMORY

        call = self.hook.unanswered_call
        self.log.warning(
            "Killed while %s. %s",
            f"waiting for the response to {call}" if call else "no request was in flight",
            "A retry goes on with what was not sent" if self.durable else NO_MEMORY,
        )
