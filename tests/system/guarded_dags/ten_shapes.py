"""Ten shapes of work, each once in a dead man's switch and once in a plain task group."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.operators.python import BranchPythonOperator, PythonOperator, ShortCircuitOperator
from airflow.sdk import DAG, TaskGroup, task_group

from airflow_provider_omnimessage.alerts import DeadMansSwitch


def empty(name: str, rule: str = "all_success") -> EmptyOperator:
    """Make a task that needs no process."""
    return EmptyOperator(task_id=name, trigger_rule=rule)


def fails(number: int = 0) -> None:
    """Fail for the first number."""
    if number == 0:
        raise RuntimeError("as the shape says")


def fails_once(ti) -> None:
    """Fail in the first try."""
    if ti.try_number == 1:
        raise RuntimeError("as the shape says")


def failing(name: str, rule: str = "all_success") -> PythonOperator:
    """Make a task that fails."""
    return PythonOperator(task_id=name, python_callable=fails, trigger_rule=rule)


def chain() -> None:
    """Succeed, one after another."""
    empty("a") >> empty("b") >> empty("c")


def fan() -> None:
    """Handle the failure of one of two branches."""
    empty("a") >> [empty("b"), failing("c")] >> empty("d", "all_done")


def nested() -> None:
    """Fail in a nested group."""
    with TaskGroup("inner"):
        failing("a")
    empty("b")


def mapped() -> None:
    """Fail in one of three mapped instances, beside a task with the name of another."""
    PythonOperator.partial(task_id="load", python_callable=fails).expand(op_args=[[1], [0], [2]])
    empty("load_1")


def nothing_to_do() -> None:
    """Map over no item."""
    PythonOperator.partial(task_id="load", python_callable=fails).expand(op_args=[]) >> empty("end")


def mapped_group() -> None:
    """Have a task that always runs in a mapped group."""

    @task_group
    def each(number: int) -> None:
        empty("a") >> empty("b", "always")

    each.expand(number=[1, 2])


def branch() -> None:
    """Choose nothing."""
    BranchPythonOperator(task_id="choose", python_callable=list) >> [empty("a"), empty("b")]


def short_circuit() -> None:
    """Skip everything behind it, whatever its rules."""
    ShortCircuitOperator(task_id="stop", python_callable=lambda: False) >> empty("a") >> empty("b", "all_done")


def setup_and_teardown() -> None:
    """Fail between a setup and its teardown."""
    begin, end = empty("begin").as_setup(), empty("end").as_teardown()
    begin >> failing("work") >> end
    begin >> end


def retried() -> None:
    """Succeed at the second try."""
    PythonOperator(task_id="a", python_callable=fails_once, retries=1, retry_delay=timedelta(seconds=1)) >> empty("b")


SHAPES: list[Callable[[], None]] = [
    chain,
    fan,
    nested,
    mapped,
    nothing_to_do,
    mapped_group,
    branch,
    short_circuit,
    setup_and_teardown,
    retried,
]
for number, shape in enumerate(SHAPES):
    name = shape.__name__
    with DAG(f"plain_{name}", schedule=None), TaskGroup("work"):
        shape()
    with (
        DAG(f"guarded_{name}", schedule=None),
        DeadMansSwitch(
            "work", to=f"+3725555{4100 + number}", text=f"Late: {name} {{{{ run_id }}}}", within=timedelta(hours=3)
        ),
    ):
        shape()
