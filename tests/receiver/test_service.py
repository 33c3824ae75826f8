"""The receiver's background work goes on, whatever goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from airflow_provider_omnimessage.receiver import service
from airflow_provider_omnimessage.receiver.database import DatabaseError, open_url
from airflow_provider_omnimessage.receiver.service import Receiver
from airflow_provider_omnimessage.receiver.store import Store


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not happen within 20 s")


def test_a_database_that_cannot_be_opened_is_opened_later(
    database: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(service, "SET_UP_EVERY", 0.01)
    failures: list[Exception] = [DatabaseError("database: is down"), ValueError("s3cret"), ImportError("s3cret")]

    def open_engine():  # type: ignore[no-untyped-def]
        if failures:
            raise failures.pop(0)
        return open_url(database)

    async def run() -> None:
        receiver = Receiver(open_engine, look_up=lambda conn_id: None)
        receiver.start()
        await until(lambda: receiver.is_ready)
        receiver.stop()

    asyncio.run(run())
    assert "database: is down" in caplog.text
    assert "ValueError" in caplog.text
    assert "s3cret" not in caplog.text


def test_old_events_are_deleted_again_after_an_error(
    database: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(service, "DELETE_EVERY", 0.01)
    calls: list[float] = []

    def delete_before(self: Store, cutoff: float) -> int:
        calls.append(cutoff)
        raise RuntimeError("s3cret")

    monkeypatch.setattr(Store, "delete_before", delete_before)

    async def run() -> None:
        receiver = Receiver(lambda: open_url(database), look_up=lambda conn_id: None)
        receiver.start()
        await until(lambda: len(calls) > 1)
        receiver.stop()

    asyncio.run(run())
    assert "Old events could not be deleted: RuntimeError" in caplog.text
    assert "s3cret" not in caplog.text
