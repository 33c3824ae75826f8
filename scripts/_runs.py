"""Runs DAGs with ``dag.test()``, and reports the states and XComs of each run."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from airflow.dag_processing.dagbag import DagBag
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session


def main(plan_file: str, report_file: str) -> None:
    """
    Run a plan.

    :param plan_file: a JSON list of ``{"dag_id", "conf"}``.
    :param report_file: a JSON line is appended for each run when it has ended.
    """
    plan = json.loads(Path(plan_file).read_text())
    bag = DagBag()
    if bag.import_errors:
        raise SystemExit(f"Example DAGs that cannot be imported: {bag.import_errors}")
    with open(report_file, "w") as report:
        for step in plan:
            run = bag.dags[step["dag_id"]].test(run_conf=step.get("conf"))
            report.write(json.dumps(describe(run)) + "\n")
            report.flush()


def describe(run: Any) -> dict[str, Any]:
    """
    Return the state of a run and of its tasks, and all XComs, from Airflow's database.

    :param run: what ``dag.test()`` returned.
    """
    with create_session() as session:
        xcoms = [
            {
                "task_id": row.task_id,
                "map_index": row.map_index,
                "key": row.key,
                "value": XComModel.deserialize_value(row),
            }
            for row in session.scalars(XComModel.get_many(run_id=run.run_id, dag_ids=run.dag_id))
        ]
    instances = {
        f"{task.task_id}{'' if task.map_index < 0 else f'[{task.map_index}]'}": task
        for task in run.get_task_instances()
    }
    return {
        "dag_id": run.dag_id,
        "run_id": run.run_id,
        "state": str(run.state),
        "tasks": {name: str(task.state) for name, task in instances.items()},
        "tries": {name: task.try_number for name, task in instances.items()},
        "xcoms": xcoms,
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
