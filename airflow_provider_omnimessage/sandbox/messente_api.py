"""Messente's four API calls, from request to response, without a server."""

from __future__ import annotations

import base64
import binascii
import hmac
import json
from datetime import datetime
from typing import Any, Final, NamedTuple

from airflow_provider_omnimessage.sandbox.checks import INVALID, MISSING, Problem, field_name
from airflow_provider_omnimessage.sandbox.simulation import Simulation
from airflow_provider_omnimessage.sandbox.validation import PAYLOAD, validate_omnimessage

NOT_FOUND: Final = "101"
UNAUTHORIZED: Final = "103"
SERVER_ERROR: Final = "104"
METHOD_NOT_ALLOWED: Final = "107"
TOO_MANY_REQUESTS: Final = "429"
"""Messente documents no error code for 429. The documented ones all mean something else."""
TITLES: Final = {
    NOT_FOUND: "Not found",
    "102": "Forbidden",
    UNAUTHORIZED: "Unauthorized",
    SERVER_ERROR: "Internal Server Error",
    INVALID: "Invalid data",
    MISSING: "Missing data",
    METHOD_NOT_ALLOWED: "Method not allowed",
    TOO_MANY_REQUESTS: "Too many requests",
}
JSON_TYPE: Final = (b"content-type", b"application/json")
METHODS: Final = {"send": "POST", "bulk": "POST", "cancel": "DELETE", "status": "GET"}


class Request(NamedTuple):
    """An API call.

    :param method: the HTTP method.
    :param path: without the ``/v1`` in front.
    :param body: the raw body.
    :param authorization: the ``Authorization`` header, empty if there is none.
    :param content_type: the ``Content-Type`` header, empty if there is none.
    """

    method: str
    path: str
    body: bytes
    authorization: bytes
    content_type: bytes


class Response(NamedTuple):
    """The response to an API call."""

    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = (JSON_TYPE,)


def errors(*problems: Problem) -> dict[str, Any]:
    """Return Messente's error body. An empty source becomes null."""
    return {
        "errors": [
            {
                "title": TITLES[problem.code],
                "detail": f"{field_name(problem.source)} {problem.detail}".strip(),
                "code": problem.code,
                "source": problem.source or None,
            }
            for problem in problems
        ]
    }


def json_response(status: int, value: Any, *headers: tuple[bytes, bytes]) -> Response:
    """Return a response with a JSON body."""
    return Response(status, json.dumps(value).encode(), (JSON_TYPE, *headers))


def unauthorized() -> Response:
    """Return the response to wrong or missing credentials."""
    problem = Problem(UNAUTHORIZED, "", "The API username or password is wrong or missing")
    return json_response(
        401, errors(problem), (b"www-authenticate", b'Basic realm="Messente sandbox", charset="UTF-8"')
    )


def call_of(path: str) -> tuple[str, str]:
    """Return which call a path is (``unknown`` if none), and the omnimessage_id in it.

    :param path: without the ``/v1`` in front.
    """
    match path.split("/"):
        case ["", "omnimessage"]:
            return "send", ""
        case ["", "omnimessages"]:
            return "bulk", ""
        case ["", "omnimessage", omnimessage_id] if omnimessage_id:
            return "cancel", omnimessage_id
        case ["", "omnimessage", omnimessage_id, "status"] if omnimessage_id:
            return "status", omnimessage_id
    return "unknown", ""


class MessenteApi:
    """Responds to API calls.

    :param simulation: the messages.
    :param username: the API username. RFC 7617 forbids a colon in it; here it works, because username and password
        are compared as one string.
    :param password: the API password.
    """

    def __init__(self, simulation: Simulation, username: str, password: str) -> None:
        self._simulation = simulation
        self._credentials = f"{username}:{password}".encode()
        self._authorization = b"Basic " + base64.b64encode(self._credentials)

    def is_authorized(self, authorization: bytes) -> bool:
        """Return whether an ``Authorization`` header has the right credentials.

        :param authorization: the header's value, empty if there is none.
        """
        if hmac.compare_digest(authorization, self._authorization):
            return True
        scheme, _, encoded = authorization.partition(b" ")
        try:
            decoded = base64.b64decode(encoded.strip(), validate=True)
        except binascii.Error:
            return False
        return scheme.lower() == b"basic" and hmac.compare_digest(decoded, self._credentials)

    def respond(self, request: Request, now: datetime) -> Response:
        """Process one call.

        :param request: the call.
        :param now: the sandbox's time.
        """
        if not self.is_authorized(request.authorization):
            return unauthorized()
        call, omnimessage_id = call_of(request.path)
        if call == "unknown":
            return json_response(404, errors(Problem(NOT_FOUND, "", "There is no such call")))
        if request.method != METHODS[call]:
            problem = Problem(METHOD_NOT_ALLOWED, "", f"Use {METHODS[call]} for this call, not {request.method}")
            return json_response(405, errors(problem), (b"allow", METHODS[call].encode()))
        if call == "status":
            return self._status(omnimessage_id)
        if call == "cancel":
            return self._cancel(omnimessage_id, now)
        try:
            value = _parse(request)
        except ValueError as error:
            return json_response(400, errors(Problem(INVALID, "", str(error))))
        return self._send(value, now) if call == "send" else self._bulk(value, now)

    def _send(self, value: dict[str, Any], now: datetime) -> Response:
        findings = validate_omnimessage(value)
        if findings.problems:
            return json_response(400, errors(*findings.problems))
        return json_response(201, self._simulation.accept(value, now, findings.unknown_fields).accepted())

    def _bulk(self, value: dict[str, Any], now: datetime) -> Response:
        messages = value.get("messages")
        source = f"{PAYLOAD}[messages]"
        if messages is None:
            return json_response(400, errors(Problem(MISSING, source, "is required")))
        if not isinstance(messages, list) or not messages:
            detail = "must be an array with at least one message"
            return json_response(400, errors(Problem(INVALID, source, detail)))
        entries = []
        for index, message in enumerate(messages):
            if not isinstance(message, dict):
                entries.append(errors(Problem(INVALID, f"{source}[{index}]", "must be an object")))
                continue
            findings = validate_omnimessage(message)
            if findings.problems:
                entries.append(errors(*findings.problems))
            else:
                entries.append(self._simulation.accept(message, now, findings.unknown_fields).accepted())
        return json_response(201, {"messages": entries})

    def _status(self, omnimessage_id: str) -> Response:
        message = self._simulation.messages.get(omnimessage_id)
        if message is None:
            return json_response(404, errors(Problem(NOT_FOUND, "", "There is no such message")))
        return json_response(200, message.report())

    def _cancel(self, omnimessage_id: str, now: datetime) -> Response:
        if not self._simulation.cancel(omnimessage_id, now):
            problem = Problem(NOT_FOUND, "", "The message was already sent, or there is no such message")
            return json_response(404, errors(problem))
        return json_response(202, {})


def _reject_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _parse(request: Request) -> dict[str, Any]:
    media_type = request.content_type.partition(b";")[0].strip().lower()
    if media_type != b"application/json":
        found = repr(media_type.decode("latin-1")) if media_type else "missing"
        raise ValueError(f"Content-Type must be application/json, is {found}")
    try:
        value = json.loads(request.body.decode(), parse_constant=_reject_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"The body is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValueError("The body must be a JSON object")
    return value
