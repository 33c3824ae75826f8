"""Generated DAGs: plain descriptions that hypothesis can shrink, and the DAGs that are built of them."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, ClassVar

from airflow.models import BaseOperator as CoreBaseOperator  # noqa: F401  (loads what dag.test() needs)
from airflow.providers.standard.operators.latest_only import LatestOnlyOperator
from airflow.providers.standard.operators.python import BranchPythonOperator, PythonOperator, ShortCircuitOperator
from airflow.sdk import DAG, BaseOperator, TaskGroup, task_group
from airflow.sdk.exceptions import AirflowSkipException
from airflow.triggers.testing import SuccessTrigger
from hypothesis import strategies as st

from airflow_provider_omnimessage.alerts.deadman import DeadMansSwitch

GROUP = "by_nine"
RULES = (
    "all_success",
    "all_success",
    "all_success",
    "all_done",
    "all_failed",
    "all_skipped",
    "always",
    "none_failed",
    "none_failed_min_one_success",
    "none_skipped",
    "one_done",
    "one_failed",
    "one_success",
    "all_done_min_one_success",
)
#: What ``default_args`` could do to the tasks of a switch, by the name of the parameter; what has another name gets 3.
HARMFUL: dict[str, Any] = {
    "depends_on_past": True,
    "wait_for_downstream": True,
    "trigger_rule": "none_failed",
    "do_xcom_push": False,
    "multiple_outputs": True,
    "map_index_template": "{{ nothing.at.all }}",
    "execution_timeout": timedelta(microseconds=1),
    "retry_delay": timedelta(days=1),
    "retry_exponential_backoff": 9.0,
    "task_concurrency": 1,
}


@dataclass(frozen=True)
class Node:
    """
    One task.

    :param place: ``in`` the group, in the group ``nested`` in it, in the group ``mapped`` in it, or ``out`` of it.
    :param kind: what it is.
    :param outcome: how its first attempt ends: ``success``, ``fail``, ``skip``, ``retry`` or ``defer``.
    :param repaired: how it ends after something in the run was cleared.
    :param upstream: the positions of the tasks before it.
    :param chosen: of a branch: the positions of the tasks that it goes on with.
    :param items: of a mapped task: how many instances.
    """

    place: str = "in"
    kind: str = "plain"
    outcome: str = "success"
    repaired: str = "success"
    rule: str = "all_success"
    upstream: tuple[int, ...] = ()
    chosen: tuple[int, ...] = ()
    items: int = 0
    waits: bool = False


@dataclass(frozen=True)
class Shape:
    """
    One DAG.

    :param before: the position of a task outside that is put before the whole group.
    :param after: the position of a task outside that is put after the whole group.
    """

    nodes: tuple[Node, ...]
    before: int | None = None
    after: int | None = None
    fail_fast: bool = False
    default_args: tuple[tuple[str, Any], ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)

    def task_id(self, position: int) -> str:
        """Return the id of a task."""
        place = {"in": f"{GROUP}.", "nested": f"{GROUP}.nested.", "mapped": f"{GROUP}.each.", "out": ""}
        return f"{place[self.nodes[position].place]}t{position}"


class Defers(BaseOperator):
    """Waits in the triggerer, and then ends as the description says."""

    def __init__(self, *, ends: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.ends = ends

    def execute(self, context: Any) -> None:
        """Wait."""
        self.defer(trigger=SuccessTrigger(), method_name="go_on")

    def go_on(self, context: Any, event: Any = None) -> None:
        """End."""
        _end(**self.ends, ti=context["ti"], dag_run=context["dag_run"])


class Latest(LatestOnlyOperator):
    """Lets the tasks behind it run in the latest run only; the description says whether that is this one."""

    def __init__(self, *, is_latest: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.is_latest = is_latest

    def choose_branch(self, context: Any) -> Any:
        """Choose what LatestOnlyOperator chooses."""
        return list(context["task"].get_direct_relative_ids(upstream=False)) if self.is_latest else []


def _end(outcome: str, repaired: str, ti: Any, dag_run: Any, result: Any = None) -> Any:
    """End as the description says."""
    # not by the numbers of the task: a switch may have held it back until the clear
    outcome = repaired if dag_run.clear_number else outcome
    if outcome == "skip":
        raise AirflowSkipException
    if outcome == "fail" or (outcome == "retry" and ti.try_number == 1):
        raise RuntimeError("as the description says")
    return result


def build(shape: Shape, dag_id: str, *, with_switch: bool) -> DAG:
    """
    Build the DAG of a description.

    :param with_switch: whether the group is a switch; else it is a plain one.
    """
    settings: dict[str, Any] = {"fail_fast": True} if shape.fail_fast else {}
    with DAG(dag_id, schedule=None, **settings) as dag:
        own = dict(shape.default_args)
        dag.default_args = own
        group: TaskGroup = DeadMansSwitch(GROUP, **shape.settings) if with_switch else TaskGroup(GROUP)
        dag.default_args = {}
        tasks: dict[int, Any] = {}
        with group:
            _fill(shape, tasks, "in")
            if any(node.place == "nested" for node in shape.nodes):
                with TaskGroup("nested"):
                    _fill(shape, tasks, "nested")
            if any(node.place == "mapped" for node in shape.nodes):
                inside = next(node for node in shape.nodes if node.place == "mapped")

                @task_group
                def each(number: int) -> None:
                    _fill(shape, tasks, "mapped")

                each.expand(number=list(range(inside.items)))
        _fill(shape, tasks, "out")
        for position, node in enumerate(shape.nodes):
            for upstream in node.upstream:
                tasks[upstream].set_downstream(tasks[position])
        if shape.before is not None:
            tasks[shape.before] >> group
        if shape.after is not None:
            group >> tasks[shape.after]
    return dag


def _fill(shape: Shape, tasks: dict[int, Any], place: str) -> None:
    for position, node in enumerate(shape.nodes):
        if node.place == place:
            tasks[position] = _task(shape, position, node)


def _task(shape: Shape, position: int, node: Node) -> Any:
    retries = 1 if "retry" in (node.outcome, node.repaired) else 0
    common: dict[str, Any] = {
        "task_id": f"t{position}",
        "retries": retries,
        "retry_delay": timedelta(0),
        "trigger_rule": node.rule,
    }
    if node.waits:
        common["wait_for_downstream"] = True
    ends = {"outcome": node.outcome, "repaired": node.repaired}
    if node.kind == "branch":
        chosen = [shape.task_id(one) for one in node.chosen] or None
        return BranchPythonOperator(python_callable=_end, op_kwargs={**ends, "result": chosen}, **common)
    if node.kind in ("short_circuit", "short_circuit_direct"):
        return ShortCircuitOperator(
            python_callable=_end,
            op_kwargs={**ends, "result": bool(node.chosen)},
            ignore_downstream_trigger_rules=node.kind == "short_circuit",
            **common,
        )
    if node.kind == "expanded":
        return PythonOperator.partial(python_callable=_end, **common).expand(
            op_kwargs=[{**ends, **({"outcome": "success"} if index else {})} for index in range(node.items)]
        )
    if node.kind == "defers":
        return Defers(ends=ends, **common)
    if node.kind == "latest_only":
        return Latest(is_latest=bool(node.chosen), **common)
    task = PythonOperator(python_callable=_end, op_kwargs=ends, **common)
    if node.kind == "setup":
        return task.as_setup()
    if node.kind in ("teardown", "strict_teardown"):
        return task.as_teardown(on_failure_fail_dagrun=node.kind == "strict_teardown")
    return task


@st.composite
def shapes(draw: st.DrawFn, most: int = 6) -> Shape:
    """Draw a description of a DAG."""
    nodes: list[Node] = []
    for position in range(draw(st.integers(1, most))):
        place = "in" if position == 0 else draw(st.sampled_from(("in", "in", "in", "nested", "mapped", "out", "out")))
        kinds = ["plain"] * 4 + ["defers", "setup", "teardown", "strict_teardown"]
        if place != "mapped":
            kinds += [
                "branch",
                "branch",
                "short_circuit",
                "short_circuit_direct",
                "latest_only",
                "expanded",
                "expanded",
            ]
        kind = draw(st.sampled_from(kinds))
        upstream = draw(st.lists(st.integers(0, position - 1), unique=True, max_size=3)) if position else []
        rule = draw(st.sampled_from(RULES))
        nodes.append(
            Node(
                place=place,
                kind=kind,
                outcome=draw(st.sampled_from(("success", "success", "success", "fail", "skip", "retry"))),
                repaired=draw(st.sampled_from(("success", "success", "fail", "skip"))),
                rule="all_success" if "teardown" in kind else rule,
                upstream=tuple(sorted(upstream)),
                items=draw(st.integers(0, 3)),
                waits=draw(st.integers(0, 5)) == 0,
            )
        )
    for position, node in enumerate(nodes):
        downstream = [other for other, one in enumerate(nodes) if position in one.upstream and one.place != "mapped"]
        if node.kind in ("branch", "short_circuit", "short_circuit_direct", "latest_only") and downstream:
            chosen = draw(st.lists(st.sampled_from(downstream), unique=True, max_size=2))
            nodes[position] = Node(**{**vars(node), "chosen": tuple(chosen)})
    outside = [position for position, node in enumerate(nodes) if node.place == "out"]
    alone = [position for position in outside if not nodes[position].upstream]
    before = draw(st.sampled_from([None, *alone]))
    last = [
        position for position in outside if position != before and not any(position in node.upstream for node in nodes)
    ]
    return Shape(
        tuple(nodes),
        before=before,
        after=draw(st.sampled_from([None, *last])),
        fail_fast=draw(st.integers(0, 7)) == 0,
        default_args=draw(default_args()),
    )


@st.composite
def default_args(draw: st.DrawFn) -> tuple[tuple[str, Any], ...]:
    """Draw ``default_args`` of whatever parameters this Airflow's BaseOperator has."""
    names = [
        name
        for name in inspect.signature(BaseOperator.__init__).parameters
        if name
        not in ("self", "task_id", "dag", "task_group", "kwargs", "default_args", "params", "start_date", "end_date")
    ]
    known = sorted(set(names) & set(HARMFUL)) + sorted(set(names) - set(HARMFUL) - Kept.names)
    chosen = draw(st.lists(st.sampled_from(known), unique=True, max_size=4))
    return tuple((name, HARMFUL.get(name, 3)) for name in chosen)


class Kept:
    """What ``default_args`` say about where tasks run holds for a switch too."""

    names: ClassVar[set[str]] = {"executor", "executor_config", "owner", "queue", "run_as_user"}
