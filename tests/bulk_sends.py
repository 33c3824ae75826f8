"""What the tests of bulk sending share: recipients, the operator, and what the sandbox received."""

from __future__ import annotations

import json
from collections import Counter
from datetime import timedelta
from typing import Any

from airflow_provider_omnimessage.api.messages import sms
from airflow_provider_omnimessage.operators.bulk import ScheduleBulkOmnimessageOperator

NEW_YEAR = "2099-01-01T09:00Z"


def number(index: int) -> str:
    """Return a different recipient for each row, with an ending that makes the sandbox deliver."""
    return f"+3725{index:06d}9"


def people(count: int) -> list[dict[str, Any]]:
    return [{"to": number(index), "name": f"Person {index}"} for index in range(count)]


def sending(**settings: Any) -> ScheduleBulkOmnimessageOperator:
    settings = {"messages": [sms("Hello $name")], "retry_delay": timedelta(0), **settings}
    if "omnimessages" in settings:
        del settings["messages"]
    return ScheduleBulkOmnimessageOperator(task_id="send", **settings)


def bulk_calls(sandbox: Any) -> list[dict[str, Any]]:
    return [request for request in sandbox.requests if request["call"] == "bulk"]


def sizes(sandbox: Any) -> list[int]:
    return [len(json.loads(call["body"])["messages"]) for call in bulk_calls(sandbox)]


def live(sandbox: Any) -> Counter[str]:
    """Count the messages of each recipient that were not cancelled."""
    return Counter(message["to"] for message in sandbox.messages if message["state"] != "cancelled")


def texts(sandbox: Any) -> list[str]:
    return [message["body"]["messages"][0]["text"] for message in sandbox.messages]
