"""Runs DAGs as ``dag.test()`` does, one task instance at a time and in an order that can be repeated on another DAG."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

Key = tuple[str, int]

#: Task instances that one run may have, with all their tries: a run that does not end is a failure of the test.
MOST_STEPS = 200


class Lockstep:
    """
    One run of a DAG.

    :param dag: which DAG.
    :param folder: an empty folder, from which Airflow believes to have parsed the DAG.
    """

    def __init__(self, dag: Any, folder: Path) -> None:
        from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db

        dag.validate()
        dag.check_cycle()
        bag = DagBag(folder)
        bag.dags[dag.dag_id] = dag
        sync_bag_to_db(bag, "dags-folder", None)
        self._begin(dag, "")

    def _begin(self, dag: Any, run_id: str) -> None:
        from airflow.serialization.serialized_objects import DagSerialization

        self._dag = dag
        self._scheduler_dag: Any = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dag))
        self._run_id = run_id
        self.order: list[Key] = []

    @classmethod
    def of(cls, dag: Any, run_id: str) -> Lockstep:
        """
        Continue an existing run.

        :param dag: which DAG.
        :param run_id: which of its runs.
        """
        taken = cls.__new__(cls)
        taken._begin(dag, run_id)
        return taken

    @property
    def run_id(self) -> str:
        """The id of the run."""
        return self._run_id

    def take_over(self, run_id: str) -> Lockstep:
        """Go on with a run that an earlier version of this DAG began."""
        self._run_id = run_id
        return self

    def run(self, *, seed: int = 0, order: Sequence[Key] = ()) -> Lockstep:
        """
        Create a run and execute it to its end.

        :param seed: for the order in which task instances that could run at the same time do.
        :param order: of another run, to be repeated as far as possible; its tasks that this DAG lacks are left out.
        """
        from airflow.models.dagrun import DagRun, get_or_create_dagrun
        from airflow.utils.session import create_session
        from airflow.utils.types import DagRunTriggeredByType, DagRunType

        now = datetime.now(timezone.utc)
        self._run_id = DagRun.generate_run_id(run_type=DagRunType.MANUAL, logical_date=now, run_after=now)
        with create_session() as session:
            get_or_create_dagrun(
                dag=self._scheduler_dag,
                start_date=now,
                logical_date=now,
                data_interval=(now, now),
                run_after=now,
                run_id=self._run_id,
                session=session,
                conf=None,
                triggered_by=DagRunTriggeredByType.TEST,
                triggering_user_name="test",
            )
        return self.resume(seed=seed, order=order)

    def resume(self, *, seed: int = 0, order: Sequence[Key] = ()) -> Lockstep:
        """Execute the run to its end."""
        from airflow.sdk.definitions.dag import _run_task

        dice = random.Random(seed)
        self.order = []
        pending = [key for key in order if key[0] in self._dag.task_dict]
        while chosen := self._next(dice, pending):
            session, instance = chosen
            key = (instance.task_id, instance.map_index)
            self.order.append(key)
            assert len(self.order) < MOST_STEPS, f"The run does not end: {self.order[-20:]}"
            try:
                _run_task(ti=instance, task=self._dag.task_dict[instance.task_id], run_triggerer=True)
                session.commit()
            finally:
                session.close()
        return self

    def clear(
        self,
        task_ids: Iterable[str] | None = None,
        *,
        downstream: bool = False,
        only_failed: bool = False,
        latest_version: bool = False,
    ) -> int:
        """
        Clear tasks as Airflow's UI does.

        :param task_ids: which tasks; ``None``: all.
        :param downstream: whether also what is downstream of them, which is the UI's default.
        :param only_failed: whether only what has failed.
        :param latest_version: whether the run goes on with the DAG as it was deployed last.
        :return: how many task instances were cleared.
        """
        from airflow.models.taskinstance import find_relevant_relatives
        from airflow.utils.session import create_session

        wanted = None if task_ids is None else set(task_ids)
        with create_session() as session:
            if wanted is not None and downstream:
                wanted |= set(
                    find_relevant_relatives(
                        wanted,
                        [],
                        dag=self._scheduler_dag,
                        run_id=self._run_id,
                        direction="downstream",
                        session=session,
                    )
                )
            return int(
                self._scheduler_dag.clear(
                    task_ids=wanted,
                    run_id=self._run_id,
                    only_failed=only_failed,
                    run_on_latest_version=latest_version,
                    session=session,
                )
            )

    def states(self, own: Callable[[str], bool] = lambda task_id: False) -> dict[Key, str]:
        """
        Return the states of the task instances.

        :param own: which tasks to leave out.
        """
        from airflow.utils.session import create_session

        with create_session() as session:
            return {
                (ti.task_id, ti.map_index): str(ti.state)
                for ti in self._find(session).get_task_instances(session=session)
                if not own(ti.task_id)
            }

    @property
    def state(self) -> str:
        """Return the state of the run."""
        from airflow.utils.session import create_session

        with create_session() as session:
            return str(self._find(session).state)

    def dag_run(self) -> Any:
        """Return the run, as Airflow's database has it."""
        from airflow.utils.session import create_session

        with create_session() as session:
            return self._find(session)

    def _find(self, session: Any) -> Any:
        from airflow.models.dagrun import DagRun
        from sqlalchemy import select

        found = session.scalars(select(DagRun).where(DagRun.run_id == self._run_id)).one()
        found.dag = self._scheduler_dag
        return found

    def _next(self, dice: random.Random, pending: list[Key]) -> tuple[Any, Any] | None:
        """Let the scheduler process the run, and choose one of the task instances that it would start."""
        from airflow import settings

        session = settings.Session()
        run = self._find(session)
        for _ in range(len(self._dag.tasks) + 2):  # each pass may skip or expand one task more
            ready, _ = run.update_state(session=session)
            session.commit()
            if ready or str(run.state) in ("success", "failed"):
                break
        if not ready or str(run.state) in ("success", "failed"):
            session.close()
            return None
        by_key = {(ti.task_id, ti.map_index): ti for ti in ready}
        key = next((key for key in pending if key in by_key), None)
        if key is None:
            key = sorted(by_key)[dice.randrange(len(by_key))]
        else:
            pending.remove(key)
        chosen = by_key[key]
        if str(chosen.state) != "up_for_reschedule":
            chosen.try_number += 1
        chosen.state = "scheduled"
        session.commit()
        return session, chosen
