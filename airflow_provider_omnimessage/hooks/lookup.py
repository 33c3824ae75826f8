"""Prepare an event loop to reach Messente, without blocking it: look up the connection, import the transport."""

from __future__ import annotations

import asyncio
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

from airflow_provider_omnimessage._compat import connection_of, in_thread, triggerer_stats

if TYPE_CHECKING:
    from airflow_provider_omnimessage.hooks.settings import Settings


async def look_up_settings(conn_id: str) -> Settings:
    """
    Return the settings of a connection.

    :raises InvalidInputError: as :meth:`Settings.read` does.
    :raises Exception: what Airflow raises if there is no such connection, or if it cannot look it up.
    """
    from airflow_provider_omnimessage.hooks.settings import Settings

    connection = await connection_of(conn_id)
    # reading the extra masks it in the logs, for which Airflow may wait for its supervisor: not on this loop
    return await in_thread(partial(Settings.read, connection))


async def import_transport() -> None:
    """Import what requests from an event loop need. It takes a quarter of a second, once, in a thread."""
    await asyncio.to_thread(_import_transport)


def _import_transport() -> None:
    import_module("airflow_provider_omnimessage.hooks.aiohttp_transport")
    triggerer_stats()
