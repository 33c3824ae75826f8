"""What the tests of bulk sends share: the recipients, the operator, and what reached the API."""

from __future__ import annotations

import json
from collections import Counter
from datetime import timedelta

from airflow_provider_omnimessage.api.messages import sms
from airflow_provider_omnimessage.operators.bulk import ScheduleBulkOmnimessageOperator

NEW_YEAR = "2099-01-01T09:00Z"


def number(index):
    """A recipient of its own for each row; none of them ends like one that the sandbox treats in its own way."""
    return f"+3725{index:06d}9"


def people(count):
    return [{"to": number(index), "name": f"Person {index}"} for index in range(count)]


def sending(**settings):
    settings = {"messages": [sms("Hello $name")], "retry_delay": timedelta(0), **settings}
    if "omnimessages" in settings:
        del settings["messages"]
    return ScheduleBulkOmnimessageOperator(task_id="send", **settings)


def bulk_calls(sandbox):
    return [request for request in sandbox.requests if request["call"] == "bulk"]


def sizes(sandbox):
    return [len(json.loads(call["body"])["messages"]) for call in bulk_calls(sandbox)]


def live(sandbox):
    """How many messages each recipient has that nobody has cancelled."""
    return Counter(message["to"] for message in sandbox.messages if message["state"] != "cancelled")


def texts(sandbox):
    return [message["body"]["messages"][0]["text"] for message in sandbox.messages]


class Changing:
    """Gives other rows in each try; raises what is an error."""

    def __init__(self, *tries):
        self._tries = list(tries)

    def __call__(self):
        found = self._tries.pop(0)
        if isinstance(found, Exception):
            raise found
        return found
