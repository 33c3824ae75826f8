"""Turn an error of the API into the end of a task, with or without Airflow's retries."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow_provider_omnimessage._compat import AirflowFailException, is_made_at_run_time
from airflow_provider_omnimessage.api.errors import OmnimessageError

if TYPE_CHECKING:
    from airflow.sdk.types import Logger


def as_task_failure(error: BaseException, doubt: str = "", *, again: bool = False) -> BaseException:
    """
    Return the exception that ends a task as it should.

    Bad input, bad credentials and unknown outcomes become an ``AirflowFailException``, which Airflow does not retry.
    Everything else is returned as it is: a request that certainly was not processed, and may succeed later, uses the
    task's retries.

    :param doubt: what to check by hand if the request may have been processed and must not be repeated; empty if
        repeating it does no harm.
    :param again: whether a request that may have been processed takes the task's retries.
    """
    if not isinstance(error, OmnimessageError) or (error.maybe_processed and again):
        return error
    if error.maybe_processed and doubt:
        return AirflowFailException(f"{error}. {doubt}")
    return error if error.may_pass else AirflowFailException(str(error))


@contextmanager
def task_failures(doubt: str = "", *, again: bool = False) -> Iterator[None]:
    """Raise errors of the API as :func:`as_task_failure` returns them."""
    try:
        yield
    except OmnimessageError as error:
        failure = as_task_failure(error, doubt, again=again)
        if failure is error:
            raise
        raise failure from error


@contextmanager
def constructor_errors(operator: object) -> Iterator[None]:
    """
    Raise what a constructor rejects, so that it does not use the task's retries.

    While the DAG is parsed, the error is raised as it is. A mapped task is constructed where it runs; there the error
    becomes one that Airflow does not retry.

    :param operator: the operator that is being constructed.
    """
    if not is_made_at_run_time(operator):
        yield
        return
    with task_failures():
        yield


def log_kill(call: str | None, log: Logger) -> None:
    """
    Log what a kill interrupts in a task that sends.

    :param call: the request that has no response yet, if any.
    """
    if call is None:
        log.warning("Killed; no request to Messente was in flight")
    elif "POST" in call:
        log.warning(
            "Killed while waiting for the response to %s. Messente may have accepted the message: unless its "
            "omnimessage_id follows in this log, look for it in Messente's dashboard before it is sent again",
            call,
        )
    else:
        log.warning("Killed while waiting for the response to %s, which may have been carried out", call)
