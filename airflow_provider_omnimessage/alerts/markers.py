"""The tasks of a dead man's switch that do nothing, and what all of its tasks have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_omnimessage._compat import BaseOperator

if TYPE_CHECKING:
    from airflow_provider_omnimessage.alerts.deadman import DeadMansSwitch


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
                from airflow_provider_omnimessage.alerts.wiring import wire

                wire(switch, self.dag)
        return super().downstream_list

    def _find_switch(self) -> DeadMansSwitch | None:
        """Return the switch in this task's DAG; ``None`` in a part of a DAG without any task of its group."""
        from airflow_provider_omnimessage.alerts.deadman import DeadMansSwitch

        switch = self.dag.task_group.get_task_group_dict().get(self.switch_id)
        return switch if isinstance(switch, DeadMansSwitch) else None


class MarkerOperator(SwitchTask):
    """A task that does nothing. The scheduler sets it to success without a worker."""

    ui_color = "#f4f4f4"
    _is_empty = True
    #: Whether it stands between a task of the work and ``disarm``, and not around ``arm``.
    after_work = False

    def execute(self, context: Any) -> None:
        """Do nothing."""
