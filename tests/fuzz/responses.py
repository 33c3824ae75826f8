"""Coverage-guided fuzzing of the parsers of responses and times: they raise only this package's own errors."""

from __future__ import annotations

import contextlib
import json
import sys
from datetime import datetime, timezone
from typing import Any

import atheris

with atheris.instrument_imports(include=["airflow_provider_omnimessage"]):
    from airflow_provider_omnimessage.api import calls, responses, timing
    from airflow_provider_omnimessage.api.errors import OmnimessageError

NOW = datetime(2026, 11, 23, 9, tzinfo=timezone.utc)
ID = "6bd8c1ee-6ac2-4eb5-a0a1-6d46b2f42ae6"
CALLS = [calls.send({}), calls.cancel(ID), calls.delivery_report(ID), calls.credentials_check()]
STATUSES = [200, 201, 202, 204, 301, 400, 401, 404, 429, 500, 503, 100, 999]
WORDS = [
    *("omnimessage_id", "to", "messages", "channel", "message_id", "statuses", "status", "err", "error", "timestamp"),
    *("price_info", "total_price", "errors", "code", "title", "detail", "source", "sms", "101", "DELIVRD", "DELETED"),
]


def value(given: Any, depth: int) -> Any:
    """Make a JSON value that is nearly one of Messente's."""
    kind = given.ConsumeIntInRange(0, 7 if depth else 5)
    if kind < 3:
        return [None, True, given.ConsumeInt(4)][kind]
    if kind == 3:
        return given.ConsumeFloat()
    if kind < 6:
        return given.PickValueInList(WORDS) if kind == 4 else given.ConsumeUnicode(12)
    items = [value(given, depth - 1) for _ in range(given.ConsumeIntInRange(0, 4))]
    return items if kind == 6 else {given.PickValueInList(WORDS): item for item in items}


def one(data: bytes) -> None:
    given = atheris.FuzzedDataProvider(data)
    call = CALLS[given.ConsumeIntInRange(0, len(CALLS) - 1)]
    status = given.PickValueInList(STATUSES)
    headers = {
        "Retry-After": given.ConsumeUnicodeNoSurrogates(30),
        "Location": given.ConsumeUnicodeNoSurrogates(20),
        "Content-Type": given.ConsumeUnicodeNoSurrogates(12),
    }
    zone = given.PickValueInList([None, "Europe/Tallinn"])
    with contextlib.suppress(OmnimessageError):
        timing.resolve(given.ConsumeUnicode(40), zone=zone, now=NOW)
    nearly = json.dumps(value(given, 4)).encode() if given.ConsumeBool() else given.ConsumeBytes(sys.maxsize)
    with contextlib.suppress(OmnimessageError):
        result = call.result(responses.Response(status, headers, nearly, NOW))
        if result is not None:
            str(result)
            str(getattr(result, "outcome", ""))
            list(map(str, getattr(result, "statuses", ())))


atheris.Setup(sys.argv, one)
atheris.Fuzz()
