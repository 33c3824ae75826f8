"""A trigger that is cancelled in the middle of a request to Airflow disturbs no other."""

from __future__ import annotations

import asyncio
import itertools
from types import SimpleNamespace

import pytest
from asgiref.sync import async_to_sync

from airflow_provider_omnimessage import _compat
from airflow_provider_omnimessage._compat import BaseHook
from airflow_provider_omnimessage.hooks.lookup import look_up_settings
from airflow_provider_omnimessage.hooks.settings import Settings


class Supervisor:
    """Responds in the order of the requests, and takes no interest in who reads: as in Airflow 3.0 and 3.1."""

    def __init__(self):
        self._numbers = itertools.count()
        self._lock = asyncio.Lock()
        self._responses = asyncio.Queue()
        self.has_request = asyncio.Event()

    async def asend(self, *args, **kwargs):
        number = next(self._numbers)
        async with self._lock:
            self.has_request.set()
            asyncio.get_running_loop().call_later(0.05, self._responses.put_nowait, number)
            response = await self._responses.get()
            assert response == number, "the response to an earlier request was read"

    def send(self, *args, **kwargs):
        async_to_sync(self.asend)()


def looks_up_a_connection(supervisor, patch):
    patch.setattr(BaseHook, "aget_connection", supervisor.asend)
    return _compat.connection_of("any")


def looks_up_a_connection_as_in_airflow_3_0(supervisor, patch):
    patch.delattr(BaseHook, "aget_connection")
    patch.setattr(BaseHook, "get_connection", supervisor.send)
    return _compat.connection_of("any")


def masks_what_is_secret(supervisor, patch):
    patch.setattr(Settings, "read", supervisor.send)
    return look_up_settings("omnimessage_default")


def pushes_the_report(supervisor, patch):
    patch.setattr("airflow.sdk.execution_time.xcom.XCom.set", supervisor.send)
    task_instance = SimpleNamespace(dag_id="dag", task_id="wait", run_id="run", map_index=None)
    return _compat.success_in_triggerer(task_instance, {})


def reads_the_results_of_a_bulk_send(supervisor, patch):
    return _compat.in_thread(supervisor.send)


@pytest.mark.parametrize(
    "request_of",
    [
        looks_up_a_connection,
        looks_up_a_connection_as_in_airflow_3_0,
        masks_what_is_secret,
        pushes_the_report,
        reads_the_results_of_a_bulk_send,
    ],
)
def test_the_next_request_gets_its_own_response(request_of, sandbox, monkeypatch):
    async def cancel_one_and_make_another():
        supervisor = Supervisor()
        cancelled = asyncio.ensure_future(request_of(supervisor, monkeypatch))
        await asyncio.wait_for(supervisor.has_request.wait(), 10)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        await supervisor.asend()

    asyncio.run(cancel_one_and_make_another())
