"""The XComs of a running task, none of which is lost in an outage of Airflow's API server."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_provider_omnimessage.tasks.posting import keep_trying

if TYPE_CHECKING:
    from airflow.sdk.types import Logger, RuntimeTaskInstanceProtocol


class XComs:
    """
    Push the XComs of a task at once, if that is possible, and otherwise at its end: nothing waits for them before that.

    :param ti: the running task instance.
    """

    def __init__(self, ti: RuntimeTaskInstanceProtocol, log: Logger) -> None:
        self._ti = ti
        self._log = log
        self._late: dict[str, Any] = {}

    def push(self, key: str, value: Any) -> None:
        """Push an XCom; if that fails, :meth:`settle` does it."""
        try:
            self._ti.xcom_push(key=key, value=value)
        except Exception as error:
            self._late[key] = value
            self._log.warning("The XCom '%s' is pushed at the end of the task: %s", key, error)

    def settle(self) -> None:
        """Push what could not be pushed, when nothing else is left to do."""
        for key, value in self._late.items():
            keep_trying(partial(self._ti.xcom_push, key=key, value=value), f"The XCom '{key}'", self._log)
        self._late.clear()
