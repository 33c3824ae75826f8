"""Messente's four calls: from what was asked to what is answered, without a server."""

from __future__ import annotations

import base64
import binascii
import hmac
import json
from datetime import datetime
from typing import Any, Final, NamedTuple

from airflow_provider_omnimessage.sandbox.checks import INVALID, MISSING, Problem
from airflow_provider_omnimessage.sandbox.validation import validate_omnimessage
from airflow_provider_omnimessage.sandbox.world import World

TITLES: Final = {
    "101": "Not found",
    "102": "Forbidden",
    "103": "Unauthorized",
    "104": "Internal Server Error",
    "105": "Invalid data",
    "106": "Missing data",
    "107": "Method not allowed",
}
JSON_TYPE: Final = (b"content-type", b"application/json")


class Answer(NamedTuple):
    """What a call is answered with."""

    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = (JSON_TYPE,)


def errors(*problems: Problem) -> dict[str, Any]:
    """Write Messente's error body.

    :param problems: what is wrong; an empty source becomes null.
    """
    return {
        "errors": [
            {
                "title": TITLES[problem.code],
                "detail": f"{problem.source} {problem.detail}" if problem.source else problem.detail,
                "code": problem.code,
                "source": problem.source or None,
            }
            for problem in problems
        ]
    }


def answer(status: int, value: Any, *headers: tuple[bytes, bytes]) -> Answer:
    """Write an answer in JSON.

    :param status: the HTTP status.
    :param value: plain data.
    :param headers: more headers.
    """
    return Answer(status, json.dumps(value).encode(), (JSON_TYPE, *headers))


def unauthorized() -> Answer:
    """Write the answer to wrong or missing credentials."""
    problem = Problem("103", "", "The API username or password is wrong or missing")
    return answer(401, errors(problem), (b"www-authenticate", b'Basic realm="Messente sandbox", charset="UTF-8"'))


def kind_of(path: str) -> tuple[str, str]:
    """Tell which call a path stands for, and the omnimessage_id in it.

    :param path: below ``/v1``.
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


METHODS: Final = {"send": "POST", "bulk": "POST", "cancel": "DELETE", "status": "GET"}


class Messente:
    """Answers the calls.

    :param world: where the messages are.
    :param username: the API username. RFC 7617 allows no colon in it; as both are compared as one, it works.
    :param password: the API password.
    """

    def __init__(self, world: World, username: str, password: str) -> None:
        self.world = world
        self._credentials = f"{username}:{password}".encode()
        self._authorization = b"Basic " + base64.b64encode(self._credentials)

    def knows(self, authorization: bytes) -> bool:
        """Tell whether an ``Authorization`` header holds the right credentials.

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

    def answer(self, method: str, path: str, authorization: bytes, body: bytes, now: datetime) -> Answer:
        """Carry out one call.

        :param method: the HTTP method.
        :param path: below ``/v1``.
        :param authorization: the ``Authorization`` header, empty if there is none.
        :param body: the raw body.
        :param now: the time on the sandbox's clock.
        """
        if not self.knows(authorization):
            return unauthorized()
        kind, omnimessage_id = kind_of(path)
        if kind == "unknown":
            return answer(404, errors(Problem("101", "", "There is no such call")))
        if method != METHODS[kind]:
            problem = Problem("107", "", f"This call takes {METHODS[kind]}, not {method}")
            return answer(405, errors(problem), (b"allow", METHODS[kind].encode()))
        if kind == "status":
            return self._status(omnimessage_id)
        if kind == "cancel":
            return self._cancel(omnimessage_id, now)
        try:
            value = _parse(body)
        except ValueError as error:
            return answer(400, errors(Problem(INVALID, "", str(error))))
        return self._send(value, now) if kind == "send" else self._bulk(value, now)

    def _send(self, value: dict[str, Any], now: datetime) -> Answer:
        problems = validate_omnimessage(value)
        if problems:
            return answer(400, errors(*problems))
        return answer(201, self.world.accept(value, now).accepted())

    def _bulk(self, value: dict[str, Any], now: datetime) -> Answer:
        messages = value.get("messages")
        if messages is None:
            return answer(400, errors(Problem(MISSING, "messages", "is required")))
        if not isinstance(messages, list) or not messages:
            return answer(400, errors(Problem(INVALID, "messages", "must be an array with at least one message")))
        entries = []
        for index, message in enumerate(messages):
            if isinstance(message, dict):
                problems = validate_omnimessage(message)
            else:
                problems = [Problem(INVALID, f"messages[{index}]", "must be an object")]
            entries.append(errors(*problems) if problems else self.world.accept(message, now).accepted())
        return answer(201, {"messages": entries})

    def _status(self, omnimessage_id: str) -> Answer:
        message = self.world.messages.get(omnimessage_id)
        if message is None:
            return answer(404, errors(Problem("101", "", "There is no such message")))
        return answer(200, message.report())

    def _cancel(self, omnimessage_id: str, now: datetime) -> Answer:
        if not self.world.cancel(omnimessage_id, now):
            problem = Problem("101", "", "The message was sent already, or there is no such message")
            return answer(404, errors(problem))
        return Answer(202, b"", ())


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _parse(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body.decode(), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"The body is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValueError("The body must be a JSON object")
    return value
