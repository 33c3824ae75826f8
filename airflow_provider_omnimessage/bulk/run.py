"""Run a bulk send in its task: check, send, report, and decide how the task ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_omnimessage import metrics
from airflow_provider_omnimessage._compat import AirflowFailException, AirflowSkipException
from airflow_provider_omnimessage.api.bulk import too_many_rejected
from airflow_provider_omnimessage.api.errors import LostResponseError
from airflow_provider_omnimessage.bulk.arguments import require_results_path
from airflow_provider_omnimessage.bulk.check import CheckedRows, StoredBatches
from airflow_provider_omnimessage.bulk.memory import BulkMemory, BulkStep, Plan, next_bulk_step
from airflow_provider_omnimessage.bulk.pending import SendSettings
from airflow_provider_omnimessage.bulk.results import Results, ResultsFile, ResultsTable, RowResult, in_words
from airflow_provider_omnimessage.bulk.rows import Spool
from airflow_provider_omnimessage.bulk.send import BulkSender
from airflow_provider_omnimessage.bulk.settings import BulkSettings
from airflow_provider_omnimessage.bulk.uninterrupted import run_uninterrupted
from airflow_provider_omnimessage.bulk.windows import RowWindows
from airflow_provider_omnimessage.tasks.arguments import ON_PAST, require_choice, task_tags
from airflow_provider_omnimessage.tasks.cancelling import CancelSummary, cancel_each
from airflow_provider_omnimessage.tasks.failures import task_failures
from airflow_provider_omnimessage.tasks.memory import Mark, Since

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

    from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook

CHECK_FIRST = (
    "Messente may have accepted them, so this task is not retried: a retry could send them twice. Look for one of them "
    "in Messente's dashboard. If they are not there, clear this task: it posts them, and nothing that is known to be "
    "accepted"
)
NO_MEMORY = (
    "This task does not remember what was sent, so it is not retried: a retry would send everything again. Its XCom or "
    "its results file lists what was accepted"
)
#: How many batches an error names. The others are counted.
BATCHES_NAMED = 5


class Checked(NamedTuple):
    """
    What the check of all rows found.

    :param fingerprints: of the batches.
    :param problem: why nothing more may be sent.
    :param windows: of the rows.
    """

    plan: Plan
    fingerprints: list[str]
    problem: Exception | None
    windows: RowWindows


class BulkRun:
    """
    One try of a task that sends in bulk.

    From the first request to the end of the task, a try that remembers nothing must not be retried, whatever interrupts
    it. So all of that happens in a thread that no timeout of Airflow's interrupts, and :meth:`execute` judges every
    exception that leaves it.

    :param hook: on the task's connection.
    :param settings: the task's parameters.
    :param context: the task's.
    :param log: the task's logger.
    """

    def __init__(self, hook: OmnimessageHook, settings: BulkSettings, context: Mapping[str, Any], log: Logger) -> None:
        self._hook = hook
        self._settings = settings
        self._context = context
        self._log = log
        self._mark = Mark.of(context)
        self._memory: BulkMemory | None = None
        self._sender: BulkSender | None = None
        self._interruption: BaseException | None = None
        #: The XCom, once everything was sent as it should be.
        self._xcom: dict[str, Any] | None = None
        #: What was stored when the task succeeded.
        self._ended: Plan | None = None

    def execute(self) -> dict[str, Any]:
        """
        Run it, and return the XCom.

        :raises AirflowFailException: if a retry could send a second message, or would not help.
        """
        try:
            with task_failures(again=self._settings.at_least_once), self._hook, Spool() as spool:
                return self._run(spool)
        except (AirflowFailException, AirflowSkipException):
            raise
        except BaseException as error:
            self._take_back_success()
            if self._memory or self._sender is None or not self._sender.may_have_sent:
                raise
            raise AirflowFailException(f"Interrupted: {error!r}. {NO_MEMORY}") from error

    def _run(self, spool: Spool) -> dict[str, Any]:
        settings = self._settings
        require_choice("on_past", settings.on_past, ON_PAST, rendered=True)
        self._memory = self._find_memory()
        stored = self._memory.plan() if self._memory else None
        step = next_bulk_step(stored, self._mark, at_least_once=settings.at_least_once)
        resumed = stored if step is BulkStep.RESUME else None
        results = self._make_results()
        if self._memory and stored and step is BulkStep.FAIL:
            self._memory.keep_plan(stored.marked(self._mark))
            self._report_stored(self._memory, stored, results)
            raise AirflowFailException(
                "An earlier try sent everything, and it is unknown whether this task was cleared or is a retry; to "
                "send everything again, clear this task again"
            )
        try:
            checked = self._check(spool, resumed)
            if self._memory and stored and step is BulkStep.REPLACE:
                self._cancel_stored(self._memory, stored)
        except BaseException:
            if self._memory and stored:
                self._report_stored(self._memory, stored, results)
            raise
        if not spool.rows:
            raise AirflowSkipException("There are no rows, so there is nobody to send to")
        if self._memory and checked.problem is None:
            self._memory.keep_plan(checked.plan)
        sender = self._sender = BulkSender(
            self._hook,
            SendSettings(
                on_past=settings.on_past,
                at_least_once=settings.at_least_once,
                batch_size=checked.plan.batch_size,
                parallel=settings.parallel,
                mark=self._mark,
                windows=checked.windows,
            ),
            self._memory,
            results,
            self._log,
        )
        sender.stop = checked.problem
        return self._send_uninterrupted(sender, spool, checked, results)

    def _send_uninterrupted(
        self, sender: BulkSender, spool: Spool, checked: Checked, results: Results
    ) -> dict[str, Any]:
        def send() -> dict[str, Any]:
            xcom = self._xcom = self._send(sender, spool, checked, results)
            if self._memory and self._interruption is None:
                self._end(self._memory, checked.plan)
            return xcom

        def interrupt(error: BaseException) -> None:
            self._interruption = self._interruption or error
            sender.stop = sender.stop or error
            sender.interrupted.set()

        xcom = run_uninterrupted(send, interrupt)
        if self._interruption is not None:
            raise self._interruption
        return xcom

    def _send(self, sender: BulkSender, spool: Spool, checked: Checked, results: Results) -> dict[str, Any]:
        """Send, and return the XCom. If the task does not succeed, push the XCom first."""
        try:
            try:
                sender.run(spool, checked.fingerprints)
            finally:
                results.extra.update(checked.windows.as_dict())
                if checked.windows.late is not None:
                    self._log_choice(checked.windows.late)
                tags = task_tags(self._context)
                metrics.count("scheduled", tags, sender.scheduled)
                metrics.count("sent", tags, sender.sent)
            self._raise_unless_successful(sender, results)
        except BaseException:
            self._report(results)
            raise
        return self._close(results)

    def _find_memory(self) -> BulkMemory | None:
        memory = BulkMemory.of(self._context) if self._settings.durable else None
        if self._settings.durable and memory is None:
            self._log.info(
                "durable=True requires Airflow 3.3 or newer. On this version, a retry after a worker died does not "
                "know what was sent, and sends everything again: set retries=0 for this task"
            )
        return memory

    def _make_results(self) -> Results:
        path = self._settings.results_path
        if path in (None, "", "None"):  # a template renders None as text
            return ResultsTable()
        require_results_path(path, rendered=True)
        file = ResultsFile(path)
        file.require_writable()
        return file

    def _check(self, spool: Spool, resumed: Plan | None) -> Checked:
        """
        Check each row, and compare the rows with what an earlier try stored.

        :raises AirflowFailException: if nothing was sent before either, or if the recipients changed.
        """
        settings = self._settings
        began = datetime.now(timezone.utc)
        is_retry = resumed is not None and self._mark.since(resumed.mark) is not Since.CLEAR
        since = datetime.fromisoformat(resumed.since) if resumed and is_retry else began
        batches = StoredBatches(
            batch_size=resumed.batch_size if resumed else settings.batch_size,
            secret=self._hook.settings.password,
            look_up=self._memory.batch if self._memory and resumed else None,
            count=resumed.batches if resumed else 0,
        )
        composer = settings.make_composer(self._hook.settings, since)
        estimate = settings.make_estimate()
        checked = CheckedRows(composer, spool, batches, on_past=settings.on_past, estimate=estimate)
        checked.add_all(settings.read_rows(self._context))
        if batches.changed:
            raise batches.changed
        if batches.has_new_key:
            self._log.warning(
                "The connection's password changed since an earlier try, so only the number of recipients can be "
                "compared with it"
            )
        for warning in list(composer.chooser.warnings)[:10]:
            self._log.warning(warning)
        self._log_times(checked)
        problem = self._judge_problems(checked, spool.rows, resumed)
        if estimate is not None and settings.budget is not None:
            estimate.require_within(settings.budget)
        seconds = (datetime.now(timezone.utc) - began).total_seconds()
        self._log.info("Checked %s rows in %.1f s", f"{spool.rows:,}", seconds)
        batch_size = resumed.batch_size if resumed else settings.batch_size
        plan = Plan(
            since=since.isoformat(),
            **asdict(self._mark),
            batch_size=batch_size,
            batches=-(-spool.rows // batch_size),
            state="sending",
            rows=spool.rows,
        )
        return Checked(plan, batches.fingerprints, problem, checked.windows)

    def _log_times(self, checked: CheckedRows) -> None:
        if checked.dropped:
            self._log.warning(
                "Leaving out %s rows whose time zone is unknown, because on_unknown_zone='drop'", f"{checked.dropped:,}"
            )
        for each in checked.windows.as_dict().get("time_choices", [])[:10]:
            self._log_choice(each)

    def _log_choice(self, choice: Mapping[str, Any]) -> None:
        self._log.info(
            "%s rows are sent at another time than wanted: %s. The first is row %s: wanted %s, chosen %s",
            f"{choice['rows']:,}",
            choice["reason"],
            f"{choice['first_row']:,}",
            choice["wanted"] or "now",
            choice["chosen"] or "now",
        )

    def _judge_problems(self, checked: CheckedRows, rows: int, resumed: Plan | None) -> Exception | None:
        if not checked.problems.rows:
            return None
        report = checked.problems.as_error(rows)
        if self._settings.on_invalid == "drop":
            self._log.warning("%s. Leaving them out because of on_invalid='drop'", report)
            return None
        problem = AirflowFailException(
            f"{report}. {'Nothing more' if resumed else 'Nothing'} was sent. Correct these rows, or set "
            "on_invalid='drop' to leave them out"
        )
        if resumed is None:
            raise problem
        return problem

    def _cancel_stored(self, memory: BulkMemory, stored: Plan) -> None:
        """Cancel what a task scheduled that was cleared after it succeeded, and forget it."""
        memory.keep_plan(replace(stored, state="replacing"))
        numbers = range(1, stored.batches + 1)
        now = datetime.now(timezone.utc)
        times: dict[str, datetime | None] = {}
        for batch in filter(None, map(memory.batch, numbers)):
            times |= batch.still_scheduled(now)
        if times:
            tags = task_tags(self._context)
            outcomes = cancel_each(self._hook, list(times), log=self._log, tags=tags, times=times)
            summary = CancelSummary.of(outcomes)
            self._log.info("Cleared after it succeeded. Of the messages it scheduled before: %s", summary)
            summary.raise_if_unknown()
        for number in numbers:
            memory.forget_batch(number)

    def _raise_unless_successful(self, sender: BulkSender, results: Results) -> None:
        """Raise the error with which the task ends, if any."""
        counts = results.counts
        summary = in_words(counts)
        self._log.info("%s", summary)
        if sender.stop is not None:
            if not self._memory and sender.may_have_sent and not isinstance(sender.stop, AirflowFailException):
                raise AirflowFailException(f"{summary}. Stopped: {sender.stop!r}. {NO_MEMORY}") from sender.stop
            raise sender.stop
        if counts["unknown"]:
            self._raise_unknown(sender, summary)
        if counts["invalid"] and self._settings.on_invalid == "fail":
            raise AirflowFailException(
                f"{summary}: the time of some rows passed before they were posted; clear this task after changing "
                "their time, or set on_past to 'skip' or 'send_now'"
            )
        if too_many_rejected(counts["rejected"], counts["rejected"] + counts["accepted"], self._settings.max_failed):
            raise AirflowFailException(
                f"{summary}, which is more than max_failed={self._settings.max_failed!r} allows. What was accepted "
                "stays accepted; clear this task to post only what was rejected"
            )
        if not counts["accepted"] and not counts["rejected"]:
            raise AirflowSkipException(f"{summary}: nothing was sent")

    def _raise_unknown(self, sender: BulkSender, summary: str) -> None:
        batches = "; ".join(sender.unknown_batches[:BATCHES_NAMED])
        if self._settings.at_least_once and self._memory:
            raise sender.first_lost or LostResponseError(batches)
        more = len(sender.unknown_batches) - BATCHES_NAMED
        if more > 0:
            batches = f"{batches}; and {more} more batches"
        sender.confirm_unknown()
        raise AirflowFailException(f"{summary}. {batches}. {CHECK_FIRST if self._memory else NO_MEMORY}")

    def _close(self, results: Results) -> dict[str, Any]:
        try:
            return results.close()
        except Exception as error:
            if self._memory:
                raise  # a retry sends nothing again, and writes them
            self._push(results.as_table().close())
            raise AirflowFailException(
                f"The results could not be written: {error}. They are in the XCom instead"
            ) from error

    def _report(self, results: Results) -> None:
        """Write the results of a task that does not succeed, and push its XCom."""
        try:
            xcom = results.close()
        except Exception:
            self._log.exception("The results could not be written; the XCom holds them instead")
            xcom = results.as_table().close()
        self._push(xcom)

    def _report_stored(self, memory: BulkMemory, stored: Plan, results: Results) -> None:
        """Report what an earlier try sent, if the rows of this one are other rows or cannot be read."""
        for number in range(1, stored.batches + 1):
            try:
                known = stored.results(number, memory.batch(number))
            except Exception as error:
                self._log.warning(
                    "What an earlier try stored of batch %s could not be read", f"{number:,}", exc_info=True
                )
                known = [RowResult(result.row, "unknown", error=str(error)) for result in stored.results(number, None)]
            for result in known:
                results.add(result)
        self._report(results)

    def _push(self, xcom: dict[str, Any]) -> None:
        try:
            self._context["ti"].xcom_push(key="return_value", value=xcom)
        except Exception:
            self._log.exception("The XCom could not be pushed")

    def _end(self, memory: BulkMemory, plan: Plan) -> None:
        try:
            memory.keep_plan(replace(plan, state="ended"))
            self._ended = plan
        except Exception:
            # Everything is sent. To fail now would only report the contrary.
            self._log.exception("The success could not be stored: clearing this task will not send again")

    def _take_back_success(self) -> None:
        """Leave the XCom of a task that sent everything, but was interrupted before it ended."""
        if self._xcom is not None:
            self._push(self._xcom)
        if self._memory and self._ended:
            try:
                self._memory.keep_plan(self._ended)
            except Exception:
                self._log.exception("The failure could not be stored: clearing this task will send again")
