"""What only ``scripts/test --full-size`` runs: rare cases, and more variants of the other tests."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import pytest

#: Whether everything is run in full.
IS_FULL_SIZE = "OMNIMESSAGE_FULL_SIZE" in os.environ
full_size = pytest.mark.full_size


def first(count: int, cases: Iterable[Any]) -> list[Any]:
    """
    Mark all but the first cases of a parametrized test.

    :param count: how many cases the plain run has. A tuple is a case of several parameters, unless it has names.
    """
    sets = [case if isinstance(case, type(pytest.param())) else pytest.param(*_values(case)) for case in cases]
    return sets[:count] + [pytest.param(*each.values, id=each.id, marks=full_size) for each in sets[count:]]


def _values(case: Any) -> tuple[Any, ...]:
    return case if type(case) is tuple else (case,)
