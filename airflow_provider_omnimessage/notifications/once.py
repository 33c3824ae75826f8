"""Runs the notification of a deadline once per process: Airflow starts the same callback again and again.

While an ``AsyncCallback`` runs, every triggerer takes it over from the others about once a second
(https://github.com/apache/airflow/issues/72848). The one that loses it cancels it, in the middle of a request too, and
starts it anew when it takes it back.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Hashable
from typing import Any

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
