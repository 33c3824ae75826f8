"""The operator that sends or schedules thousands of messages in one task, a thousand in a call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow_provider_omnimessage._compat import (
    AirflowFailException,
    AirflowSkipException,
    BaseOperator,
)
from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook
from airflow_provider_omnimessage.links import OmnimessageLink
from airflow_provider_omnimessage.tasks.arguments import ON_PAST, check_time_at_parse, require_choice, task_tags
from airflow_provider_omnimessage.tasks.failures import constructor_errors, task_failures
from airflow_provider_omnimessage.tasks.rendering import PlainStrings

if TYPE_CHECKING:
    from datetime import datetime

    from airflow_provider_omnimessage.api.bulk import Composer
    from airflow_provider_omnimessage.api.errors import Problem
    from airflow_provider_omnimessage.api.timing import TimeToSend
    from airflow_provider_omnimessage.bulk.memory import Batch, BulkMemory, Plan
    from airflow_provider_omnimessage.bulk.results import Results
    from airflow_provider_omnimessage.bulk.rows import Spool
    from airflow_provider_omnimessage.bulk.send import BulkSender

DOUBT = (
    "Messente may have accepted them all the same, so this task is not retried: they could go out twice. Look for one "
    "of them in Messente's dashboard. Clear this task if they are not there: it posts them, and nothing that is known "
    "to be accepted"
)
NO_MEMORY = (
    "This Airflow keeps no memory of what was sent, so this task is not retried: a retry would send everything again. "
    "Its XCom or its results file tells what was accepted"
)
MOST_PARALLEL = 10


class ScheduleBulkOmnimessageOperator(PlainStrings, BaseOperator):
    """
    Send or schedule thousands of messages in one task: ``POST /omnimessages``, up to 1,000 in a call.

    Everything is checked before anything is sent, and all problems are told in one report. Give either
    ``omnimessages``, or ``recipients`` and ``messages``.

    The return value, and so the XCom, tells what became of every row of the input, in its order: ``messages`` (how
    many), ``accepted``, ``refused``, ``unknown``, ``invalid``, ``skipped`` and ``not_sent`` (numbers of rows),
    ``omnimessage_id`` (one for each row, or null), ``time_to_send`` (UTC, ISO 8601: one for all, or one for each row)
    and ``errors`` (each with its rows, counted from 1). With ``results_path`` that goes to a file, and the XCom holds
    the numbers and ``results``, where the file is. A task that fails leaves the same, so that nothing that was accepted
    is lost. ``CancelScheduledMessageOperator`` and ``OmnimessageDeliverySensor`` take it as it is.

    :param omnimessages: any mix of omnimessages, ``{"to", "messages"}`` each, and ``time_to_send``, ``timezone``,
        ``dlr_url``, ``text_store``, ``priority`` where they differ. A list, the output of a task, a function that
        gives them, or the path of a file of JSON Lines. ``None``: there are ``recipients``. (templated)
    :param recipients: who gets the same messages: ``{"to"}`` each, ``time_to_send`` and ``timezone`` where they differ,
        and any fields of their own. As ``omnimessages``, and a CSV file with a column ``to``, too. A function is
        called with what its parameters name of the context. ``None``: there are ``omnimessages``. (templated)
    :param messages: what each recipient gets, as :class:`ScheduleOmnimessageOperator` takes it. ``$name`` or
        ``${name}`` in any of its texts is replaced by that field of the recipient, and ``$$`` by a dollar sign.
        ``None``: each of the ``omnimessages`` has its own. (templated)
    :param time_to_send: for rows that have none; ``None`` (default): now. (templated)
    :param timezone: IANA name for times without an offset, for rows that name none; default: the connection's, else
        UTC. (templated)
    :param on_past: what to do with a row whose moment has gone by: ``"fail"`` (default) makes it a problem of that row,
        ``"skip"`` leaves it out, ``"send_now"`` sends it now. (templated)
    :param on_invalid: what to do where rows cannot be sent: ``"fail"`` (default) sends nothing, ``"drop"`` leaves
        them out.
    :param max_failed: how many messages Messente may refuse before the task fails: a number (int), or a share of those
        that it was asked for (float, 0.0 to 1.0). What was accepted stays accepted.
    :param batch_size: rows in a call, 1 to 1,000.
    :param parallel: calls under way at a time, 1 to 10.
    :param results_path: where to write the results, instead of the XCom: a path or URL that ends in ``.jsonl``, or an
        ``ObjectStoragePath``. (templated)
    :param dlr_url: where Messente posts delivery reports; default: the connection's. (templated)
    :param text_store: how Messente keeps the text; default: the connection's, else the account's. (templated)
    :param priority: ``"low"``, ``"regular"`` or ``"high"``; default: the connection's, else regular. (templated)
    :param delivery_guarantee: what becomes of a batch that may have been accepted, where nobody can tell:
        ``"at_most_once"`` (default) sends the others and then fails without a retry; ``"at_least_once"`` lets the
        task's retries post that batch again.
    :param durable: whether the task remembers what it has sent, batch by batch. A retry then goes on with what was not
        sent; a clear after a failure also posts again what was refused or is in doubt; a clear after a success cancels
        what still waits and begins anew. It takes Airflow 3.3 (``task_state_store``).
    :param omnimessage_conn_id: the Airflow connection, of type ``omnimessage``. (templated)
    :raises InvalidInputError: while the DAG is parsed, for what can be seen to be wrong by then.
    """

    template_fields: Sequence[str] = (
        "omnimessages",
        "recipients",
        "messages",
        "time_to_send",
        "timezone",
        "on_past",
        "results_path",
        "dlr_url",
        "text_store",
        "priority",
        "omnimessage_conn_id",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"messages": "json"}
    operator_extra_links = (OmnimessageLink(),)
    ui_color = "#e3f0ff"

    def __init__(
        self,
        *,
        omnimessages: Any = None,
        recipients: Any = None,
        messages: Any = None,
        time_to_send: Any = None,
        timezone: str | None = None,
        on_past: Literal["fail", "skip", "send_now"] = "fail",
        on_invalid: Literal["fail", "drop"] = "fail",
        max_failed: float = 0,
        batch_size: int = 1000,
        parallel: int = 1,
        results_path: Any = None,
        dlr_url: str | None = None,
        text_store: str | None = None,
        priority: str | None = None,
        delivery_guarantee: Literal["at_most_once", "at_least_once"] = "at_most_once",
        durable: bool = True,
        omnimessage_conn_id: str = OmnimessageHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        from airflow_provider_omnimessage.api.bulk import MOST_IN_A_CALL, require_limit
        from airflow_provider_omnimessage.bulk.rows import held

        super().__init__(**kwargs)
        with constructor_errors(self):
            require_choice("delivery_guarantee", delivery_guarantee, ("at_most_once", "at_least_once"))
            require_choice("on_past", on_past, ON_PAST)
            require_choice("on_invalid", on_invalid, ("fail", "drop"))
            require_limit("max_failed", max_failed)
            _demand_number("batch_size", batch_size, MOST_IN_A_CALL)
            _demand_number("parallel", parallel, MOST_PARALLEL)
            if time_to_send is not None:
                check_time_at_parse(time_to_send, timezone)
            _demand_results_path(results_path)
            self.messages = _draft(omnimessages, recipients, messages)
        self.omnimessages = held(omnimessages)
        self.recipients = held(recipients)
        self.time_to_send = time_to_send
        self.timezone = timezone
        self.on_past = on_past
        self.on_invalid = on_invalid
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

    def execute(self, context: Mapping[str, Any]) -> dict[str, Any]:
        """Check everything, send what is not sent yet, and tell what became of each row."""
        from airflow_provider_omnimessage.bulk.rows import Spool

        with task_failures(again=self._again), self.hook, Spool() as spool:
            return self._execute(context, spool)

    def on_kill(self) -> None:
        """Say in the log what a kill interrupts."""
        call = self.hook.unanswered_call
        self.log.warning(
            "Killed while %s. %s",
            f"the answer to {call} was awaited" if call else "no call to Messente was waiting for its answer",
            "A retry goes on with what was not sent" if self.durable else NO_MEMORY,
        )

    @property
    def _again(self) -> bool:
        return self.delivery_guarantee == "at_least_once"

    def _execute(self, context: Mapping[str, Any], spool: Spool) -> dict[str, Any]:
        from dataclasses import replace

        from airflow_provider_omnimessage import metrics
        from airflow_provider_omnimessage.bulk.memory import BulkStep, next_bulk_step
        from airflow_provider_omnimessage.bulk.send import BulkSender
        from airflow_provider_omnimessage.tasks.parallel import Progress

        require_choice("on_past", self.on_past, ON_PAST, rendered=True)
        memory = self._memory(context)
        max_tries = context["ti"].max_tries
        plan = memory.plan() if memory else None
        step = next_bulk_step(plan, max_tries)
        kept = plan if step is BulkStep.RESUME else None
        results = self._results()
        try:
            checked = self._check(context, spool, memory, kept)
            if checked.halted and (kept is None or isinstance(checked.halted, _ChangedRecipients)):
                raise checked.halted
        except Exception:
            if memory and plan:
                self._report_what_is_known(context, memory, plan, results)
            raise
        if memory and plan and step is BulkStep.REPLACE:
            self._replace(context, memory, plan)
        if not spool.rows:
            raise AirflowSkipException("There are no rows: nobody to send to")
        plan = checked.plan(spool.rows, max_tries)
        if memory and not checked.halted:
            memory.keep_plan(plan)
        sending = BulkSender(
            self.hook,
            memory,
            results,
            fingerprints=checked.fingerprints,
            on_past=self.on_past,
            at_least_once=self._again,
            max_tries=max_tries,
            now=checked.now,
            parallel=self.parallel,
            progress=Progress(spool.rows, "rows", self.log, memory.show if memory else None),
            log=self.log,
        )
        sending.stop = checked.halted
        try:
            sending.run(spool, plan.batch_size)
        except BaseException as error:
            self._report(context, results)
            if isinstance(error, (KeyboardInterrupt, SystemExit)) or memory or not self._may_have_sent(results):
                raise
            raise AirflowFailException(f"Interrupted: {error!r}. {NO_MEMORY}") from error
        finally:
            metrics.count("scheduled", task_tags(context), sending.scheduled)
            metrics.count("sent", task_tags(context), sending.sent)
        self._judge(context, sending, results, memory)
        told = self._close(context, results, memory)
        if memory:
            self._end(memory, replace(plan, state="ended"))
        return told

    def _may_have_sent(self, results: Results) -> bool:
        """Tell whether a retry that remembers nothing could send a second message that the guarantee forbids."""
        counts = results.counts
        return bool(counts["accepted"] or (counts["unknown"] and not self._again))

    def _memory(self, context: Mapping[str, Any]) -> BulkMemory | None:
        from airflow_provider_omnimessage.bulk.memory import BulkMemory

        memory = BulkMemory.of(context) if self.durable else None
        if self.durable and memory is None:
            self.log.info(
                "durable=True takes Airflow 3.3 or newer. Here, a retry after a worker has died does not know what was "
                "sent and sends everything again: give this task retries=0"
            )
        return memory

    def _results(self) -> Results:
        from airflow_provider_omnimessage.bulk.results import ResultsFile, ResultsTable

        if self.results_path in (None, "", "None"):
            return ResultsTable()
        _demand_results_path(self.results_path, rendered=True)
        file = ResultsFile(self.results_path)
        file.require_writable()
        return file

    def _check(
        self, context: Mapping[str, Any], spool: Spool, memory: BulkMemory | None, kept: Plan | None
    ) -> _Checked:
        """Compose each row, and put what can be sent aside; find out what an earlier try has begun of it."""
        from datetime import datetime, timezone

        from airflow_provider_omnimessage.api.bulk import RowProblems
        from airflow_provider_omnimessage.api.errors import InvalidInputError
        from airflow_provider_omnimessage.bulk.rows import rows_of

        now = datetime.now(timezone.utc)
        checked = _Checked(
            now,
            since=datetime.fromisoformat(kept.since) if kept else now,
            batch_size=kept.batch_size if kept else self.batch_size,
            secret=self.hook.settings.password,
            known=memory.batch if memory and kept else None,
            known_batches=kept.batches if kept else 0,
        )
        composer = self._composer(checked.since)
        problems = RowProblems()
        field = "recipients" if self.omnimessages is None else "omnimessages"
        given = self.recipients if self.omnimessages is None else self.omnimessages
        for row in rows_of(field, given, context):
            try:
                if isinstance(row, InvalidInputError):
                    raise row
                composed = composer.compose(row)
                moment = composed.moment.utc if composed.moment else None
                is_past = moment is not None and moment <= now
                if is_past and self.on_past == "fail" and not checked.was_begun(spool.rows + 1):
                    problems.add(spool.rows + 1, (_gone_by(composed.moment),))
                spool.add(moment, composed.body)
                checked.add(spool.rows, composed.to, moment)
            except InvalidInputError as error:
                problems.add(spool.rows + 1, error.problems)
                spool.leave_out(str(error))
        checked.close()
        if checked.has_new_key:
            self.log.warning(
                "The connection has another password since an earlier try, so whether its recipients are the same is "
                "judged by how many they are"
            )
        for warning in composer.warnings[:10]:
            self.log.warning(warning)
        if problems.rows:
            report = problems.as_error(spool.rows)
            if self.on_invalid == "fail":
                checked.halted = checked.halted or AirflowFailException(
                    f"{report}. {'Nothing more' if kept else 'Nothing'} was sent. Correct these rows, or leave them "
                    "out with on_invalid='drop'"
                )
            else:
                self.log.warning("%s. They are left out, as on_invalid='drop' says", report)
        self.log.info("%s rows were checked in %.1f s", f"{spool.rows:,}", checked.seconds())
        return checked

    def _composer(self, since: datetime) -> Composer:
        from airflow_provider_omnimessage.api.bulk import Composer

        settings = self.hook.settings
        return Composer(
            messages=self.messages if self.omnimessages is None else None,
            defaults={
                "dlr_url": self.dlr_url or settings.dlr_url,
                "text_store": self.text_store or settings.text_store,
                "priority": self.priority or settings.priority,
            },
            sender=settings.sender,
            time_to_send=None if self.time_to_send in ("", "None") else self.time_to_send,
            timezone=self.timezone or settings.timezone,
            now=since,
        )

    def _replace(self, context: Mapping[str, Any], memory: BulkMemory, plan: Plan) -> None:
        """Cancel what a task that was cleared after its success has scheduled, and forget it."""
        from dataclasses import replace
        from datetime import datetime, timezone

        from airflow_provider_omnimessage.tasks.cancelling import CancelSummary, cancel_each

        memory.keep_plan(replace(plan, state="replacing"))
        numbers = range(1, plan.batches + 1)
        if plan.last_moment and datetime.fromisoformat(plan.last_moment) > datetime.now(timezone.utc):
            ids = (id_ for number in numbers for id_ in getattr(memory.batch(number), "ids", ()) if id_)
            counts = CancelSummary.of(cancel_each(self.hook, list(ids), log=self.log, tags=task_tags(context)))
            self.log.info("Cleared after its success: of what it had scheduled before, %s", counts)
            counts.raise_if_unknown()
        for number in numbers:
            memory.forget_batch(number)

    def _judge(
        self, context: Mapping[str, Any], sending: BulkSender, results: Results, memory: BulkMemory | None
    ) -> None:
        """End the task as what became of its messages says; what does not succeed has told it before."""
        from airflow_provider_omnimessage.api.bulk import too_many_failed
        from airflow_provider_omnimessage.api.errors import LostResponseError
        from airflow_provider_omnimessage.bulk.results import in_words

        counts = results.counts
        told = in_words(counts)
        self.log.info("%s", told)
        error: BaseException | None = None
        stop = sending.stop
        if stop is not None:
            error = stop
            if not memory and self._may_have_sent(results) and not isinstance(stop, AirflowFailException):
                error = AirflowFailException(f"{told}. It stopped: {stop}. {NO_MEMORY}")
        elif counts["unknown"] and self._again and memory:
            error = sending.lost or LostResponseError("; ".join(sending.doubts[:5]))
        elif counts["unknown"]:
            doubts = "; ".join(sending.doubts[:5])
            more = f"; and {len(sending.doubts) - 5} more batches" if len(sending.doubts) > 5 else ""
            error = AirflowFailException(f"{told}. {doubts}{more}. {DOUBT if memory else NO_MEMORY}")
        elif counts["invalid"] and self.on_invalid == "fail":
            error = AirflowFailException(f"{told}: the times of some have gone by since an earlier try")
        elif too_many_failed(counts["refused"], counts["refused"] + counts["accepted"], self.max_failed):
            error = AirflowFailException(
                f"{told}, which is more than max_failed={self.max_failed!r} puts up with. What was accepted stays "
                "accepted; clear this task to post again only what was refused"
            )
        if error is not None:
            self._report(context, results)
            raise error
        if not counts["accepted"] and not counts["refused"]:
            self._report(context, results)
            raise AirflowSkipException(f"{told}: nothing was sent")

    def _close(self, context: Mapping[str, Any], results: Results, memory: BulkMemory | None) -> dict[str, Any]:
        from airflow_provider_omnimessage.bulk.results import ResultsFile

        try:
            return results.close()
        except Exception as error:
            if memory or not isinstance(results, ResultsFile):
                raise  # a retry sends nothing again, and writes them
            context["ti"].xcom_push(key="return_value", value=results.as_table().close())
            raise AirflowFailException(f"The results could not be written: {error}. They are in the XCom") from error

    def _report(self, context: Mapping[str, Any], results: Results) -> None:
        """Leave what a task that does not succeed has done: it returns nothing."""
        from airflow_provider_omnimessage.bulk.results import ResultsFile

        try:
            told = results.close()
        except Exception:
            self.log.exception("The results could not be written; they go to the XCom")
            told = results.as_table().close() if isinstance(results, ResultsFile) else {}
        try:
            context["ti"].xcom_push(key="return_value", value=told)
        except Exception:
            self.log.exception("The XCom could not be pushed")

    def _report_what_is_known(
        self, context: Mapping[str, Any], memory: BulkMemory, kept: Plan, results: Results
    ) -> None:
        """Leave what an earlier try has sent, where the rows of this one are others."""
        from airflow_provider_omnimessage.bulk.results import RowResult

        for number in range(1, kept.batches + 1):
            batch = memory.batch(number)
            if batch is None:
                continue
            refused, unknown = batch.refused(), set(batch.unknown)
            for position, id_ in enumerate(batch.ids):
                row = (number - 1) * kept.batch_size + position + 1
                if id_:
                    results.add(RowResult(row, "accepted", id_))
                elif position in unknown:
                    results.add(RowResult(row, "unknown", error=batch.doubt))
                elif position in refused:
                    results.add(RowResult(row, "refused", error=refused[position]))
                else:
                    results.add(RowResult(row, "not_sent"))
        self._report(context, results)

    def _end(self, memory: BulkMemory, plan: Plan) -> None:
        try:
            memory.keep_plan(plan)
        except Exception:
            # All is sent. To fail now would only tell the contrary.
            self.log.exception("That it has succeeded could not be stored: a clear will not begin anew")


class _Checked:
    """
    What the check of all rows has found, batch by batch.

    :param now: when it began: by it is judged which moments have gone by.
    :param since: when the first try began.
    :param batch_size: rows in a batch.
    :param secret: the key of the fingerprints.
    :param known: gives what an earlier try has left of a batch; ``None`` where there was none.
    :param known_batches: how many batches that try had.
    """

    def __init__(
        self,
        now: datetime,
        *,
        since: datetime,
        batch_size: int,
        secret: str,
        known: Callable[[int], Batch | None] | None,
        known_batches: int = 0,
    ) -> None:
        self.now = now
        self.since = since
        self.fingerprints: list[str] = []
        self.last_moment: datetime | None = None
        #: whether the connection's password is another than an earlier try's
        self.has_new_key = False
        #: why nothing is sent
        self.halted: Exception | None = None
        self._batch_size = batch_size
        self._secret = secret
        self._known = known
        self._known_batches = known_batches
        self._batch: Batch | None = None
        self._batch_number = 0
        self._numbers: list[str] = []

    def was_begun(self, row: int) -> bool:
        """
        Tell whether an earlier try has begun to post the batch of a row.

        :param row: its number, from 1.
        """
        self._go_to(row)
        return self._batch is not None

    def add(self, row: int, to: str, moment: datetime | None) -> None:
        """
        Take in a row that can be sent.

        :param row: its number, from 1.
        :param to: its recipient.
        :param moment: when.
        """
        self._go_to(row)
        self._numbers.append(f"{row} {to}")
        if moment and (self.last_moment is None or moment > self.last_moment):
            self.last_moment = moment

    def close(self) -> None:
        """End the last batch; one that was begun and has no rows any more has other recipients, too."""
        last = self._batch_number
        if last:
            self._end_batch()
        for number in range(last + 1, self._known_batches + 1):
            if self._known and self._known(number) and not self.halted:
                self.halted = self._changed(number)

    def plan(self, rows: int, max_tries: int) -> Plan:
        """
        Make the plan of what is sent now.

        :param rows: how many.
        :param max_tries: the task's.
        """
        from airflow_provider_omnimessage.bulk.memory import Plan

        return Plan(
            since=self.since.isoformat(),
            max_tries=max_tries,
            batch_size=self._batch_size,
            batches=-(-rows // self._batch_size),
            last_moment=self.last_moment.isoformat() if self.last_moment else None,
            state="sending",
        )

    def seconds(self) -> float:
        """Tell how long it took."""
        from datetime import datetime, timezone

        return (datetime.now(timezone.utc) - self.now).total_seconds()

    def _go_to(self, row: int) -> None:
        number = (row - 1) // self._batch_size + 1
        while self._batch_number < number:
            if self._batch_number:
                self._end_batch()
            self._batch_number += 1
            self._batch = self._known(self._batch_number) if self._known else None
            self._numbers = []

    def _end_batch(self) -> None:
        from airflow_provider_omnimessage.bulk.memory import are_of_one_key, fingerprint_of_recipients

        self.fingerprints.append(fingerprint_of_recipients(self._numbers, self._secret))
        if self._batch is None or self.halted:
            return
        before, now = self._batch.fingerprint, self.fingerprints[-1]
        is_comparable = are_of_one_key(before, now)
        self.has_new_key = self.has_new_key or not is_comparable
        if (is_comparable and before != now) or len(self._batch.ids) != len(self._numbers):
            self.halted = self._changed(self._batch_number)

    def _changed(self, number: int) -> _ChangedRecipients:
        return _ChangedRecipients(
            f"Batch {number:,} (from row {(number - 1) * self._batch_size + 1:,}) has other recipients than an earlier "
            "try has sent it to, or in another order, so nobody can tell who has a message already. Nothing more was "
            "sent. Give the same recipients again and clear this task; or start a new run for the new ones"
        )


class _ChangedRecipients(AirflowFailException):
    """What is known of the earlier try cannot be laid over these rows."""


def _draft(omnimessages: Any, recipients: Any, messages: Any) -> Any:
    """Check while the DAG is parsed what can be seen by then, and give the messages as plain data."""
    from airflow_provider_omnimessage.api.bulk import plain_messages
    from airflow_provider_omnimessage.api.errors import InvalidInputError
    from airflow_provider_omnimessage.api.fields import Problems, is_deferred
    from airflow_provider_omnimessage.api.messages import draft_messages
    from airflow_provider_omnimessage.api.placeholders import as_draft, compile_placeholders
    from airflow_provider_omnimessage.bulk.rows import require_source

    if (omnimessages is None) == (recipients is None):
        found = "missing" if omnimessages is None else "given"
        raise InvalidInputError.of("omnimessages", f"is {found}, and so is recipients; give one of them")
    if (messages is None) != (recipients is None):
        given = "goes with recipients only: omnimessages have their own" if recipients is None else "is missing"
        raise InvalidInputError.of("messages", given)
    if recipients is None:
        require_source("omnimessages", omnimessages)
        if isinstance(omnimessages, str) and omnimessages.lower().endswith(".csv"):
            raise InvalidInputError.of(
                "omnimessages", "a CSV file holds recipients; give recipients and messages, or a file of JSON Lines"
            )
        return None
    require_source("recipients", recipients)
    if not is_deferred(messages):
        plain = plain_messages(messages)
        problems = Problems(draft=True)
        compile_placeholders(plain, "messages", problems)
        problems.raise_if_any()
        draft_messages(as_draft(plain))
        # Airflow knows by its identity what came from an XCom, and must not be rendered
        if not all(isinstance(message, Mapping) or is_deferred(message) for message in messages):
            messages = plain
    return messages


def _demand_number(field: str, value: object, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        from airflow_provider_omnimessage.api.errors import InvalidInputError

        raise InvalidInputError.of(field, f"{value!r} is not accepted; give a whole number from 1 to {most:,}")


def _demand_results_path(path: Any, *, rendered: bool = False) -> None:
    from airflow_provider_omnimessage.api.errors import InvalidInputError
    from airflow_provider_omnimessage.api.fields import is_deferred

    if path is None or (is_deferred(path) and not rendered):
        return
    if not str(path).lower().endswith(".jsonl"):
        raise InvalidInputError.of("results_path", "does not end in .jsonl; the results are written as JSON Lines")


def _gone_by(moment: TimeToSend | None) -> Problem:
    from airflow_provider_omnimessage.api.errors import Problem

    return Problem("time_to_send", f"{moment} has gone by; say with on_past what to do then")
