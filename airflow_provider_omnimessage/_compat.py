"""The only place that knows Airflow versions: what moved between 2.11 and 3.x, under one name."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.sdk import BaseHook, BaseNotifier, BaseOperator, TaskGroup, Variable
    from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
else:
    try:
        from airflow.sdk import BaseHook, BaseOperator
    except ImportError:  # Airflow 2
        from airflow.hooks.base import BaseHook
        from airflow.models.baseoperator import BaseOperator
    try:
        from airflow.sdk import BaseNotifier, TaskGroup, Variable
    except ImportError:  # Airflow 2
        from airflow.models import Variable
        from airflow.notifications.basenotifier import BaseNotifier
        from airflow.utils.task_group import TaskGroup
    try:
        from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
    except ImportError:  # Airflow 3.1 and older
        from airflow.exceptions import AirflowFailException, AirflowSkipException

__all__ = [
    "AirflowFailException",
    "AirflowSkipException",
    "BaseHook",
    "BaseNotifier",
    "BaseOperator",
    "TaskGroup",
    "Variable",
]
