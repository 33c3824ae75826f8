"""The sandbox's own side: the control calls under ``/sandbox``, the events, and the inbox page."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import datetime, timedelta, timezone
from importlib import resources
from typing import Annotated, Any, Final

from fastapi import Body, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from airflow_provider_omnimessage.sandbox.app import PREFIX, Bench, Cut, MessenteApp, Receive, Scope, Send
from airflow_provider_omnimessage.sandbox.callbacks import is_loopback
from airflow_provider_omnimessage.sandbox.calls import unauthorized
from airflow_provider_omnimessage.sandbox.faults import Fault
from airflow_provider_omnimessage.sandbox.guard import refusal
from airflow_provider_omnimessage.sandbox.outcomes import OUTCOMES
from airflow_provider_omnimessage.sandbox.validation import LAST_YEAR
from airflow_provider_omnimessage.sandbox.world import STATES

ASSETS: Final = {
    "inbox.css": "text/css; charset=utf-8",
    "inbox.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
SECURITY: Final = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}
COALESCE_SECONDS: Final = 0.2
HEARTBEAT_SECONDS: Final = 15.0


class ClockChange(BaseModel):
    """One way to change the clock; several go in this order: set, advance, to_next_message, frozen."""

    model_config = ConfigDict(extra="forbid")

    set: datetime | None = None
    advance: Annotated[float, Field(ge=0, le=1e10)] | None = None
    to_next_message: bool = False
    frozen: bool | None = None


def _json(value: Any, status: int = 200) -> Response:
    # Plain ASCII: a lone surrogate in a text must not break the answer.
    return Response(json.dumps(value), status, media_type="application/json", headers=SECURITY)


def clock_as_dict(bench: Bench) -> dict[str, Any]:
    """Tell the clock, and when the next scheduled message goes out.

    :param bench: the sandbox.
    """
    following = bench.world.next_time_to_send
    return {
        "now": bench.clock.now.isoformat(),
        "frozen": bench.clock.frozen,
        "next_time_to_send": following.isoformat() if following else None,
    }


def overview(bench: Bench) -> dict[str, Any]:
    """Tell what an event tells: enough to know whether to ask for more.

    :param bench: the sandbox.
    """
    return {
        "revision": bench.world.revision,
        "run": bench.run,
        "clock": clock_as_dict(bench),
        "messages": len(bench.world.messages),
        "states": {state: bench.world.states[state] for state in STATES},
        "requests": bench.journal.total,
        "faults": len(bench.faults.as_dicts()),
    }


def connection(bench: Bench, url: str) -> dict[str, Any]:
    """Write the Airflow connection that leads to the sandbox.

    :param bench: the sandbox.
    :param url: the API's address.
    """
    return {
        "conn_type": "omnimessage",
        "login": bench.username,
        "password": bench.password,
        "host": url,
        "extra": {},
    }


async def follow(bench: Bench) -> AsyncIterator[bytes]:
    """Tell the overview whenever it changes, as server-sent events.

    :param bench: the sandbox.
    """
    changed = asyncio.Event()
    bench.readers.add(changed)
    try:
        yield b"retry: 1000\n\n"
        while not bench.stopping.is_set():
            changed.clear()
            yield f"data: {json.dumps(overview(bench))}\n\n".encode()
            # Many changes in a short time are one event.
            await asyncio.sleep(COALESCE_SECONDS)
            while not changed.is_set() and not bench.stopping.is_set():
                try:
                    await asyncio.wait_for(changed.wait(), HEARTBEAT_SECONDS)
                except asyncio.TimeoutError:
                    yield b": still here\n\n"
    finally:
        bench.readers.discard(changed)


def control_app(bench: Bench, url: str) -> FastAPI:
    """Build the FastAPI application of the control calls and the inbox.

    :param bench: the sandbox to control.
    :param url: the API's address, as others reach it.
    """
    app = FastAPI(openapi_url=None)  # its documentation pages load from a CDN

    @app.exception_handler(RequestValidationError)
    async def explain(_: Request, error: RequestValidationError) -> Response:
        problems = [f"{'.'.join(str(part) for part in each['loc'])}: {each['msg']}" for each in error.errors()]
        return _json({"detail": "; ".join(problems)}, 400)

    @app.get("/sandbox/clock")
    async def read_clock() -> Response:
        return _json(clock_as_dict(bench))

    @app.post("/sandbox/clock")
    async def change_clock(change: ClockChange) -> Response:
        timeline = bench.timeline
        try:
            if (moment := change.set) is not None:
                await timeline.move(lambda _: _within_reach(moment))
            if (seconds := change.advance) is not None:
                await timeline.move(lambda now: _within_reach(now + timedelta(seconds=seconds)))
            if change.to_next_message:
                await timeline.move(lambda now: bench.world.next_time_to_send or now)
        except (ValueError, OverflowError) as error:
            return _json({"detail": str(error)}, 400)
        if change.frozen is not None:
            await timeline.set_frozen(change.frozen)
        bench.changed()
        return _json(clock_as_dict(bench))

    @app.get("/sandbox/messages")
    async def read_messages(changed_after: int | None = None, limit: Annotated[int, Query(ge=1)] = 1000) -> Response:
        bench.timeline.catch_up()
        if changed_after is None:
            return _json([message.as_dict() for message in bench.world.messages.values()])
        latest = bench.world.changed_after(changed_after, limit)
        return _json([message.as_dict() for message in latest])

    @app.get("/sandbox/messages/{omnimessage_id}")
    async def read_message(omnimessage_id: str) -> Response:
        bench.timeline.catch_up()
        message = bench.world.messages.get(omnimessage_id)
        return _json(message.as_dict()) if message else _json({"detail": "no such message"}, 404)

    @app.get("/sandbox/requests")
    async def read_requests() -> Response:
        return _json([call.as_dict() for call in bench.journal.calls])

    @app.get("/sandbox/faults")
    async def read_faults() -> Response:
        return _json(bench.faults.as_dicts())

    @app.post("/sandbox/faults")
    async def add_fault(value: Annotated[dict[str, Any], Body()]) -> Response:
        try:
            bench.faults.add(Fault.from_dict(value))
        except ValueError as error:
            return _json({"detail": str(error)}, 400)
        bench.changed()
        return _json(bench.faults.as_dicts(), 201)

    @app.delete("/sandbox/faults")
    async def clear_faults() -> Response:
        bench.faults.clear()
        bench.changed()
        return Response(status_code=204)

    @app.delete("/sandbox")
    async def reset() -> Response:
        await bench.reset()
        return Response(status_code=204)

    @app.get("/sandbox/connection")
    async def read_connection() -> Response:
        return _json(connection(bench, url))

    @app.get("/sandbox/outcomes")
    async def read_outcomes() -> Response:
        return _json(OUTCOMES)

    @app.get("/sandbox/events")
    async def events() -> Response:
        return StreamingResponse(follow(bench), media_type="text/event-stream", headers=SECURITY)

    @app.get("/")
    async def inbox() -> Response:
        return _asset("inbox.html", "text/html; charset=utf-8")

    @app.get("/assets/{name}")
    async def asset(name: str) -> Response:
        kind = ASSETS.get(name)
        return _asset(name, kind) if kind else _json({"detail": "not found"}, 404)

    return app


def _within_reach(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    if moment.year > LAST_YEAR:
        raise ValueError(f"the clock goes to the year {LAST_YEAR}")
    return moment


def _asset(name: str, kind: str) -> Response:
    content = resources.files(__package__).joinpath("assets").joinpath(name).read_bytes()
    return Response(content, media_type=kind, headers=SECURITY)


class SandboxApp:
    """The whole sandbox as one ASGI application.

    :param bench: the parts of the sandbox.
    :param cut: cuts a connection.
    :param url: the API's address, as others reach it.
    :param host: the host that the server is bound to.
    """

    def __init__(self, bench: Bench, cut: Cut, *, url: str, host: str) -> None:
        self._bench = bench
        self._host = host
        self._messente = MessenteApp(bench, cut)
        self._control = control_app(bench, url)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lead a call to its side."""
        path = scope["path"]
        if path == PREFIX or path.startswith(f"{PREFIX}/"):
            await self._messente(scope, receive, send)
            return
        refused = self._refused(scope)
        if refused is not None:
            await refused(scope, receive, send)
            return
        await self._control(scope, receive, send)

    def _refused(self, scope: Scope) -> Response | None:
        # The address that the connection arrived at is the sandbox's own, whatever it is bound to.
        own_hosts = (self._host, scope["server"][0])
        reason = refusal(scope["method"], scope["headers"], own_hosts)
        if reason:
            return JSONResponse({"detail": reason}, 403)
        if is_loopback(scope["client"][0]):
            return None
        authorization = dict(scope["headers"]).get(b"authorization", b"")
        if self._bench.messente.knows(authorization):
            return None
        denied = unauthorized()
        headers = {name.decode(): value.decode() for name, value in denied.headers}
        return Response(denied.body, denied.status, headers)
