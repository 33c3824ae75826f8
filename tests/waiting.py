"""Waiting for what other processes do in their own time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(condition: Callable[[], T], what: str, about: object = "", *, seconds: float = 300) -> T:
    """
    Wait until a condition holds, and return its value.

    :param what: the condition in words, for the error.
    :param about: is shown in the error: an object, or a function that returns it. It becomes text only then.
    """
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            details = about() if callable(about) else about
            raise AssertionError(f"{what}: not within {seconds} seconds: {details}")
        time.sleep(0.2)
    return value
