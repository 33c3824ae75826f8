"""The edges between a dead man's switch and the work that it guards, chosen so that the work runs as it would without.

All tasks of the switch stand beside the group, at the top level of the DAG. Nothing is upstream of the first::

    before_arm (setup) >> arm (teardown) >> after_arm (teardown) >> work >> disarm (teardown)

- ``before_arm``, an empty setup, ties them together: Airflow clears a setup and its teardowns with any task in between.
- ``arm`` is a teardown, so that it can be shown as failed without failing the run or stopping the work.
- ``after_arm``, an empty teardown, succeeds after ``arm`` has ended in any way. Only tasks that it cannot influence are
  put behind it: those with nothing else upstream, and those with a rule that one more success does not change.
- ``disarm`` is a teardown, so the run's state is that of the work, and a short circuit does not skip it.

With ``required=True``, ``arm`` itself is the setup of the other two. So ``after_arm`` waits for its success, and
Airflow holds back every task between a failed setup and its teardown.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from airflow_provider_omnimessage._compat import is_in_mapped_group, is_mapped, skips_downstream
from airflow_provider_omnimessage.alerts.disarming import DisarmDeadMansSwitchOperator
from airflow_provider_omnimessage.alerts.markers import Switch, SwitchTask

if TYPE_CHECKING:
    from airflow.sdk import DAG

#: Rules that one more successful upstream task does not change, whatever the others do.
NEUTRAL_RULES = frozenset({"all_success", "none_failed", "none_skipped", "all_done", "all_done_setup_success"})

#: Rules under which a task with one successful upstream task runs, as it does with none.
RUNS_AFTER_ONE_SUCCESS = NEUTRAL_RULES | {
    "always",
    "all_done_min_one_success",
    "none_failed_min_one_success",
    "one_done",
    "one_success",
}

Edge = tuple[str, str]


def wire(switch: Switch, dag: DAG) -> None:
    """
    Set the edges between a switch and its work anew, as the DAG is now.

    Tasks and edges may be added after the ``with`` block of the switch, so this is done at its end, and again whenever
    Airflow validates the DAG.

    :param dag: which contains the switch; a copy of a DAG has a copy of the switch.
    :raises InvalidInputError: if the work cannot be guarded: names the task and the way out.
    """
    tasks = dag.task_dict
    disarm = tasks.get(switch.task_id_of("disarm"))
    if not isinstance(disarm, DisarmDeadMansSwitchOperator):
        return  # a part of a DAG, for which somebody chose single tasks
    for edge in disarm.edges:
        if not tasks.keys().isdisjoint(edge):
            _set_edge(dag, edge, remove=True)
    disarm.edges = frozenset()
    if is_in_mapped_group(switch):
        raise switch.invalid(
            "is inside a mapped task group, whose tasks do not exist before it is expanded; put the mapped group into "
            "the switch"
        )
    work = _Work(switch, dag)
    disarm.work = [task.task_id for task in work.counted]
    wanted = [edge for edge in (*_edges_before(switch, work), *_edges_after(switch, work)) if tasks.keys() >= set(edge)]
    disarm.edges = frozenset(edge for edge in wanted if edge[1] not in tasks[edge[0]].downstream_task_ids)
    for edge in disarm.edges:
        _set_edge(dag, edge)
    switch.drop_markers(dag, keep={downstream for _, downstream in disarm.edges})


def _set_edge(dag: DAG, edge: Edge, *, remove: bool = False) -> None:
    # Not by set_downstream, which would let groups know of the edge, and cannot take it back.
    upstream, downstream = (dag.task_dict.get(task_id) for task_id in edge)
    for task, other, name in ((upstream, edge[1], "downstream_task_ids"), (downstream, edge[0], "upstream_task_ids")):
        if task is not None:
            ids = getattr(task, name)
            ids.discard(other) if remove else ids.add(other)


class _Work:
    """
    The tasks that a switch guards, and what is upstream of them.

    :param switch: which switch.
    :param dag: which contains it.
    """

    def __init__(self, switch: Switch, dag: DAG) -> None:
        self.tasks = [task for task in switch.iter_tasks() if not isinstance(task, SwitchTask)]
        if not self.tasks:
            raise switch.invalid("has no tasks; create the work inside the 'with', or pass task_group= to its tasks")
        self.ids = {task.task_id for task in self.tasks}
        # A failed setup fails what is behind it, and a teardown never makes work late.
        self.counted = [
            task for task in self.tasks if not task.is_setup and (not task.is_teardown or _fails_the_run(task))
        ]
        if not self.counted:
            raise switch.invalid(
                "has only setups and teardowns, which do not count as work; put the work into the group, too, or give "
                "a teardown on_failure_fail_dagrun=True"
            )
        self._reject_setups_without_work(switch)
        self.dag = dag
        self.is_required = bool(getattr(dag.task_dict.get(switch.task_id_of("arm")), "required", False))

    def _reject_setups_without_work(self, switch: Switch) -> None:
        """Reject setups whose failure no counted task would show, and whose clear would not clear ``disarm``."""
        counted = {task.task_id for task in self.counted}
        for task in self.tasks:
            if task.is_setup and counted.isdisjoint(task.get_flat_relative_ids(upstream=False)):
                raise switch.invalid(
                    f"has a setup with no work after it, {task.task_id}; put the work that needs it into the group, "
                    "too, or take it out of the group"
                )

    def roots(self) -> list[Any]:
        """List the tasks with which the work begins."""
        return [task for task in self.tasks if task.upstream_task_ids.isdisjoint(self.ids)]

    def is_leaf(self, task: Any) -> bool:
        """Return whether no other work is downstream of a task."""
        return bool(task.downstream_task_ids.isdisjoint(self.ids))

    def upstream(self, task: Any) -> list[Any]:
        """List the tasks of the DAG directly upstream of a task, without those of switches."""
        found = (self.dag.task_dict[task_id] for task_id in task.upstream_task_ids)
        return [one for one in found if not isinstance(one, SwitchTask)]

    def first_upstream(self, task: Any) -> Iterator[Any]:
        """Walk up from a task to those with which the DAG begins."""
        seen: set[str] = set()
        pending = [task]
        while pending:
            upstream = self.upstream(pending.pop())
            for one in upstream:
                if one.task_id in seen:
                    continue
                seen.add(one.task_id)
                pending.append(one)
                if not self.upstream(one):
                    yield one


def _edges_before(switch: Switch, work: _Work) -> Iterable[Edge]:
    gate = switch.task_id_of("after_arm")
    # a recipient that another task returns puts that task before arm
    arm = work.dag.task_dict.get(switch.task_id_of("arm"))
    before_arm = arm.get_flat_relative_ids(upstream=True) if arm is not None else set()
    for root in work.roots():
        if work.is_required:
            _reject_if_not_held_back(switch, root, work)
        if not work.upstream(root):
            if _rule(root) not in RUNS_AFTER_ONE_SUCCESS:
                raise switch.invalid(
                    f"cannot guard {root.task_id}, whose trigger_rule '{_rule(root)}' counts upstream tasks, and which "
                    "has none; remove the rule, or put a task before it"
                )
            yield gate, root.task_id
        elif _rule(root) in NEUTRAL_RULES and (work.is_required or not _is_mapped(root)):
            yield gate, root.task_id
        else:
            # The rule counts what is upstream of the task, so arm goes before all of that.
            first = [
                task
                for task in work.first_upstream(root)
                if _rule(task) in RUNS_AFTER_ONE_SUCCESS and task.task_id not in before_arm
            ]
            if not first:
                raise switch.invalid(
                    f"cannot guard {root.task_id}, whose trigger_rule '{_rule(root)}' counts what is upstream of it; "
                    "put an EmptyOperator with trigger_rule='all_done' before it, as the first task of the group"
                )
            yield from ((gate, task.task_id) for task in first)


def _reject_if_not_held_back(switch: Switch, root: Any, work: _Work) -> None:
    rules = NEUTRAL_RULES if work.upstream(root) else RUNS_AFTER_ONE_SUCCESS
    if _rule(root) not in rules:
        raise switch.invalid(
            f"cannot hold back {root.task_id}, whose trigger_rule is '{_rule(root)}', as required=True promises; put "
            "an EmptyOperator before it, as the first task of the group, or remove required=True"
        )


def _edges_after(switch: Switch, work: _Work) -> Iterable[Edge]:
    if work.is_required:
        for task in work.tasks:
            if reason := _why_not_held_back(task, work):
                raise switch.invalid(
                    f"cannot hold back {task.task_id}, which {reason}, as required=True promises; change the task, or "
                    "remove required=True"
                )
    disarm = switch.task_id_of("disarm")
    for task in work.counted:
        if not (skips_downstream(task) or task.wait_for_downstream):
            yield task.task_id, disarm
        elif work.is_leaf(task):
            # A branch may skip what is directly behind it, and the next run may wait for its success.
            ended = switch.marker_after(task, work.dag)
            yield task.task_id, ended.task_id
            yield ended.task_id, disarm


def _why_not_held_back(task: Any, work: _Work) -> str:
    """Return why Airflow would run a task although ``arm``, a setup, has failed; empty: it would not."""
    if _rule(task) == "always":
        return "has trigger_rule 'always'"
    if task.is_teardown and not any(one.is_setup and one.task_id in work.ids for one in work.upstream(task)):
        return "is a teardown without a setup in the group"
    return ""


def _is_mapped(task: Any) -> bool:
    return is_mapped(task) or is_in_mapped_group(task)


def _fails_the_run(task: Any) -> bool:
    mapped = getattr(task, "partial_kwargs", {}).get("on_failure_fail_dagrun", False)
    return bool(task.on_failure_fail_dagrun or mapped)


def _rule(task: Any) -> str:
    return str(getattr(task.trigger_rule, "value", task.trigger_rule))
