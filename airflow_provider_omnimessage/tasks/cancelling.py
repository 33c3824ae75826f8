"""Cancel one message or thousands, within one time budget, and report the outcome of each."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_omnimessage import metrics
from airflow_provider_omnimessage.api.cancel_result import Cancellation, CancelResult
from airflow_provider_omnimessage.api.errors import OmnimessageError
from airflow_provider_omnimessage.api.failure_streak import FailureStreak
from airflow_provider_omnimessage.tasks.parallel import Progress, a_few_at_a_time

if TYPE_CHECKING:
    from datetime import datetime

    from airflow.sdk.types import Logger

    from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook

#: Seconds that each id adds to the time budget. A call that succeeds takes a tenth of that, ten at a time.
SECONDS_PER_ID = 0.5
#: The share of the budget that the first of several ids may take: it is tried alone, as a probe.
PROBE_SHARE = 0.25
#: How many ids, and how many errors, are kept and reported one by one.
LISTED = 100


class CancelOutcome(NamedTuple):
    """
    The outcome of cancelling one message: either ``cancellation`` or ``error`` is set.

    :param cancellation: what is known about the message now.
    :param error: why nothing is known. The message may still be scheduled.
    :param was_tried: false if the id was left out because of ``error``, which an earlier id had.
    """

    omnimessage_id: str
    cancellation: Cancellation | None = None
    error: OmnimessageError | None = None
    was_tried: bool = True

    def __str__(self) -> str:
        """Return the id and its outcome in words."""
        if self.cancellation is not None:
            return f"{self.omnimessage_id} {self.cancellation}"
        not_tried = "" if self.was_tried else "not tried, because an earlier one failed: "
        return f"{self.omnimessage_id}: {not_tried}{self.error}"

    @property
    def is_cancelled(self) -> bool:
        """Whether nobody gets the message: it was cancelled now, or before."""
        return self.cancellation is not None and self.cancellation.is_cancelled


def cancel_each(
    hook: OmnimessageHook,
    omnimessage_ids: Sequence[str],
    *,
    log: Logger,
    tags: Mapping[str, str],
    times: Mapping[str, datetime | None] | None = None,
    seconds: float | None = None,
) -> Iterator[CancelOutcome]:
    """
    Cancel messages and yield one outcome for each id, in order. Cancelling again does no harm.

    The first id is tried alone, the others a few at a time. A message that cannot be cancelled does not stop the
    others. Rejected credentials do, and so do a few failures of the same kind in a row.

    :param hook: its session is opened in the calling thread and shared by all calls.
    :param log: receives the progress every few seconds.
    :param tags: of the metric ``omnimessage.cancelled``.
    :param times: the ``time_to_send`` of messages, as far as it is known, by id. If Messente neither cancels a message
        nor shows that it was sent, its time decides; without it, the outcome is an error.
    :param seconds: time budget for all ids together. Default: the connection's ``deadline`` plus
        :data:`SECONDS_PER_ID` for each id.
    """
    if not omnimessage_ids:
        return
    hook.get_conn()
    if seconds is None:
        seconds = hook.settings.deadline + SECONDS_PER_ID * len(omnimessage_ids)
    first, *others = omnimessage_ids
    end = time.monotonic() + seconds
    end_of_probe = end - seconds * (1 - PROBE_SHARE) if others else end
    streak = FailureStreak(calls_are_repeated=True)

    def cancel(omnimessage_id: str, end: float = end) -> CancelOutcome:
        if streak.stopped_by is not None:
            return CancelOutcome(omnimessage_id, error=streak.stopped_by, was_tried=False)
        try:
            with hook.within(end - time.monotonic()):
                cancellation = hook.try_to_cancel(omnimessage_id, (times or {}).get(omnimessage_id))
        except OmnimessageError as error:
            streak.record_failure(error)
            return CancelOutcome(omnimessage_id, error=error)
        streak.record_success()
        return CancelOutcome(omnimessage_id, cancellation)

    def outcomes() -> Iterator[CancelOutcome]:
        yield cancel(first, end_of_probe)
        for _, outcome in a_few_at_a_time(cancel, others):
            yield outcome

    progress = Progress(len(omnimessage_ids), "messages", log)
    cancelled = 0
    try:
        for number, outcome in enumerate(outcomes(), 1):
            if outcome.cancellation is not None:
                cancelled += outcome.cancellation.result is CancelResult.CANCELLED
            progress.at(number)
            yield outcome
    finally:
        metrics.count("cancelled", tags, cancelled)


class CancelSummary:
    """The outcomes of cancelling many messages: numbers, and the first ids that were not cancelled."""

    def __init__(self) -> None:
        self.counts: Counter[CancelResult] = Counter()
        self.failed = 0
        self.not_tried = 0
        self.not_cancelled: list[str] = []
        self.too_late_in_words: list[str] = []
        self.errors: list[OmnimessageError] = []

    @classmethod
    def of(cls, outcomes: Iterable[CancelOutcome]) -> CancelSummary:
        """Count outcomes as they come."""
        summary = cls()
        for outcome in outcomes:
            summary.add(outcome)
        return summary

    def add(self, outcome: CancelOutcome) -> None:
        """Count one outcome."""
        if outcome.cancellation is not None:
            self.counts[outcome.cancellation.result] += 1
            if not outcome.is_cancelled and len(self.too_late_in_words) < LISTED:
                self.too_late_in_words.append(str(outcome))
        elif not outcome.was_tried:
            self.not_tried += 1
        elif outcome.error is not None:
            self.failed += 1
            if len(self.errors) < LISTED:
                self.errors.append(outcome.error)
        if not outcome.is_cancelled and len(self.not_cancelled) < LISTED:
            self.not_cancelled.append(outcome.omnimessage_id)

    @property
    def cancelled(self) -> int:
        """How many messages are cancelled, now or before."""
        return self.counts[CancelResult.CANCELLED] + self.counts[CancelResult.ALREADY_CANCELLED]

    @property
    def too_late(self) -> int:
        """How many messages cannot be cancelled any more: they were sent, or Messente does not know them."""
        return self.counts[CancelResult.ALREADY_SENT] + self.counts[CancelResult.UNKNOWN]

    def raise_if_unknown(self) -> None:
        """
        Raise if the outcome of any message is unknown.

        :raises OmnimessageError: the first error that may pass on a retry, else the first error.
        """
        for error in self.errors:
            if error.may_pass or error.maybe_processed:
                raise error
        if self.errors:
            raise self.errors[0]

    def as_dict(self) -> dict[str, Any]:
        """Return the XCom of the task."""
        return {
            "cancelled": self.cancelled,
            "sent_already": self.counts[CancelResult.ALREADY_SENT],
            "unknown_to_messente": self.counts[CancelResult.UNKNOWN],
            "failed": self.failed,
            "not_tried": self.not_tried,
            "first_not_cancelled": self.not_cancelled,
        }

    def __str__(self) -> str:
        """Return the numbers in words, without the ids."""
        parts = [f"{self.cancelled:,} cancelled"]
        if self.counts[CancelResult.ALREADY_SENT]:
            parts.append(f"{self.counts[CancelResult.ALREADY_SENT]:,} already sent")
        if self.counts[CancelResult.UNKNOWN]:
            parts.append(f"{self.counts[CancelResult.UNKNOWN]:,} unknown to Messente, or of another account")
        if self.failed:
            parts.append(f"{self.failed:,} failed ({self.errors[0]})")
        if self.not_tried:
            parts.append(f"{self.not_tried:,} not tried after that")
        return ", ".join(parts)
