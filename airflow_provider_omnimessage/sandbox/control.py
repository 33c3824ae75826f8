"""The sandbox's own calls under ``/sandbox``, its event stream, and the inbox page."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import datetime, timedelta, timezone
from importlib import resources
from typing import Annotated, Any, Final

from fastapi import Body, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from airflow_provider_omnimessage.sandbox.faults import Fault
from airflow_provider_omnimessage.sandbox.outcomes import OUTCOMES
from airflow_provider_omnimessage.sandbox.posting import sign
from airflow_provider_omnimessage.sandbox.report_faults import ReportFault
from airflow_provider_omnimessage.sandbox.reports import reply_body
from airflow_provider_omnimessage.sandbox.state import SandboxState
from airflow_provider_omnimessage.sandbox.validation import LAST_YEAR

CONTENT_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".html": "text/html; charset=utf-8",
}
ASSETS: Final = ("inbox.css", "inbox.js", "dom.js", "times.js", "contents.js", "card.js", "icon.svg")
SECURITY_HEADERS: Final = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}
SECONDS_BETWEEN_EVENTS: Final = 0.2
KEEP_ALIVE_SECONDS: Final = 15.0


class ClockChange(BaseModel):
    """Changes of the clock. Several are applied in this order: set, advance, to_next_message, frozen."""

    model_config = ConfigDict(extra="forbid")

    set: datetime | None = None
    advance: Annotated[float, Field(ge=0, le=1e10)] | None = None
    to_next_message: bool = False
    frozen: bool | None = None


class Reply(BaseModel):
    """An inbound message to post to the callback URL of a number."""

    model_config = ConfigDict(extra="forbid")

    url: str
    secret: str
    sender: str
    recipient: str
    text: str
    channel: str = "sms"
    msg_id: str | None = None


def _json(value: Any, status: int = 200) -> Response:
    # ASCII only: a lone surrogate in a text cannot be encoded as UTF-8.
    return Response(json.dumps(value), status, media_type="application/json", headers=SECURITY_HEADERS)


def connection(state: SandboxState, url: str) -> dict[str, Any]:
    """Return an Airflow connection to the sandbox.

    :param state: the sandbox.
    :param url: the API's base URL.
    """
    return {
        "conn_type": "omnimessage",
        "login": state.username,
        "password": state.password,
        "host": url,
        "extra": {},
    }


async def event_stream(state: SandboxState) -> AsyncIterator[bytes]:
    """Yield the overview as a server-sent event whenever it changes."""
    changed = asyncio.Event()
    state.readers.add(changed)
    try:
        yield b"retry: 1000\n\n"
        while not state.stopping.is_set():
            changed.clear()
            yield f"data: {json.dumps(state.overview())}\n\n".encode()
            # Changes that follow quickly share one event.
            await asyncio.sleep(SECONDS_BETWEEN_EVENTS)
            while not changed.is_set() and not state.stopping.is_set():
                try:
                    await asyncio.wait_for(changed.wait(), KEEP_ALIVE_SECONDS)
                except asyncio.TimeoutError:
                    yield b": keep alive\n\n"
    finally:
        state.readers.discard(changed)


def control_app(state: SandboxState, url: str) -> FastAPI:
    """Return the FastAPI application with the control calls and the inbox.

    :param state: the sandbox.
    :param url: the API's base URL, as clients reach it.
    """
    app = FastAPI(openapi_url=None)  # FastAPI's documentation pages load from a CDN

    @app.exception_handler(RequestValidationError)
    async def explain(_: Request, error: RequestValidationError) -> Response:
        problems = [f"{'.'.join(str(part) for part in each['loc'])}: {each['msg']}" for each in error.errors()]
        return _json({"detail": "; ".join(problems)}, 400)

    _add_clock_calls(app, state)
    _add_message_calls(app, state)
    _add_fault_calls(app, state)
    _add_page(app, state)

    @app.post("/sandbox/replies")
    async def post_reply(reply: Reply) -> Response:
        value = reply_body(
            state.clock.now,
            sender=reply.sender,
            recipient=reply.recipient,
            text=reply.text,
            channel=reply.channel,
            msg_id=reply.msg_id,
        )
        body = json.dumps(value).encode()
        result = await state.poster.post(reply.url, body, sign(body, reply.secret))
        return _json({**value, "response": result.response, "problem": result.problem})

    @app.delete("/sandbox")
    async def reset() -> Response:
        await state.reset()
        return Response(status_code=204)

    @app.get("/sandbox/connection")
    async def read_connection() -> Response:
        return _json(connection(state, url))

    @app.get("/sandbox/outcomes")
    async def read_outcomes() -> Response:
        return _json(OUTCOMES)

    return app


def _add_clock_calls(app: FastAPI, state: SandboxState) -> None:
    @app.get("/sandbox/clock")
    async def read_clock() -> Response:
        return _json(state.clock_as_dict())

    @app.post("/sandbox/clock")
    async def change_clock(change: ClockChange) -> Response:
        timeline = state.timeline
        try:
            if (time := change.set) is not None:
                await timeline.move(lambda _: _check_year(time))
            if (seconds := change.advance) is not None:
                await timeline.move(lambda now: _check_year(now + timedelta(seconds=seconds)))
            if change.to_next_message:
                await timeline.move(lambda now: state.simulation.next_time_to_send or now)
        except (ValueError, OverflowError) as error:
            return _json({"detail": str(error)}, 400)
        if change.frozen is not None:
            await timeline.set_frozen(change.frozen)
        state.changed()
        return _json(state.clock_as_dict())


def _add_message_calls(app: FastAPI, state: SandboxState) -> None:
    simulation = state.simulation

    @app.get("/sandbox/messages")
    async def read_messages(changed_after: int | None = None, limit: Annotated[int, Query(ge=1)] = 1000) -> Response:
        state.timeline.run_due()
        if changed_after is None:
            return _json([message.as_dict() for message in simulation.messages.values()])
        return _json([message.as_dict() for message in simulation.changed_after(changed_after, limit)])

    @app.get("/sandbox/messages/{omnimessage_id}")
    async def read_message(omnimessage_id: str) -> Response:
        state.timeline.run_due()
        message = simulation.messages.get(omnimessage_id)
        return _json(message.as_dict()) if message else _json({"detail": "There is no such message"}, 404)

    @app.get("/sandbox/requests")
    async def read_requests() -> Response:
        return _json([call.as_dict() for call in state.journal.calls])


def _add_fault_calls(app: FastAPI, state: SandboxState) -> None:
    @app.get("/sandbox/faults")
    async def read_faults() -> Response:
        return _json(state.faults.as_dicts())

    @app.post("/sandbox/faults")
    async def add_fault(value: Annotated[dict[str, Any], Body()]) -> Response:
        try:
            state.faults.add(Fault.from_dict(value))
        except ValueError as error:
            return _json({"detail": str(error)}, 400)
        state.changed()
        return _json(state.faults.as_dicts(), 201)

    @app.get("/sandbox/report-faults")
    async def read_report_faults() -> Response:
        return _json(state.report_faults.as_dicts())

    @app.post("/sandbox/report-faults")
    async def add_report_fault(value: Annotated[dict[str, Any], Body()]) -> Response:
        try:
            state.report_faults.add(ReportFault.from_dict(value))
        except ValueError as error:
            return _json({"detail": str(error)}, 400)
        state.changed()
        return _json(state.report_faults.as_dicts(), 201)

    @app.delete("/sandbox/faults")
    async def clear_faults() -> Response:
        state.clear_faults()
        state.changed()
        return Response(status_code=204)


def _add_page(app: FastAPI, state: SandboxState) -> None:
    @app.get("/")
    async def inbox() -> Response:
        return _asset("inbox.html")

    @app.get("/assets/{name}")
    async def asset(name: str) -> Response:
        return _asset(name) if name in ASSETS else _json({"detail": "not found"}, 404)

    @app.get("/sandbox/events")
    async def events() -> Response:
        return StreamingResponse(event_stream(state), media_type="text/event-stream", headers=SECURITY_HEADERS)


def _asset(name: str) -> Response:
    content = resources.files(__package__).joinpath("assets").joinpath(name).read_bytes()
    kind = CONTENT_TYPES[f".{name.rpartition('.')[2]}"]
    return Response(content, media_type=kind, headers=SECURITY_HEADERS)


def _check_year(time: datetime) -> datetime:
    if time.tzinfo is None:
        time = time.replace(tzinfo=timezone.utc)
    if time.year > LAST_YEAR:
        raise ValueError(f"set: {time.year} is too far in the future; use a year up to {LAST_YEAR}")
    return time
