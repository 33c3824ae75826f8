"""Cancels thousands of messages, a few at a time, and counts what came of it."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_omnimessage import metrics
from airflow_provider_omnimessage.api.delivery import Cancellation, Cancelled
from airflow_provider_omnimessage.api.errors import AuthenticationError, OmnimessageError
from airflow_provider_omnimessage.bulk_send import Progress

if TYPE_CHECKING:
    from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook

T = TypeVar("T")
R = TypeVar("R")

#: Calls under way at a time, where many are made: as many as the session keeps connections.
IN_FLIGHT = 10
#: So many ids are told one by one.
IDS_TOLD = 100


@dataclass
class Cancellations:
    """What came of cancelling many messages: numbers, and the ids of the first that could not be cancelled."""

    counts: Counter[Cancelled] = field(default_factory=Counter)
    failed: int = 0
    not_cancelled: list[str] = field(default_factory=list)
    errors: list[OmnimessageError] = field(default_factory=list)

    @property
    def cancelled(self) -> int:
        """How many are cancelled, now or before."""
        return self.counts[Cancelled.NOW] + self.counts[Cancelled.BEFORE]

    @property
    def too_late(self) -> int:
        """How many cannot be cancelled any more: they were sent, or Messente does not know them."""
        return self.counts[Cancelled.SENT] + self.counts[Cancelled.UNKNOWN]

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
            "sent_already": self.counts[Cancelled.SENT],
            "unknown_to_messente": self.counts[Cancelled.UNKNOWN],
            "failed": self.failed,
            "first_not_cancelled": self.not_cancelled,
        }

    def __str__(self) -> str:
        """Say it in words, without the ids."""
        told = [f"{self.cancelled:,} are cancelled"]
        if self.counts[Cancelled.SENT]:
            told.append(f"{self.counts[Cancelled.SENT]:,} had been sent already")
        if self.counts[Cancelled.UNKNOWN]:
            told.append(f"{self.counts[Cancelled.UNKNOWN]:,} are unknown to Messente, or another account's")
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
        metrics.count("cancelled", tags, found.counts[Cancelled.NOW])
    return found


def a_few_at_a_time(work: Callable[[T], R], items: Iterable[T]) -> Iterator[tuple[T, R]]:
    """
    Do something to many things, in their order, several of them at a time. Whoever stops looking stops it.

    :param work: what to do; called in threads.
    :param items: with what.
    """
    waiting: deque[tuple[T, Future[R]]] = deque()
    with ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="omnimessage") as pool:
        with suppress(GeneratorExit):
            for item in items:
                waiting.append((item, pool.submit(work, item)))
                if len(waiting) >= 2 * IN_FLIGHT:
                    first, future = waiting.popleft()
                    yield first, future.result()
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result()
        for _, future in waiting:
            future.cancel()
