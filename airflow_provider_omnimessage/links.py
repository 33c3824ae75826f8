"""The link 'Message' on a task: to where a person looks at the message that the task has to do with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow_provider_omnimessage._compat import BaseOperatorLink, stored_xcom

if TYPE_CHECKING:
    from airflow.sdk.types import TaskInstanceKey

# So that a word that a task returned, as 'delivered', is not taken for an id: Messente's have 36 characters.
_SHORTEST_ID = 16


class OmnimessageLink(BaseOperatorLink):
    """
    Lead from a task to its message, with the connection's ``dashboard_url``.

    ``{omnimessage_id}`` in it is replaced by the id that the task returned or was given; of many, the first. There is
    no link where the connection has no ``dashboard_url`` or the task no message.

    Airflow 3 asks in the worker, when the task has ended, and keeps the answer in an XCom. Airflow 2 asks in the
    webserver, each time; there, a templated ``omnimessage_conn_id`` is not rendered and gives no link.
    """

    name = "Message"

    def get_link(self, operator: Any, *, ti_key: TaskInstanceKey) -> str:
        """
        Give the address, or nothing.

        :param operator: the task; on Airflow 2 as the webserver knows it.
        :param ti_key: which of its runs.
        """
        # what it was given is a template still where Airflow 2 asks
        omnimessage_id = _first_id(getattr(operator, "omnimessage_id", None)) or _first_id(
            stored_xcom(ti_key, "return_value")
        )
        return link_to(omnimessage_id, _dashboard_url(operator)) if omnimessage_id else ""


def link_to(omnimessage_id: str, dashboard_url: str | None) -> str:
    """
    Make the address of one message.

    :param omnimessage_id: the message.
    :param dashboard_url: the connection's pattern.
    """
    return (dashboard_url or "").replace("{omnimessage_id}", quote(omnimessage_id, safe=""))


def _first_id(value: Any) -> str:
    """Find an id in what a task returned or was given: one, many, or a description of one."""
    from airflow_provider_omnimessage.api.calls import checked_id
    from airflow_provider_omnimessage.api.errors import InvalidInputError

    if isinstance(value, dict):
        # what a bulk send left holds all of its ids, or names the first and the file that holds them
        return _first_id(value.get("omnimessage_id")) or _first_id(value.get("first_omnimessage_id"))
    if isinstance(value, (list, tuple)):
        return next(filter(None, map(_first_id, value)), "")
    try:
        omnimessage_id = checked_id(value)
    except InvalidInputError:
        return ""
    return omnimessage_id if len(omnimessage_id) >= _SHORTEST_ID else ""


def _dashboard_url(operator: Any) -> str | None:
    from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook

    try:
        conn_id = getattr(operator, "omnimessage_conn_id", None) or OmnimessageHook.default_conn_name
        hook = getattr(operator, "hook", None) or OmnimessageHook(conn_id)
        dashboard_url: str | None = hook.settings.dashboard_url
    except Exception:  # whatever keeps the connection from being read has failed the task already, in its own words
        return None
    return dashboard_url
