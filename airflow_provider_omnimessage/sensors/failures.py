"""How a sensor fails: ``soft_fail`` and ``never_fail`` hold for every error, not only for what a wait has found."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from airflow_provider_omnimessage._compat import (
    AirflowFailException,
    AirflowRescheduleException,
    AirflowSkipException,
    BaseSensorOperator,
)
from airflow_provider_omnimessage.tasks.failures import task_failures


@contextmanager
def sensor_failures(sensor: BaseSensorOperator) -> Iterator[None]:
    """
    Raise errors of the API as they end a task, or skip it as Airflow's own sensors do.

    ``soft_fail`` skips it for every error that Airflow would not retry, ``never_fail`` for the others too.
    """
    try:
        with task_failures():
            yield
    except AirflowSkipException as error:
        # Airflow puts a fixed text in place of the reason if a deferred task fails
        if error.__cause__ is not None and str(error.__cause__) != str(error):
            raise AirflowSkipException(str(error.__cause__)) from error.__cause__
        raise
    except AirflowRescheduleException:
        raise
    except Exception as error:
        if sensor.never_fail or (sensor.soft_fail and isinstance(error, AirflowFailException)):
            raise AirflowSkipException(str(error) or repr(error)) from error
        raise
