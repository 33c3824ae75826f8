"""The tasks of a dead man's switch that do nothing, and what all of its tasks have in common."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, Protocol, runtime_checkable

from airflow_provider_omnimessage._compat import BaseOperator


@runtime_checkable
class Switch(Protocol):
    """What the wiring and the tasks of a switch need to know of its group."""

    def iter_tasks(self) -> Iterator[Any]:
        """Iterate over the tasks of the group. To iterate over the group itself is an error in some mapped groups."""

    def task_id_of(self, name: str) -> str:
        """Return the id of one of the switch's own tasks."""

    def marker_after(self, task: Any, dag: Any) -> MarkerOperator:
        """Return the empty task that stands directly after a task of the work."""

    def drop_markers(self, dag: Any, keep: Collection[str]) -> None:
        """Remove the empty tasks that stand after no task of the work any more."""

    def invalid(self, reason: str) -> Exception:
        """Return the error for a switch that cannot guard its work."""

    def wire_in(self, dag: Any) -> None:
        """Set the edges between the switch and its work anew."""


class SwitchTask(BaseOperator):
    """
    A task of a dead man's switch.

    :param switch_id: the id of the switch's group.
    """

    def __init__(self, *, switch_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.switch_id = switch_id

    @property
    def downstream_list(self) -> Any:
        """
        List what is directly downstream.

        Airflow asks each setup for this when it validates a DAG. By then the DAG is complete, and the switch is wired.
        """
        if self.is_setup:
            switch = self._find_switch()
            if switch is not None:
                switch.wire_in(self.dag)
        return super().downstream_list

    def _find_switch(self) -> Switch | None:
        """Return the switch in this task's DAG; ``None`` in a part of a DAG without any task of its group."""
        found: object = self.dag.task_group.get_task_group_dict().get(self.switch_id)
        return found if isinstance(found, Switch) else None


class MarkerOperator(SwitchTask):
    """A task that does nothing. The scheduler sets it to success without a worker."""

    ui_color = "#f4f4f4"
    _is_empty = True
    #: Whether it stands between a task of the work and ``disarm``, and not around ``arm``.
    after_work = False

    def execute(self, context: Any) -> None:
        """Do nothing."""
