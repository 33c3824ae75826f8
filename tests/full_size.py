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
    return [
        pytest.param(*(case if type(case) is tuple else (case,)), marks=full_size if index >= count else ())
        for index, case in enumerate(cases)
    ]
