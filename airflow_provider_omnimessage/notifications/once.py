"""Runs the notification of a deadline once per process: Airflow starts the same callback again and again.

While an ``AsyncCallback`` runs, every triggerer takes it over from the others about once a second
(https://github.com/apache/airflow/issues/72848). The one that loses it cancels it, in the middle of a request too, and
starts it anew when it takes it back.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Hashable, Mapping
from types import FunctionType
from typing import Any

from airflow_provider_omnimessage.api.records import as_plain

_REMEMBERED = 10_000

_runs: OrderedDict[Hashable, asyncio.Task[None]] = OrderedDict()


async def run_once(key: Hashable, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run ``work`` if this process has not started it yet, and return or raise its outcome.

    A cancelled caller does not cancel the work: the next caller waits for the same run.

    :param key: identifies the work, for the life of this process.
    """
    run = _runs.get(key)
    if run is None:
        run = _runs[key] = asyncio.ensure_future(work())
        # a failure that no caller is left to see is logged by the work itself
        run.add_done_callback(lambda done: done.cancelled() or done.exception())
        while len(_runs) > _REMEMBERED:
            _runs.popitem(last=False)
    await asyncio.shield(run)


def stable_text(argument: object) -> str:
    """Return a text that identifies an argument in all processes.

    ``repr`` does not: it shows a set in any order, and the address of a function. What is neither plain data nor a
    function without a closure keeps its ``repr``: if in doubt, two arguments differ, and each is sent.
    """
    argument = as_plain(argument)
    if isinstance(argument, Mapping):
        return f"{{{', '.join(f'{stable_text(key)}: {stable_text(value)}' for key, value in argument.items())}}}"
    if isinstance(argument, (set, frozenset)):
        return f"set({sorted(map(stable_text, argument))})"
    if isinstance(argument, (list, tuple)):
        return f"[{', '.join(map(stable_text, argument))}]"
    if isinstance(argument, FunctionType) and argument.__closure__ is None:
        code = argument.__code__
        place = (argument.__module__, argument.__qualname__, code.co_firstlineno)
        defaults = (argument.__defaults__, argument.__kwdefaults__)
        return stable_text((*place, code.co_code, code.co_names, code.co_consts, *defaults))
    return repr(argument)
