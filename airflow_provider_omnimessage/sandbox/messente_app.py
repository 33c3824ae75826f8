"""Messente's API over HTTP: reads a call, applies a fault if there is one, and responds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from airflow_provider_omnimessage.sandbox.checks import Problem
from airflow_provider_omnimessage.sandbox.faults import Fault
from airflow_provider_omnimessage.sandbox.journal import ApiCall
from airflow_provider_omnimessage.sandbox.messente_api import (
    JSON_TYPE,
    SERVER_ERROR,
    TOO_MANY_REQUESTS,
    Request,
    Response,
    call_of,
    errors,
    json_response,
    unauthorized,
)
from airflow_provider_omnimessage.sandbox.state import SandboxState

Scope = MutableMapping[str, Any]
AsgiMessage = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[AsgiMessage]]
Send = Callable[[AsgiMessage], Awaitable[None]]
CutConnection = Callable[[Scope], None]
"""Resets the connection of a call."""

PREFIX: Final = "/v1"
HTML_TYPE: Final = (b"content-type", b"text/html; charset=utf-8")
GATEWAY_PAGE: Final = "<html><head><title>{0}</title></head><body><center><h1>{0}</h1></center></body></html>"


def api_path(path: str) -> str | None:
    """Return the path of an API call without ``/v1``, or None if the path is not part of the API.

    A base URL without ``/v1`` works too: mock servers made from the OpenAPI description have none.
    """
    if path == PREFIX or path.startswith(f"{PREFIX}/"):
        return path[len(PREFIX) :]
    if path in ("/omnimessage", "/omnimessages") or path.startswith("/omnimessage/"):
        return path
    return None


class MessenteApp:
    """The ASGI application for Messente's API.

    :param state: the sandbox.
    :param cut: resets a connection.
    """

    def __init__(self, state: SandboxState, cut: CutConnection) -> None:
        self._state = state
        self._cut = cut

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond to one call."""
        body = await _read(receive)
        if body is None:
            return
        state = self._state
        state.timeline.run_due()
        request = Request(
            method=scope["method"],
            path=api_path(scope["path"]) or "",
            body=body,
            authorization=_header(scope, b"authorization"),
            content_type=_header(scope, b"content-type"),
        )
        call = call_of(request.path)[0]
        fault = state.faults.take(call, request.method)
        entry = ApiCall(
            at=state.clock.now,
            call=call,
            method=request.method,
            path=scope["path"],
            user_agent=_header(scope, b"user-agent"),
            body=body,
            fault=fault.fault if fault else None,
        )
        state.journal.add(entry)
        response = self._process(request) if fault is None else await self._fail(fault, request)
        state.changed()
        if response is None:
            self._cut(scope)
            await receive()  # until the server has noticed; otherwise it logs a missing response
            return
        entry.status = response.status
        length = (b"content-length", str(len(response.body)).encode())
        await send({"type": "http.response.start", "status": response.status, "headers": [*response.headers, length]})
        await send({"type": "http.response.body", "body": response.body})

    def _process(self, request: Request) -> Response:
        response = self._state.api.respond(request, self._state.clock.now)
        self._state.timeline.run_due()
        return response

    async def _fail(self, fault: Fault, request: Request) -> Response | None:
        """Return the faulty response, or None if the connection is to be cut."""
        state = self._state
        run_id = state.run_id
        processed = self._process(request) if fault.processed else None
        if fault.fault != "slow":
            return _faulty_response(fault, processed)
        if await _sleep_unless_stopping(fault.seconds, state.stopping) or state.run_id != run_id:
            # A call from before a reset must not leave its message in the next test.
            return None
        state.timeline.run_due()
        return processed or self._process(request)


def _faulty_response(fault: Fault, processed: Response | None) -> Response | None:
    if fault.fault in ("cut", "lost_answer"):
        return None
    headers: list[tuple[bytes, bytes]] = []
    if fault.retry_after is not None:
        headers.append((b"retry-after", str(fault.retry_after).encode()))
    if fault.fault == "rate_limited":
        return json_response(429, errors(Problem(TOO_MANY_REQUESTS, "", "Too many requests: slow down")), *headers)
    if fault.fault == "unauthorized":
        return unauthorized()
    if fault.fault == "broken_json":
        whole = processed.body if processed and processed.body else b'{"omnimessage_id": "'
        return Response(200, whole[: max(1, len(whole) // 2)], (JSON_TYPE,))
    if fault.fault == "html":
        return Response(200, GATEWAY_PAGE.format("Welcome").encode(), (HTML_TYPE,))
    status = fault.status or 500
    if fault.fault == "redirect":
        return Response(status, b"", ((b"location", (fault.location or "").encode()),))
    if fault.html:
        page = GATEWAY_PAGE.format(f"{status} from the gateway")
        return Response(status, page.encode(), (HTML_TYPE, *headers))
    return json_response(status, errors(Problem(SERVER_ERROR, "", "Something went wrong")), *headers)


def _header(scope: Scope, name: bytes) -> bytes:
    for key, value in scope["headers"]:
        if key == name:
            found: bytes = value
            return found
    return b""


async def _read(receive: Receive) -> bytes | None:
    """Return the whole body, or None if the client disconnected while sending it."""
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


async def _sleep_unless_stopping(seconds: float, stopping: asyncio.Event) -> bool:
    """Sleep in real time, and return whether the server is stopping."""
    try:
        await asyncio.wait_for(stopping.wait(), seconds)
    except asyncio.TimeoutError:
        return False
    return True
