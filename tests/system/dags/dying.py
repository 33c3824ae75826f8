"""Kills a task's process in the middle of its work, as the crash DAGs need it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any


def die() -> None:
    """Kill this process as a power cut would."""
    os.kill(os.getpid(), signal.SIGKILL)


def die_at(owner: Any, name: str, *, after: bool, call: int = 1, kill: Callable[[], None] = die) -> None:
    """
    Replace a function by one that kills the process at one of its calls.

    :param owner: the class or module that has the function.
    :param name: the function.
    :param after: whether the call is completed first.
    :param call: which call, from 1.
    :param kill: kills the process, and whatever else has to die with it.
    """
    whole = getattr(owner, name)
    calls: list[str] = []

    def dying(*args: Any, **kwargs: Any) -> Any:
        calls.append(name)
        if len(calls) == call and not after:
            kill()
        result = whole(*args, **kwargs)
        if len(calls) == call:
            kill()
        return result

    setattr(owner, name, dying)
