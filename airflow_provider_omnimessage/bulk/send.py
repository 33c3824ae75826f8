"""
Send the checked rows, batch by batch, and remember each batch before and after, so that nobody gets two messages.

Every batch passes through the same steps: open it, store that it is about to be posted, post it, read the response,
store the result, pass on the results of its rows. Once :attr:`BulkSender.stop` is set, the remaining batches are opened
and passed on, but not posted. That happens if

- a batch surely was not sent: no connection, rate limited beyond the deadline, credentials refused;
- two responses in a row were lost;
- a batch could not be stored before it was posted;
- the task is interrupted, for example by its ``execution_timeout``.
"""

from __future__ import annotations

import contextvars
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeGuard

from airflow_provider_omnimessage.api.errors import LostResponseError, OmnimessageError, RejectedError
from airflow_provider_omnimessage.api.responses import NotAccepted
from airflow_provider_omnimessage.bulk.memory import ChangedRecipientsError
from airflow_provider_omnimessage.bulk.pending import Entry, NothingToPostError, PendingBatch, SendSettings
from airflow_provider_omnimessage.tasks.memory import Since
from airflow_provider_omnimessage.tasks.parallel import Progress
from airflow_provider_omnimessage.tasks.posting import keep_trying

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

    from airflow_provider_omnimessage.bulk.memory import Batch, BulkMemory
    from airflow_provider_omnimessage.bulk.results import Results
    from airflow_provider_omnimessage.bulk.rows import CheckedRow, Spool
    from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook

#: After so many lost responses in a row nothing more is posted: each further batch would only be unknown too.
LOST_IN_A_ROW = 2


class StoppedError(OmnimessageError):
    """The task was stopped before a batch was posted."""


class BulkSender:
    """
    Post the batches of one task that are not known to be accepted.

    :param hook: makes the calls.
    :param settings: how.
    :param memory: of this task; ``None``: this task remembers nothing.
    :param results: receives the result of each row, in order.
    :param log: the task's logger.
    """

    def __init__(
        self,
        hook: OmnimessageHook,
        settings: SendSettings,
        memory: BulkMemory | None,
        results: Results,
        log: Logger,
    ) -> None:
        self._hook = hook
        self._settings = settings
        self._memory = memory
        self._results = results
        self._log = log
        self._batches: deque[PendingBatch] = deque()
        self._rows_done = 0
        self._lost_in_a_row = 0
        #: Why nothing more is posted. May be set from another thread.
        self.stop: BaseException | None = None
        #: The error of the first lost response.
        self.first_lost: OmnimessageError | None = None
        #: For each batch that may have been accepted: which rows, and why that is unknown.
        self.unknown_batches: list[str] = []
        self._unknown_records: dict[int, Batch] = {}
        #: What could not be stored when its response came: its name, and what stores it.
        self._unstored: list[tuple[str, Callable[[], None]]] = []
        #: Whether Airflow interrupts the task, which then has to end soon.
        self.interrupted = threading.Event()
        self.scheduled = self.sent = self.unknown = 0

    @property
    def may_have_sent(self) -> bool:
        """Whether a retry that remembers nothing could send a second message that the guarantee forbids."""
        in_flight = any(batch.response is not None for batch in self._batches)
        is_unknown = self.unknown > 0 and not self._settings.at_least_once
        return in_flight or is_unknown or self.scheduled + self.sent > 0

    def run(self, spool: Spool, fingerprints: Sequence[str]) -> None:
        """
        Post the batches. The results report what is not posted, and :attr:`stop` says why.

        :param spool: the checked rows.
        :param fingerprints: of each batch's recipients.
        """
        progress = Progress(spool.rows, "rows", self._log, self._memory.show if self._memory else None)
        self._hook.get_conn()  # opened here: the threads share it
        with ThreadPoolExecutor(self._settings.parallel, thread_name_prefix="omnimessage") as pool:
            try:
                for number, rows in enumerate(spool.batches(self._settings.batch_size), 1):
                    batch = self._open_or_stop(number, rows, fingerprints[number - 1])
                    self._batches.append(batch)
                    if batch.posted:
                        self._post(batch, pool)
                    self._collect(self._settings.parallel - 1, progress)
            finally:
                self._collect(0, progress)
                self._store_the_rest()

    def _open_or_stop(self, number: int, rows: Sequence[CheckedRow], fingerprint: str) -> PendingBatch:
        """Open a batch. If that fails, nothing more is posted, but the results still have all rows."""
        try:
            return self._open(number, rows, fingerprint)
        except Exception as error:
            self.stop = self.stop or error
            batch = PendingBatch(number, rows, fingerprint, None, self._settings)
            batch.give_up(error)
            return batch

    def _open(self, number: int, rows: Sequence[CheckedRow], fingerprint: str) -> PendingBatch:
        """Find out which rows of a batch must be posted, and what is known of the others."""
        stored = self._memory.batch(number) if self._memory else None
        if stored is not None and stored.has_other_recipients(fingerprint, sum(not row.problem for row in rows)):
            raise ChangedRecipientsError(number, rows[0].row)
        batch = PendingBatch(number, rows, fingerprint, stored, self._settings)
        if stored is not None and set(stored.unknown) - set(batch.posted):
            self._note_unknown(batch, stored)
        return batch

    def _post(self, batch: PendingBatch, pool: ThreadPoolExecutor) -> None:
        if self.stop is not None:
            batch.leave(self.stop)
            return
        self._warn_if_posted_again(batch)
        if self._memory:
            try:
                self._memory.keep_batch(batch.number, batch.record)
            except Exception as error:
                self.stop = error
                batch.leave(error)
                return

        def next_attempt() -> list[bytes]:
            if self.stop is not None:
                raise StoppedError
            return batch.next_attempt()

        batch.response = pool.submit(contextvars.copy_context().run, self._hook.post_bulk, next_attempt)

    def _warn_if_posted_again(self, batch: PendingBatch) -> None:
        stored = batch.stored
        unknown = len(set(stored.unknown) & set(batch.posted)) if stored else 0
        if stored and unknown:
            self._log.warning(
                "%s: %s messages may have been accepted by an earlier try; posting them again because %s",
                batch,
                f"{unknown:,}",
                "the task was cleared"
                if self._settings.mark.since(stored.mark) is Since.CLEAR
                else "of delivery_guarantee='at_least_once'",
            )

    def _collect(self, limit: int, progress: Progress) -> None:
        """Wait until at most ``limit`` calls are in flight, and pass on the finished results in row order."""
        while True:
            in_flight = {batch.response: batch for batch in self._batches if batch.response is not None}
            finished = [response for response in in_flight if response.done()]
            if not finished and len(in_flight) <= limit:
                break
            for response in finished or wait(in_flight, return_when=FIRST_COMPLETED).done:
                self._read(in_flight[response], response)
        while self._batches and self._batches[0].response is None:
            batch = self._batches.popleft()
            for result in batch.results():
                self._results.add(result)
            self._rows_done += len(batch.rows)
            progress.at(self._rows_done)

    def _read(self, batch: PendingBatch, response: Future[list[Entry]]) -> None:
        """Read the response to a batch, store its result, and decide whether to go on."""
        error = response.exception()
        if _is_surely_not_sent(error):
            self._give_up(batch, error)
            return
        if error is None:
            entries = response.result()
            self._lost_in_a_row = 0
        elif isinstance(error, RejectedError):
            self._log.warning("%s: %s", batch, error)
            entries = [NotAccepted(str(error))] * len(batch.posted)
            self._lost_in_a_row = 0
        else:
            entries = [NotAccepted(self._note_lost(batch, error), maybe_processed=True)] * len(batch.posted)
        batch.read(entries)
        self._count(batch, entries)
        batch.response = None
        self._store(batch)

    def _give_up(self, batch: PendingBatch, error: OmnimessageError) -> None:
        """Take back a batch that surely was not sent."""
        batch.response = None
        if not isinstance(error, NothingToPostError):
            if self.stop is None:
                self._log.warning("%s was not sent: %s", batch, error)
                self.stop = error
            batch.leave(self.stop)
        self._restore(batch)

    def _note_lost(self, batch: PendingBatch, error: BaseException) -> str:
        """Return why it is unknown whether a batch was accepted."""
        if not isinstance(error, OmnimessageError):  # it is unknown how far the call got
            self.stop = self.stop or error
            error = LostResponseError(f"bulk send: interrupted: {error!r}")
        self.first_lost = self.first_lost or error
        self._log.warning("%s: %s", batch, error)
        self._lost_in_a_row += 1
        if self._lost_in_a_row >= LOST_IN_A_ROW and self.stop is None:
            self._log.warning("%d responses in a row were lost; nothing more is posted now", LOST_IN_A_ROW)
            self.stop = error
        return str(error)

    def _count(self, batch: PendingBatch, entries: Sequence[Entry]) -> None:
        unknown = 0
        for position, entry in zip(batch.posted, entries, strict=True):
            if isinstance(entry, NotAccepted):
                unknown += entry.maybe_processed
            elif batch.times[position]:
                self.scheduled += 1
            else:
                self.sent += 1
        self.unknown += unknown
        if unknown:
            self._note_unknown(batch, batch.record)

    def _note_unknown(self, batch: PendingBatch, record: Batch) -> None:
        self.unknown_batches.append(f"{batch}: {record.unknown_reason}")
        self._unknown_records[batch.number] = record

    def confirm_unknown(self) -> None:
        """Store that this try reports which batches are unknown, so that a clear posts them again."""
        if self._memory is None:
            return
        try:
            for number, record in self._unknown_records.items():
                self._memory.keep_batch(number, replace(record.marked(self._settings.mark), reported=True))
        except Exception:
            self._log.exception("Unknown batches could not be stored as such: the next clear only reports them again")

    def _store(self, batch: PendingBatch) -> None:
        if self._memory is None:
            return
        store = partial(self._memory.keep_batch, batch.number, batch.record)
        try:
            store()
        except Exception as error:
            # The messages are posted. To stop now would only make it unknown whether they were.
            self._log.warning("%s is stored when the others have been posted: %s", batch, error)
            self._unstored.append((str(batch), store))

    def _store_the_rest(self) -> None:
        """Store what could not be stored when its response came: without that, a retry takes it as unknown."""

        def store() -> None:
            while self._unstored:
                self._unstored[0][1]()
                del self._unstored[0]

        if self._unstored:
            keep_trying(store, "; ".join(name for name, _ in self._unstored), self._log, self.interrupted.wait)

    def _restore(self, batch: PendingBatch) -> None:
        """Store what was known before the batch was about to be posted, since it was not."""
        if self._memory is None:
            return
        try:
            if batch.stored is None:
                self._memory.forget_batch(batch.number)
            else:
                self._memory.keep_batch(batch.number, batch.stored)
        except Exception:
            self._log.exception("%s was not posted, but that could not be stored", batch)


def _is_surely_not_sent(error: BaseException | None) -> TypeGuard[OmnimessageError]:
    return isinstance(error, OmnimessageError) and not error.maybe_processed and not isinstance(error, RejectedError)
