"""Looking up connections: those that are known do not wait for those that are not, and no response tells them apart."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from receivers import CONN_ID, PASSWORD, REPLY_SECRET, Response, RunningReceiver, report
from waiting import PATIENCE

from airflow_provider_omnimessage.receiver import keys
from airflow_provider_omnimessage.receiver.keys import ConnectionSecrets, SecretsCache, SecretsUnavailableError


class Backend:
    """A secrets backend with one connection, which can be slow or down."""

    def __init__(self) -> None:
        self.password: str | None = PASSWORD
        self.is_down = False
        self.responds = threading.Event()
        self.responds.set()

    def look_up(self, conn_id: str) -> ConnectionSecrets | None:
        assert self.responds.wait(30)
        if self.is_down:
            raise OSError("down")
        return None if self.password is None else ConnectionSecrets(self.password, REPLY_SECRET)


class Cache:
    """A cache whose time only moves when the test moves it."""

    def __init__(self, backend: Backend) -> None:
        self.now = 0.0
        self._cache = SecretsCache(backend.look_up, lambda: self.now)

    async def accepts(self, password: str) -> bool:
        return await self._cache.verify(CONN_ID, lambda known: known.api_password == password)


@pytest.fixture
def backend() -> Iterator[Backend]:
    backend = Backend()
    yield backend
    backend.responds.set()


def test_a_known_password_is_accepted_while_it_is_renewed(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "RENEWAL_PATIENCE", 0.01)

    async def run() -> None:
        cache = Cache(backend)
        assert await cache.accepts(PASSWORD)
        cache.now = keys.CACHED_FOR
        backend.responds.clear()
        assert await cache.accepts(PASSWORD)
        backend.responds.set()

    asyncio.run(run())


def test_a_known_password_is_accepted_for_a_limited_time_while_look_ups_fail(backend: Backend) -> None:
    async def run() -> None:
        cache = Cache(backend)
        assert await cache.accepts(PASSWORD)
        backend.is_down = True
        cache.now = keys.KEPT_FOR - 1
        assert await cache.accepts(PASSWORD)
        cache.now = keys.KEPT_FOR
        with pytest.raises(SecretsUnavailableError):
            await cache.accepts(PASSWORD)

    asyncio.run(run())


def test_a_changed_password_is_rejected_once_it_is_renewed(backend: Backend) -> None:
    async def run() -> None:
        cache = Cache(backend)
        assert await cache.accepts(PASSWORD)
        backend.password = "new"
        cache.now = keys.CACHED_FOR
        assert not await cache.accepts(PASSWORD)
        assert await cache.accepts("new")

    asyncio.run(run())


@pytest.mark.parametrize("password", [PASSWORD, None])
def test_a_wrong_signature_gets_an_error_if_look_ups_fail_for_a_known_connection_too(
    backend: Backend, password: str | None
) -> None:
    backend.password = password

    async def run() -> None:
        cache = Cache(backend)
        assert not await cache.accepts("wrong")
        backend.is_down = True
        cache.now = keys.RENEWED_AFTER
        with pytest.raises(SecretsUnavailableError):
            await cache.accepts("wrong")

    asyncio.run(run())


def test_connections_that_have_signed_nothing_take_no_room_of_those_that_have(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow ignores the case of connections in environment variables, so all of these may exist."""
    monkeypatch.setattr(keys, "CACHE_SIZE", 4)

    async def run() -> None:
        cache = SecretsCache(backend.look_up)
        assert await cache.verify(CONN_ID, lambda known: known.api_password == PASSWORD)
        for number in range(8):
            assert not await cache.verify(f"spelling{number}", lambda known: False)
        assert (set(cache._known), CONN_ID in cache._cache) == ({CONN_ID}, True)

    asyncio.run(run())


@pytest.fixture
def flooded(receiver: RunningReceiver, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningReceiver]:
    """A receiver that knows a connection, and looks up as many unknown ones as it may; none of them ends."""
    monkeypatch.setattr(keys, "MAX_LOOK_UPS", 8)
    assert receiver.post(report("before")).status == 200
    ends = threading.Event()
    look_up = receiver.receiver.keys._look_up

    def look_up_slowly(conn_id: str) -> ConnectionSecrets | None:
        assert conn_id == CONN_ID or ends.wait(30)
        return look_up(conn_id)

    monkeypatch.setattr(receiver.receiver.keys, "_look_up", look_up_slowly)
    with ThreadPoolExecutor(keys.MAX_LOOK_UPS) as pool:
        forged = [pool.submit(forge, receiver, f"unknown{number}") for number in range(keys.MAX_LOOK_UPS)]
        until = time.monotonic() + PATIENCE
        while len(receiver.receiver.keys._pending) < keys.MAX_LOOK_UPS:
            assert time.monotonic() < until
            time.sleep(0.01)
        yield receiver
        ends.set()
        assert {answer.result().status for answer in forged} == {403}


def forge(receiver: RunningReceiver, conn_id: str) -> Response:
    return receiver.post(report("forged"), password="wrong", conn_id=conn_id)


def test_look_ups_of_unknown_connections_do_not_delay_known_ones(
    flooded: RunningReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "CACHED_FOR", 0.0)
    monkeypatch.setattr(keys, "RENEWED_AFTER", 0.0)
    monkeypatch.setattr(keys, "RENEWAL_PATIENCE", 30.0)
    assert flooded.post(report("a")).status == 200
    flooded.secrets[CONN_ID] = ConnectionSecrets("new", REPLY_SECRET)
    assert flooded.post(report("b"), password="new").status == 200
    assert flooded.looked_up.count(CONN_ID) == 3


def test_beyond_the_limit_unknown_connections_are_not_looked_up_and_get_what_known_ones_get(
    flooded: RunningReceiver,
) -> None:
    answers = [forge(flooded, conn_id) for conn_id in (CONN_ID, "another")]
    assert [(answer.status, answer.body) for answer in answers] == [(503, {"error": "unavailable"})] * 2
    assert "another" not in flooded.receiver.keys._pending


def test_a_rejection_takes_as_long_as_a_look_up_even_if_none_is_needed(receiver: RunningReceiver) -> None:
    receiver.receiver.keys._durations.append(0.6)  # of a slow secrets backend
    assert receiver.post(report("a")).status == 200
    started = time.monotonic()
    assert forge(receiver, CONN_ID).status == 403
    assert time.monotonic() - started >= 0.6
