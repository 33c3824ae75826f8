"""The deadline of every example, for each month of a year, with and without a data interval."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import pytest

from airflow_provider_omnimessage.alerts import DeadMansSwitch
from airflow_provider_omnimessage.alerts.deadlines import Deadline, cron_times, due_time, parse_time_of_day

EXAMPLES = Path(__file__).parent.parent.parent / "example_dags"
WITH_A_SWITCH = sorted(path for path in EXAMPLES.glob("*.py") if "DeadMansSwitch(" in path.read_text())


def switches(path: Path) -> list[DeadMansSwitch]:
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(path)
    assert bag.import_errors == {}
    groups = [group for dag in bag.dags.values() for group in dag.task_group.get_task_group_dict().values()]
    return [group for group in groups if isinstance(group, DeadMansSwitch)]


@pytest.mark.parametrize("path", WITH_A_SWITCH, ids=lambda path: path.stem)
@pytest.mark.parametrize("has_interval", [True, False], ids=["with a data interval", "without one"])
def test_the_deadline_of_an_example_is_after_its_run_and_at_its_time_of_day(path, has_interval):
    for switch in switches(path):
        arm = switch.arm
        assert arm.time_to_send is None, "examples use by= or within="
        deadline = Deadline(arm.by, arm.within, arm.time_to_send, arm.days, arm.timezone)
        runs = cron_times(arm.dag) or [datetime(2026, month, 15, 5, tzinfo=ZoneInfo("UTC")) for month in range(1, 13)]
        assert len({run.month for run in runs}) == 12
        for run in runs:
            dag_run = SimpleNamespace(data_interval_end=run if has_interval else None, run_after=run)
            late_start = run + timedelta(minutes=10)
            found = deadline.resolve(due_time({"dag_run": dag_run}, late_start), late_start, "UTC")
            assert found.utc > run
            if arm.by is not None:
                local = found.utc.astimezone(ZoneInfo(arm.timezone))
                assert local.time() == parse_time_of_day(arm.by)
                assert found.utc - run < timedelta(hours=12), "a clock change must not add a day"
            else:
                assert found.utc - run == arm.within
