"""The only place that knows Airflow versions: what moved between 2.11 and 3.x, under one name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.sdk import BaseHook, BaseOperator, BaseOperatorLink
    from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
else:
    try:
        from airflow.sdk import BaseHook, BaseOperator, BaseOperatorLink
    except ImportError:  # Airflow 2
        from airflow.hooks.base import BaseHook
        from airflow.models.baseoperator import BaseOperator
        from airflow.models.baseoperatorlink import BaseOperatorLink
    try:
        from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
    except ImportError:  # Airflow 3.1 and older
        from airflow.exceptions import AirflowFailException, AirflowSkipException

__all__ = [
    "AirflowFailException",
    "AirflowSkipException",
    "BaseHook",
    "BaseOperator",
    "BaseOperatorLink",
    "stored_xcom",
]


def stored_xcom(ti_key: Any, key: str) -> Any:
    """
    Read an XCom of a task that has run.

    :param ti_key: which task of which run.
    :param key: the XCom's key.
    :return: its value, or ``None`` where there is none.
    """
    try:
        from airflow.sdk.execution_time.xcom import XCom as Stored
    except ImportError:  # Airflow 2
        from airflow.models.xcom import XCom as Stored  # type: ignore[no-redef]
    return Stored.get_value(ti_key=ti_key, key=key)
