"""Messente's API over HTTP: reads a call, lets a fault on order have its way with it, and answers."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from airflow_provider_omnimessage.sandbox.callbacks import Callbacks
from airflow_provider_omnimessage.sandbox.calls import (
    JSON_TYPE,
    Answer,
    Messente,
    answer,
    errors,
    kind_of,
    unauthorized,
)
from airflow_provider_omnimessage.sandbox.checks import Problem
from airflow_provider_omnimessage.sandbox.clock import Clock
from airflow_provider_omnimessage.sandbox.faults import Fault, Faults
from airflow_provider_omnimessage.sandbox.journal import Call, Journal
from airflow_provider_omnimessage.sandbox.timeline import Timeline
from airflow_provider_omnimessage.sandbox.world import World

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Cut = Callable[[Scope], None]
"""Cuts the connection that a call came in on."""

PREFIX: Final = "/v1"
HTML_TYPE: Final = (b"content-type", b"text/html; charset=utf-8")
GATEWAY_PAGE: Final = "<html><head><title>{0}</title></head><body><center><h1>{0}</h1></center></body></html>"


class Bench:
    """All parts of one sandbox, put together.

    :param username: the API username.
    :param password: the API password.
    :param delivery_seconds: how long a channel takes from the try to its final status.
    :param allow_remote_callbacks: whether ``dlr_url`` may name other machines.
    """

    def __init__(self, username: str, password: str, *, delivery_seconds: float, allow_remote_callbacks: bool) -> None:
        self.username = username
        self.password = password
        self.clock = Clock()
        self.world = World(delivery_seconds)
        self.messente = Messente(self.world, username, password)
        self.faults = Faults()
        self.journal = Journal()
        self.callbacks = Callbacks(self.world, self.clock, password, allow_remote=allow_remote_callbacks)
        self.timeline = Timeline(self.world, self.clock, self.callbacks)
        self.stopping = asyncio.Event()
        self.run = uuid.uuid4().hex
        self.readers: set[asyncio.Event] = set()
        self.world.on_change = self.changed

    def changed(self) -> None:
        """Wake those who follow the events."""
        for reader in self.readers:
            reader.set()

    async def reset(self) -> None:
        """Be as new: no messages, no calls, no faults, real time."""
        async with self.timeline.moving:
            self.run = uuid.uuid4().hex
            self.world.clear()
            self.journal.clear()
            self.faults.clear()
            self.timeline.reset()
        self.changed()

    def stop(self) -> None:
        """Let go of everybody who waits, for the server to go down."""
        self.stopping.set()
        self.timeline.close()
        self.changed()


class MessenteApp:
    """The ASGI application for everything below ``/v1``.

    :param bench: the parts of the sandbox.
    :param cut: cuts a connection.
    """

    def __init__(self, bench: Bench, cut: Cut) -> None:
        self._bench = bench
        self._cut = cut

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one call."""
        body = await _read(receive)
        if body is None:
            return
        bench = self._bench
        bench.timeline.catch_up()
        method, path = scope["method"], scope["path"][len(PREFIX) :]
        call = kind_of(path)[0]
        fault = bench.faults.take(call, method)
        seen = Call(
            at=bench.clock.now,
            call=call,
            method=method,
            path=scope["path"],
            user_agent=_header(scope, b"user-agent"),
            body=body,
            fault=fault.fault if fault else None,
        )
        bench.journal.add(seen)
        if fault is None:
            reply: Answer | None = self._process(scope, path, body)
        else:
            reply = await self._fail(fault, scope, path, body)
        bench.changed()
        if reply is None:
            self._cut(scope)
            await receive()  # until the server has noticed; else it logs an answer that never came
            return
        seen.status = reply.status
        length = (b"content-length", str(len(reply.body)).encode())
        await send({"type": "http.response.start", "status": reply.status, "headers": [*reply.headers, length]})
        await send({"type": "http.response.body", "body": reply.body})

    def _process(self, scope: Scope, path: str, body: bytes) -> Answer:
        bench = self._bench
        authorization = _header(scope, b"authorization")
        reply = bench.messente.answer(scope["method"], path, authorization, body, bench.clock.now)
        bench.timeline.catch_up()
        return reply

    async def _fail(self, fault: Fault, scope: Scope, path: str, body: bytes) -> Answer | None:
        bench = self._bench
        run = bench.run
        processed = self._process(scope, path, body) if fault.processed else None
        if fault.fault != "slow":
            return _faulty(fault, processed)
        if await _wait_or_stop(fault.seconds, bench.stopping) or bench.run != run:
            # A call from before a reset must not leave its message in the next test.
            return None
        bench.timeline.catch_up()
        return processed or self._process(scope, path, body)


def _faulty(fault: Fault, processed: Answer | None) -> Answer | None:
    if fault.fault in ("cut", "lost_answer"):
        return None
    headers: list[tuple[bytes, bytes]] = []
    if fault.retry_after is not None:
        headers.append((b"retry-after", str(fault.retry_after).encode()))
    if fault.fault == "rate_limited":
        return answer(429, errors(Problem("102", "", "Too many requests: slow down")), *headers)
    if fault.fault == "unauthorized":
        return unauthorized()
    if fault.fault == "broken_json":
        whole = processed.body if processed and processed.body else b'{"omnimessage_id": "'
        return Answer(200, whole[: max(1, len(whole) // 2)], (JSON_TYPE,))
    if fault.fault == "html":
        return Answer(200, GATEWAY_PAGE.format("Welcome").encode(), (HTML_TYPE,))
    status = fault.status or 500
    if fault.fault == "redirect":
        return Answer(status, b"", ((b"location", (fault.location or "").encode()),))
    if fault.html:
        page = GATEWAY_PAGE.format(f"{status} from the gateway")
        return Answer(status, page.encode(), (HTML_TYPE, *headers))
    return answer(status, errors(Problem("104", "", "Something went wrong")), *headers)


def _header(scope: Scope, name: bytes) -> bytes:
    for key, value in scope["headers"]:
        if key == name:
            found: bytes = value
            return found
    return b""


async def _read(receive: Receive) -> bytes | None:
    """Read the whole body; None if the caller went away in the middle of it."""
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


async def _wait_or_stop(seconds: float, stopping: asyncio.Event) -> bool:
    """Let real time pass, and tell whether the server is stopping."""
    try:
        await asyncio.wait_for(stopping.wait(), seconds)
    except asyncio.TimeoutError:
        return False
    return True
