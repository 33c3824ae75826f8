"""Makes one call for each of many messages within one time limit, for a command."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from airflow_provider_omnimessage.api.errors import NotFoundError, OmnimessageError
from airflow_provider_omnimessage.api.failure_streak import FailureStreak
from airflow_provider_omnimessage.cli.terminal import Exit, exit_code
from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook

#: Seconds that each message adds to the time that a command may take, beside the connection's ``deadline``.
SECONDS_PER_CALL = 0.5

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Called(Generic[T, R]):
    """
    The outcome of the call for one message: either ``result`` or ``error`` is set.

    :param item: what the call was made for.
    :param was_tried: false if no request was made because of ``error``, which an earlier call had.
    """

    item: T
    result: R | None = None
    error: OmnimessageError | None = None
    was_tried: bool = True

    @property
    def code(self) -> Exit:
        """The exit code, if the call has failed."""
        return Exit.DONE if self.error is None else exit_code(self.error, changes_something=False)

    @property
    def reason(self) -> str:
        """Why there is no result, in words."""
        if isinstance(self.error, NotFoundError):
            return "unknown to Messente, or belongs to another account"
        not_tried = "" if self.was_tried else "not tried, because an earlier one failed: "
        return f"{not_tried}{self.error}"


def call_each(hook: OmnimessageHook, items: Sequence[T], call: Callable[[T], R]) -> Iterator[Called[T, R]]:
    """
    Make a call for each item within one time budget, and yield each outcome.

    One wrong id hides no other result. A connection that cannot be used, rejected credentials, or the same failure
    three times in a row end it: the others are not tried.
    """
    streak = FailureStreak(calls_are_repeated=True)
    try:
        seconds = hook.settings.deadline + SECONDS_PER_CALL * len(items)
    except OmnimessageError as error:
        for number, item in enumerate(items):
            yield Called(item, error=error, was_tried=number == 0)
        return
    with hook.within(seconds):
        for item in items:
            if streak.stopped_by is not None:
                yield Called(item, error=streak.stopped_by, was_tried=False)
                continue
            try:
                result = call(item)
            except OmnimessageError as error:
                streak.record_failure(error)
                yield Called(item, error=error)
            else:
                streak.record_success()
                yield Called(item, result)
