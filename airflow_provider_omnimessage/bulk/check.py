"""Check every row of a bulk send, and compare the rows with what an earlier try stored, before anything is sent."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timezone

from airflow_provider_omnimessage.api.bulk import Composer, RowProblems
from airflow_provider_omnimessage.api.errors import InvalidInputError, Problem, UnknownZoneError
from airflow_provider_omnimessage.api.estimate import Estimate
from airflow_provider_omnimessage.api.send_times import ChosenTime
from airflow_provider_omnimessage.bulk.memory import (
    Batch,
    ChangedRecipientsError,
    fingerprint_of_recipients,
    have_same_key,
)
from airflow_provider_omnimessage.bulk.pending import OnPast
from airflow_provider_omnimessage.bulk.rows import Spool
from airflow_provider_omnimessage.bulk.windows import RowWindows

PAST_ADVICE = "use a future time, or set on_past to 'skip' or 'send_now'"


class StoredBatches:
    """
    Compare the recipients, batch by batch, with those that an earlier try began to send to.

    Rows are passed in order, see :meth:`add`. :meth:`close` ends the last batch.

    :param batch_size: rows in a batch.
    :param secret: the key of the fingerprints.
    :param look_up: returns what an earlier try stored of a batch; ``None``: there was no earlier try.
    :param count: how many batches the earlier try had.
    """

    def __init__(
        self,
        batch_size: int,
        secret: str,
        look_up: Callable[[int], Batch | None] | None = None,
        count: int = 0,
    ) -> None:
        #: Of each batch's recipients now.
        self.fingerprints: list[str] = []
        #: The first batch whose recipients changed.
        self.changed: ChangedRecipientsError | None = None
        #: Whether the password changed, so that only numbers of recipients could be compared.
        self.has_new_key = False
        self._batch_size = batch_size
        self._secret = secret
        self._look_up = look_up
        self._count = count
        self._number = 0
        self._stored: Batch | None = None
        self._recipients: list[str] = []

    def was_begun(self, row: int) -> bool:
        """Return whether an earlier try began to post the batch of a row."""
        self._go_to(row)
        return self._stored is not None

    def add(self, row: int, to: str) -> None:
        """
        Add a row that can be sent.

        :param row: its number, from 1.
        :param to: its recipient.
        """
        self._go_to(row)
        self._recipients.append(f"{row} {to}")

    def close(self) -> None:
        """End the last batch. Stored batches without any rows now have other recipients too."""
        last = self._number
        if last:
            self._end_batch()
        for number in range(last + 1, self._count + 1):
            if self._look_up and self._look_up(number):
                self._note_change(number)

    def _go_to(self, row: int) -> None:
        number = (row - 1) // self._batch_size + 1
        while self._number < number:
            if self._number:
                self._end_batch()
            self._number += 1
            self._stored = self._look_up(self._number) if self._look_up else None
            self._recipients = []

    def _end_batch(self) -> None:
        fingerprint = fingerprint_of_recipients(self._recipients, self._secret)
        self.fingerprints.append(fingerprint)
        if self._stored is None:
            return
        self.has_new_key = self.has_new_key or not have_same_key(self._stored.fingerprint, fingerprint)
        if self._stored.has_other_recipients(fingerprint, len(self._recipients)):
            self._note_change(self._number)

    def _note_change(self, number: int) -> None:
        self.changed = self.changed or ChangedRecipientsError(number, (number - 1) * self._batch_size + 1)


class CheckedRows:
    """
    Check rows, and put those that can be sent into the spool.

    :param composer: builds the omnimessages.
    :param spool: receives every row.
    :param batches: what an earlier try stored.
    :param on_past: what happens to a row whose time is in the past. Each row is judged again when it is posted.
    :param past_advice: what to do about a time that ``"fail"`` rejects.
    :param estimate: counts every row that would be sent.
    """

    def __init__(
        self,
        composer: Composer,
        spool: Spool,
        batches: StoredBatches,
        *,
        on_past: OnPast,
        past_advice: str = PAST_ADVICE,
        estimate: Estimate | None = None,
    ) -> None:
        self.problems = RowProblems()
        #: Rows that are left out because the zone of their recipient is unknown.
        self.dropped = 0
        #: Rows that are left out because their time is in the past.
        self.skipped = 0
        self.windows = RowWindows(composer.chooser)
        self._composer = composer
        self._spool = spool
        self._batches = batches
        self._on_past = on_past
        self._past_advice = past_advice
        self._estimate = estimate

    def add_all(self, rows: Iterable[object]) -> None:
        """
        Check rows.

        :param rows: the source, with an :class:`InvalidInputError` in place of each row that cannot be read.
        """
        for number, row in enumerate(rows, 1):
            try:
                self._add(number, row)
            except UnknownZoneError as error:
                self.dropped += 1
                self._spool.leave_out(str(error), "skipped")
            except InvalidInputError as error:
                self.problems.add(number, error.problems)
                self._spool.leave_out(str(error))
        # a batch that consists of invalid rows only has a fingerprint too
        if self._spool.rows:
            self._batches.was_begun(self._spool.rows)
        self._batches.close()

    def _add(self, number: int, row: object) -> None:
        if isinstance(row, InvalidInputError):
            raise row
        composed = self._composer.compose(row)
        choice = composed.choice
        time = choice.chosen.utc if choice.chosen else None
        is_past = time is not None and self._is_past(number, time, choice)
        is_sent = not is_past or self._on_past == "send_now"
        if is_past and self._on_past == "fail":
            problem = Problem("time_to_send", f"{choice.chosen} is in the past; {self._past_advice}")
            self.problems.add(number, [problem])
        self.skipped += is_past and self._on_past == "skip"
        if self._estimate is not None and is_sent:
            now = datetime.now(timezone.utc)
            sent_at = self._composer.chooser.send_now(choice, now) if is_past else choice
            self._estimate.add(number, composed.body, sent_at)
        # a row that is not sent is not moved either
        self._spool.add(time, composed.body, self.windows.of(number, choice if is_sent else replace(choice, reason="")))
        self._batches.add(number, composed.to)

    def _is_past(self, number: int, time: datetime, choice: ChosenTime) -> bool:
        return not choice.is_for_now and time <= datetime.now(timezone.utc) and not self._batches.was_begun(number)
