"""How an error of the API becomes the end of a task: what may pass later is retried, what will not is not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from airflow_provider_omnimessage._compat import AirflowFailException, is_made_at_run_time
from airflow_provider_omnimessage.api.errors import OmnimessageError


@contextmanager
def task_failures(doubt: str = "", *, again: bool = False) -> Iterator[None]:
    """
    Let errors end the task as they should.

    Bad input, bad credentials and unknown outcomes raise ``AirflowFailException``, which Airflow does not retry. What
    surely was not processed and may pass later goes through as it is, and takes the task's retries.

    :param doubt: what to check by hand where the request may have been processed and must not be made twice; empty
        where making it again does no harm.
    :param again: whether a request that may have been processed is to be made again: it takes the task's retries.
    """
    try:
        yield
    except OmnimessageError as error:
        if error.maybe_processed and again:
            raise
        if error.maybe_processed and doubt:
            raise AirflowFailException(f"{error}. {doubt}") from error
        if error.may_pass:
            raise
        raise AirflowFailException(str(error)) from error


@contextmanager
def constructor_errors(operator: Any) -> Iterator[None]:
    """
    Let what a constructor refuses be seen in time: while the DAG is parsed, as it is.

    A mapped task is constructed where it runs, and what is refused there would take the task's retries.

    :param operator: which is constructed.
    """
    if not is_made_at_run_time(operator):
        yield
        return
    with task_failures():
        yield
