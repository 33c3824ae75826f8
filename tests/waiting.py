"""Waiting for what other processes do in their own time."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from _airflow import AirflowHome

T = TypeVar("T")

#: Seconds after which a test gives up on another thread or process. Many, because the machine may be slow.
PATIENCE = 60


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


def copy_deferred_wait(home: AirflowHome, run_id: str, ids: Sequence[str]) -> None:
    """
    Defer the other instances of a mapped wait as the one is that a worker has started.

    :param ids: the message of each map index.
    """
    subprocess.run(
        [home.python, str(Path(__file__).parent / "system" / "copied_waits.py"), run_id],
        env=home.environment,
        input=json.dumps(ids),
        text=True,
        check=True,
    )
