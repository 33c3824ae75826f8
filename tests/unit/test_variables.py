"""The Variables of alerts: no two tasks share one, whatever they are called."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from airflow_provider_omnimessage.alerts.variables import LONGEST_KEY, fitting_key, variable_of

ids = st.text("ab_.", min_size=1, max_size=8)


@given(st.tuples(ids, ids), st.tuples(ids, ids))
@example(("a__b", "c"), ("a", "b__c"))
@example(("a_", "b"), ("a", "_b"))
def test_different_tasks_have_different_variables(one, other):
    assert (variable_of("heartbeat", *one) == variable_of("heartbeat", *other)) == (one == other)


def test_a_usual_name_has_no_hash():
    assert variable_of("next_run", "report", "by_nine") == "omnimessage_next_run__report__by_nine"


def test_names_that_are_too_long_stay_different():
    assert fitting_key("a" * LONGEST_KEY) == "a" * LONGEST_KEY
    long = [fitting_key("a" * (LONGEST_KEY + more)) for more in (1, 2)]
    assert len(set(long)) == 2
    assert {len(name) for name in long} == {LONGEST_KEY}
