"""Links of tasks, made when Airflow asks for them: a process that only imports operators shows none."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_omnimessage._compat.links import BaseOperatorLink


class MessageLinks:
    """The ``operator_extra_links`` of an operator: the link to its message."""

    def __get__(self, task: object, operator: type[object]) -> tuple[BaseOperatorLink, ...]:
        """Return the links of a task or of its class."""
        from airflow_provider_omnimessage.links import OmnimessageLink

        return (OmnimessageLink(),)
