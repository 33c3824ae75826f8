"""Each call of the API as data: what to request, and how to read the response. Any transport can make them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, Literal, TypeVar

from airflow_provider_omnimessage.api import responses
from airflow_provider_omnimessage.api.delivery import DeliveryReport
from airflow_provider_omnimessage.api.ids import checked_id
from airflow_provider_omnimessage.api.responses import Accepted, NotAccepted, Response

T = TypeVar("T")

#: An id that no message has: a request for its report checks the credentials and disturbs nobody.
NOBODYS_ID = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True)
class Call(Generic[T]):
    """
    One call of the API.

    :param name: its name in logs and errors.
    :param path: below the base URL.
    :param read: makes the result from a successful response.
    :param body: sent as JSON, if anything: plain data, or JSON already.
    """

    name: str
    method: Literal["GET", "POST", "DELETE"]
    path: str
    read: Callable[[Response], T]
    body: Mapping[str, object] | bytes | None = None

    @cached_property
    def content(self) -> bytes | None:
        """The body as it is sent."""
        return json.dumps(self.body).encode() if isinstance(self.body, Mapping) else self.body

    def result(self, response: Response) -> T:
        """
        Return the result of this call.

        :raises ApiError: if the response is not a success; its class depends on the status.
        """
        if not 200 <= response.status < 300:
            raise responses.error_of(response, self.name)
        responses.require_no_errors(response, self.name)
        return self.read(response)


def send(omnimessage: Mapping[str, object]) -> Call[Accepted]:
    """
    Return the call that sends or schedules one message: ``POST /omnimessage``.

    :param omnimessage: as :func:`~airflow_provider_omnimessage.api.messages.omnimessage` builds it.
    """
    return Call("send", "POST", "/omnimessage", responses.read_accepted, body=omnimessage)


def send_bulk(omnimessages: Sequence[Mapping[str, object] | bytes]) -> Call[list[Accepted | NotAccepted]]:
    """
    Return the call that sends or schedules many messages: ``POST /omnimessages``.

    Each is accepted or rejected on its own. The result has an entry for each message, in order.

    :param omnimessages: 1 to 1,000, as :func:`~airflow_provider_omnimessage.api.messages.omnimessage` builds them, or
        their JSON.
    """
    written = [each if isinstance(each, bytes) else json.dumps(each).encode() for each in omnimessages]
    count = len(written)
    body = b'{"messages": [%s]}' % b", ".join(written)
    return Call("bulk send", "POST", "/omnimessages", lambda response: responses.read_bulk(response, count), body=body)


def cancel(omnimessage_id: str) -> Call[None]:
    """
    Return the call that cancels a scheduled message: ``DELETE /omnimessage/{omnimessage_id}``.

    :raises InvalidInputError: if this cannot be an id.
    """
    return Call("cancel", "DELETE", f"/omnimessage/{checked_id(omnimessage_id)}", responses.read_cancelled)


def delivery_report(omnimessage_id: str) -> Call[DeliveryReport]:
    """
    Return the call that requests a delivery report: ``GET /omnimessage/{omnimessage_id}/status``.

    :raises InvalidInputError: if this cannot be an id.
    """
    path = f"/omnimessage/{checked_id(omnimessage_id)}/status"
    return Call(
        "delivery report", "GET", path, lambda response: responses.read_delivery_report(response, omnimessage_id)
    )


def credentials_check() -> Call[None]:
    """
    Return a call that checks the credentials without any effect: the report of a message that does not exist.

    If the credentials are right, Messente responds with its own 404.
    """

    def read(_response: Response) -> None:
        return None

    return Call("credentials check", "GET", f"/omnimessage/{NOBODYS_ID}/status", read)
