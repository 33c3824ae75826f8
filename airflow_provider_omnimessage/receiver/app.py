"""The receiver's ASGI application: its routes, and how each request is authenticated."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

from fastapi import FastAPI, Request, Response
from starlette.requests import ClientDisconnect

from airflow_provider_omnimessage.receiver import signing
from airflow_provider_omnimessage.receiver.claim_state import LONGEST_CLAIM
from airflow_provider_omnimessage.receiver.events import (
    CONSUMER,
    FAILURES,
    Event,
    MalformedError,
    read_reply,
    read_report,
)
from airflow_provider_omnimessage.receiver.keys import CONN_ID, ConnectionSecrets, SecretsUnavailableError
from airflow_provider_omnimessage.receiver.service import Receiver
from airflow_provider_omnimessage.receiver.store import Page, Position, StoreUnavailableError

#: Maximum size of a body in bytes.
MAX_BODY = 64 * 1024
#: Seconds within which a body must arrive.
BODY_TIMEOUT = 10.0
#: The time of a rejected request is rounded up to a multiple of these seconds, and is not shorter than a look-up, so
#: that it does not reveal which connections exist.
REJECTION_TIME = 0.25
#: Maximum duration of a long poll in seconds.
MAX_WAIT = 60.0
#: Maximum number of messages that one request may look up.
MAX_IDS = 200
#: Seconds that a long poll waits after its first event, so that events in quick succession travel together.
LINGER = 0.05

_ID = re.compile(r"[A-Za-z0-9_.:@=+/-]{1,64}")

log = logging.getLogger(__name__)


class _RejectedError(Exception):
    """Ends a request with a status. The reason contains nothing from the request."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def create_app(receiver: Receiver, *, starts_receiver: bool = True) -> FastAPI:
    """Return the application.

    :param starts_receiver: whether the application's lifespan starts and stops the receiver.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        if starts_receiver:
            receiver.start()
        try:
            yield
        finally:
            if starts_receiver:
                receiver.stop()

    # a redirect would echo the path and the Host header
    app = FastAPI(lifespan=lifespan, redirect_slashes=False, docs_url=None, redoc_url=None, openapi_url=None)
    routes = _Routes(receiver)
    for path, endpoint, method in (
        ("/v1/reports/{conn_id}", routes.post_report, "POST"),
        ("/v1/replies/{conn_id}", routes.post_reply, "POST"),
        ("/v1/events/{conn_id}", routes.get_events, "GET"),
        ("/v1/claims/{conn_id}", routes.post_claim, "POST"),
        ("/health", routes.get_health, "GET"),
    ):
        app.add_api_route(path, endpoint, methods=[method], response_model=None)
    return app


class _Routes:
    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._health: tuple[float, Response] | None = None

    async def post_report(self, request: Request, conn_id: str) -> Response:
        return await self._take_in(request, conn_id, lambda known: known.api_password, read_report)

    async def post_reply(self, request: Request, conn_id: str) -> Response:
        return await self._take_in(request, conn_id, lambda known: known.reply_secret, read_reply)

    async def get_events(self, request: Request, conn_id: str) -> Response:
        return await self._serve(request, conn_id, "events", lambda body: self._events(conn_id, _EventsQuery(request)))

    async def post_claim(self, request: Request, conn_id: str) -> Response:
        return await self._serve(request, conn_id, "claims", lambda body: self._claim(conn_id, _ClaimBody(body)))

    async def _serve(
        self, request: Request, conn_id: str, route: str, serve: Callable[[bytes], Awaitable[dict[str, object]]]
    ) -> Response:
        """Serve a request of this package's own tasks and triggers."""
        started = time.monotonic()
        try:
            body = await _read_body(request)
            header = request.headers.get(signing.REQUEST_HEADER, "")
            query_string = request.scope["query_string"].decode("latin-1")

            def is_signed(known: ConnectionSecrets) -> bool:
                return signing.request_is_signed(
                    header,
                    known.api_password,
                    method=request.method,
                    path=f"/v1/{route}/{conn_id}",
                    query_string=query_string,
                    body=body,
                    now=time.time(),
                )

            await self._verify(conn_id, is_signed)
            return _json(200, await serve(body))
        except _RejectedError as error:
            return await self._reject(error, started)
        except SecretsUnavailableError:
            return await self._delayed(_unavailable(), started)
        except StoreUnavailableError:
            return _unavailable()

    async def get_health(self) -> Response:
        if self._health is None or time.monotonic() - self._health[0] > 1.0:
            receiver = self._receiver
            try:
                await receiver.read(receiver.store.position)
            except StoreUnavailableError:
                found = _json(503, {"status": "unavailable", "database": "unreachable", "schema": receiver.schema})
            else:
                found = _json(200, {"status": "ok", "database": "reachable", "schema": receiver.schema})
            self._health = (time.monotonic(), found)
        return self._health[1]

    async def _take_in(
        self,
        request: Request,
        conn_id: str,
        secret: Callable[[ConnectionSecrets], str],
        read: Callable[[str, bytes], Event],
    ) -> Response:
        started = time.monotonic()
        try:
            body = await _read_body(request)
            signature = request.headers.get(signing.MESSENTE_HEADER, "")
            await self._verify(conn_id, lambda known: signing.body_is_signed(body, signature, secret(known)))
            try:
                event = read(conn_id, body)
            except MalformedError as error:
                raise _RejectedError(400, str(error)) from None
            await self._receiver.intake.add(event)
        except _RejectedError as error:
            return await self._reject(error, started)
        except SecretsUnavailableError:
            return await self._delayed(_unavailable(), started)
        except StoreUnavailableError:
            return _unavailable()
        log.debug("%s of %s stored: %s %s", event.kind, conn_id, event.subject_id, event.status)
        return _json(200, {"status": "stored"})

    async def _verify(self, conn_id: str, is_signed: Callable[[ConnectionSecrets], bool]) -> None:
        if not CONN_ID.fullmatch(conn_id) or not await self._receiver.keys.verify(conn_id, is_signed):
            raise _RejectedError(403, "forbidden")

    async def _reject(self, error: _RejectedError, started: float) -> Response:
        response = _json(error.status, {"error": str(error)})
        return await self._delayed(response, started) if error.status == 403 else response

    async def _delayed(self, response: Response, started: float) -> Response:
        taken = time.monotonic() - started
        # as if every request had to look up its connection
        steps = math.ceil(max(taken, self._receiver.keys.look_up_time) / REJECTION_TIME)
        await asyncio.sleep(steps * REJECTION_TIME - taken)
        return response

    async def _events(self, conn_id: str, query: _EventsQuery) -> dict[str, object]:
        receiver = self._receiver
        store = receiver.store
        response: dict[str, object] = {}
        if query.ids:
            response["stored"] = await receiver.read(store.stored, conn_id, query.ids)
        after = query.after
        done = after if query.acknowledged is None else query.acknowledged
        if query.consumer and done is not None:
            await receiver.read(store.advance, conn_id, query.consumer, done)
        if query.consumer and after is None:
            after = await receiver.read(store.consumer_position, conn_id, query.consumer)
        if after is None:
            end = await receiver.read(store.position)
            if query.consumer:  # a new consumer starts here, even if it dies before it has read anything
                await receiver.read(store.advance, conn_id, query.consumer, end.seq)
            return {**_position_json(end), "events": [], **response}
        page = await self._page(conn_id, after, 0.0 if query.ids else query.wait)
        return {**_position_json(page.position), "events": page.events, **response}

    async def _claim(self, conn_id: str, claim: _ClaimBody) -> dict[str, object]:
        claims = self._receiver.claims
        if claim.is_done is None:
            state = await self._receiver.read(claims.take, conn_id, claim.name, claim.holder, claim.seconds)
            return {"state": state.value}
        await self._receiver.read(partial(claims.give_back, is_done=claim.is_done), conn_id, claim.name, claim.holder)
        return {"state": "given back"}

    async def _page(self, conn_id: str, after: int, seconds: float) -> Page:
        receiver = self._receiver
        until = time.monotonic() + seconds
        page: Page = await receiver.read(receiver.store.page, conn_id, after)
        # a log that ends before the caller's position was reset: respond at once, so that the caller notices
        while not page.events and after <= page.position.seq and (left := until - time.monotonic()) > 0:
            await receiver.news.wait(conn_id, page.position, left)
            if receiver.is_stopping:
                break
            await asyncio.sleep(LINGER)
            page = await receiver.read(receiver.store.page, conn_id, after)
        return page


class _EventsQuery:
    """The validated query of the events route."""

    def __init__(self, request: Request) -> None:
        values = request.query_params
        self.after = self._seq("after", values.get("after"))
        #: Up to where the consumer has finished, if that differs from ``after``.
        self.acknowledged = self._seq("acknowledged", values.get("acknowledged"))
        self.wait = self._seconds(values.get("wait", "0"))
        self.ids = [item for item in values.get("ids", "").split(",") if item]
        if len(self.ids) > MAX_IDS or not all(map(_ID.fullmatch, self.ids)):
            raise _RejectedError(400, f"ids: invalid; use up to {MAX_IDS} message ids, separated by commas")
        self.consumer = values.get("consumer", "")
        if self.consumer and not CONSUMER.fullmatch(self.consumer.removesuffix(FAILURES)):
            raise _RejectedError(400, "consumer: invalid; use letters, digits and . : / @ _ -")

    @staticmethod
    def _seq(name: str, value: str | None) -> int | None:
        if value is not None and not re.fullmatch(r"\d{1,18}", value, re.ASCII):
            raise _RejectedError(400, f"{name}: invalid; use a sequence number")
        return None if value is None else int(value)

    @staticmethod
    def _seconds(value: str) -> float:
        try:
            seconds = float(value)
        except ValueError:
            seconds = math.nan
        if not 0 <= seconds <= MAX_WAIT:
            raise _RejectedError(400, f"wait: invalid; use 0 to {MAX_WAIT:.0f} seconds")
        return seconds


class _ClaimBody:
    """The validated body of the claims route: a claim for some seconds, or with ``is_done`` the end of one."""

    def __init__(self, body: bytes) -> None:
        try:
            values = json.loads(body)
            self.name, self.holder = str(values["name"]), str(values["holder"])
            self.is_done = None if values.get("is_done") is None else bool(values["is_done"])
            self.seconds = 0 if self.is_done is not None else int(values["seconds"])
        except (ValueError, KeyError, TypeError, AttributeError):
            raise _RejectedError(400, "claim: invalid; use JSON with name, holder, and seconds or is_done") from None
        if not _ID.fullmatch(self.name) or not _ID.fullmatch(self.holder):
            raise _RejectedError(400, "name, holder: invalid; use up to 64 letters, digits and . : / @ _ = + -")
        if self.is_done is None and not 1 <= self.seconds <= LONGEST_CLAIM:
            raise _RejectedError(400, f"seconds: invalid; use 1 to {LONGEST_CLAIM}")


def _position_json(position: Position) -> dict[str, object]:
    return {"log": position.log_id, "position": position.seq}


async def _read_body(request: Request) -> bytes:
    length = request.headers.get("content-length", "0")
    if not length.isdigit() or int(length) > MAX_BODY:
        raise _RejectedError(413, "too large")
    try:
        return await asyncio.wait_for(_read_chunks(request), BODY_TIMEOUT)
    except asyncio.TimeoutError:
        raise _RejectedError(408, "the body did not arrive in time") from None
    except ClientDisconnect:
        raise _RejectedError(400, "the body is incomplete") from None


async def _read_chunks(request: Request) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_BODY:
            raise _RejectedError(413, "too large")
        chunks.append(chunk)
    return b"".join(chunks)


def _unavailable() -> Response:
    return _json(503, {"error": "unavailable"}, {"Retry-After": "5"})


def _json(status: int, content: dict[str, object], headers: dict[str, str] | None = None) -> Response:
    body = json.dumps(content, separators=(",", ":")).encode()
    return Response(body, status, {"Cache-Control": "no-store", **(headers or {})}, "application/json")
