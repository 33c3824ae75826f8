"""The link *Message* of a task: to its message in the dashboard."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from airflow_provider_omnimessage._compat import stored_xcom
from airflow_provider_omnimessage._compat.links import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey

# a task may return a word such as 'delivered', which is no id: Messente's have 36 characters
_SHORTEST_ID = 16


class OmnimessageLink(BaseOperatorLink):
    """
    Link a task to its message, with the connection's ``dashboard_url``.

    ``{omnimessage_id}`` in the URL is replaced by the task's argument or return value; of many ids, by the first. There
    is no link if the connection has no ``dashboard_url``, or the task no message.

    Airflow 3 creates the link in the worker when the task ends, and stores it as an XCom. Airflow 2 creates it in the
    webserver each time it is shown; there, a templated ``omnimessage_conn_id`` is not rendered, so there is no link.
    """

    name = "Message"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """
        Return the URL, or an empty string.

        :param operator: on Airflow 2, the serialized task.
        """
        # in Airflow 2, the argument can be a template that is not rendered
        omnimessage_id = _first_id(getattr(operator, "omnimessage_id", None)) or _first_id(
            stored_xcom(ti_key, "return_value")
        )
        return link_to(omnimessage_id, _dashboard_url(operator)) if omnimessage_id else ""


def link_to(omnimessage_id: str, dashboard_url: str | None) -> str:
    """
    Return the URL of one message.

    :param dashboard_url: of the connection, with ``{omnimessage_id}``.
    """
    return (dashboard_url or "").replace("{omnimessage_id}", quote(omnimessage_id, safe=""))


def _first_id(value: object) -> str:
    """Return the first id in an argument or a return value, or an empty string."""
    from airflow_provider_omnimessage.api.errors import InvalidInputError
    from airflow_provider_omnimessage.api.ids import checked_id

    if isinstance(value, dict):
        # a bulk send returns all of its ids, or the first and the file that contains them
        return _first_id(value.get("omnimessage_id")) or _first_id(value.get("first_omnimessage_id"))
    if isinstance(value, (list, tuple)):
        return next(filter(None, map(_first_id, value)), "")
    try:
        omnimessage_id = checked_id(value)
    except InvalidInputError:
        return ""
    return omnimessage_id if len(omnimessage_id) >= _SHORTEST_ID else ""


def _dashboard_url(operator: BaseOperator) -> str | None:
    from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook

    try:
        conn_id = getattr(operator, "omnimessage_conn_id", None) or OmnimessageHook.default_conn_name
        hook = getattr(operator, "hook", None) or OmnimessageHook(conn_id)
        dashboard_url: str | None = hook.settings.dashboard_url
    except Exception:  # the connection cannot be read: the task has failed and reported that already
        return None
    return dashboard_url
