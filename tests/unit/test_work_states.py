"""How the states of guarded tasks are queried: in batches, and one for each task instance."""

from __future__ import annotations

from urllib.parse import urlencode

from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_omnimessage.alerts.work import batches, describe, work_states

NAMES = st.lists(st.from_regex(r"(load|save|ü)(_[0-9]{1,2}){0,2}", fullmatch=True), unique=True, max_size=30)


class Run:
    """What a task's context has, with an Airflow that knows some task instances."""

    dag_id = "dag"
    run_id = "run"

    def __init__(self, instances):
        self._instances = instances
        self.urls = []

    def get_task_states(self, *, dag_id, task_ids, run_ids):
        self.urls.append(urlencode({"dag_id": dag_id, "task_ids": task_ids, "run_ids": run_ids}, doseq=True))
        assert task_ids, "Airflow takes an empty list for all tasks"
        return {
            "run": {
                task_id if index < 0 else f"{task_id}_{index}": state
                for (task_id, index), state in self._instances.items()
                if task_id in task_ids
            }
        }


@given(names=NAMES, data=st.data())
def test_every_instance_has_its_own_state(names, data):
    instances = {}
    for name in names:
        count = data.draw(st.integers(0, 3))
        for index in range(count) if count else [-1]:
            instances[(name, index)] = data.draw(st.sampled_from(["success", "failed", "running"]))
    assert work_states(Run(instances), names) == instances


def test_a_thousand_tasks_fit_in_urls_of_8_kib():
    names = [f"group.nested_group.a_task_with_a_long_name_{number:04}.ü" for number in range(1000)]
    run = Run({(name, -1): "success" for name in names})
    assert len(work_states(run, names)) == 1000
    assert max(map(len, run.urls)) < 8192
    assert len(run.urls) < 40


def test_no_tasks_are_not_all_tasks():
    run = Run({("a", -1): "failed"})
    assert work_states(run, []) == {}
    assert run.urls == []


def test_a_task_without_an_instance_is_missing():
    assert work_states(Run({}), ["a"]) == {("a", -1): "missing"}


def test_a_state_that_is_none_is_not_done():
    assert work_states(Run({("a", -1): None}), ["a"]) == {("a", -1): "none"}


def test_instances_are_named_as_in_the_ui():
    assert [describe(("a", -1)), describe(("a", 2))] == ["a", "a[2]"]


def test_batches_hold_every_task_once():
    names = ["a", "a_1", "a_1_1", "b"]
    assert sorted(name for batch in batches(names) for name in batch) == names
