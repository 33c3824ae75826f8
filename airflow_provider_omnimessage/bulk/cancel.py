"""Cancels thousands of messages, a few at a time, and counts what came of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_omnimessage import metrics
from airflow_provider_omnimessage.api.delivery import Cancellation, CancelResult
from airflow_provider_omnimessage.api.errors import AuthenticationError, OmnimessageError
from airflow_provider_omnimessage.bulk.parallel import Progress, a_few_at_a_time

if TYPE_CHECKING:
    from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook


#: So many ids are told one by one.
IDS_TOLD = 100


@dataclass
class Cancellations:
    """What came of cancelling many messages: numbers, and the ids of the first that could not be cancelled."""

    counts: Counter[CancelResult] = field(default_factory=Counter)
    failed: int = 0
    not_cancelled: list[str] = field(default_factory=list)
    errors: list[OmnimessageError] = field(default_factory=list)

    @property
    def cancelled(self) -> int:
        """How many are cancelled, now or before."""
        return self.counts[CancelResult.CANCELLED] + self.counts[CancelResult.ALREADY_CANCELLED]

    @property
    def too_late(self) -> int:
        """How many cannot be cancelled any more: they were sent, or Messente does not know them."""
        return self.counts[CancelResult.ALREADY_SENT] + self.counts[CancelResult.UNKNOWN]

    def add(self, omnimessage_id: str, outcome: Cancellation | OmnimessageError) -> None:
        """
        Take in what came of one.

        :param omnimessage_id: which.
        :param outcome: the hook's answer, or its error.
        """
        if isinstance(outcome, OmnimessageError):
            self.failed += 1
            if len(self.errors) < IDS_TOLD:
                self.errors.append(outcome)
        else:
            self.counts[outcome.result] += 1
            if outcome.is_cancelled:
                return
        if len(self.not_cancelled) < IDS_TOLD:
            self.not_cancelled.append(omnimessage_id)

    def raise_if_unknown(self) -> None:
        """
        Demand that it is known of each message what became of it.

        :raises OmnimessageError: the first error that may pass, else the first; none where there was none.
        """
        for error in self.errors:
            if error.may_pass or error.maybe_processed:
                raise error
        if self.errors:
            raise self.errors[0]

    def as_dict(self) -> dict[str, Any]:
        """Write it as plain data."""
        return {
            "cancelled": self.cancelled,
            "sent_already": self.counts[CancelResult.ALREADY_SENT],
            "unknown_to_messente": self.counts[CancelResult.UNKNOWN],
            "failed": self.failed,
            "first_not_cancelled": self.not_cancelled,
        }

    def __str__(self) -> str:
        """Say it in words, without the ids."""
        told = [f"{self.cancelled:,} are cancelled"]
        if self.counts[CancelResult.ALREADY_SENT]:
            told.append(f"{self.counts[CancelResult.ALREADY_SENT]:,} had been sent already")
        if self.counts[CancelResult.UNKNOWN]:
            told.append(f"{self.counts[CancelResult.UNKNOWN]:,} are unknown to Messente, or another account's")
        if self.failed:
            told.append(f"of {self.failed:,} it could not be found out ({self.errors[0]})")
        return ", ".join(told)


def cancel_all(
    hook: OmnimessageHook, omnimessage_ids: Sequence[str], log: Any, tags: Mapping[str, str]
) -> Cancellations:
    """
    Cancel many messages; what cannot be cancelled is no reason to stop, but refused credentials are.

    :param hook: makes the calls.
    :param omnimessage_ids: which.
    :param log: where the progress is said.
    :param tags: of the metrics.
    """
    found = Cancellations()
    progress = Progress(len(omnimessage_ids), "messages", log)

    def cancel(omnimessage_id: str) -> Cancellation | OmnimessageError:
        try:
            return hook.try_to_cancel(omnimessage_id)
        except OmnimessageError as error:
            return error

    hook.get_conn()  # made here: the threads are to share it
    try:
        for number, (omnimessage_id, outcome) in enumerate(a_few_at_a_time(cancel, omnimessage_ids), 1):
            found.add(omnimessage_id, outcome)
            progress.at(number)
            if isinstance(outcome, AuthenticationError):
                break
    finally:
        metrics.count("cancelled", tags, found.counts[CancelResult.CANCELLED])
    return found
