"""The plugin that mounts the receiver. Every Airflow process imports it, so it imports nothing heavy."""

from __future__ import annotations

import logging
from functools import cached_property

from airflow_provider_omnimessage._compat.plugins import AirflowPlugin

PREFIX = "/omnimessage"

log = logging.getLogger(__name__)


class OmnimessagePlugin(AirflowPlugin):
    """Mount the receiver in Airflow's API server, if ``[omnimessage] receiver`` is on."""

    name = "omnimessage"

    @cached_property
    def fastapi_apps(self) -> list[dict[str, object]]:  # type: ignore[override]
        """The application. Only the API server reads this, and it has FastAPI and the database anyway."""
        from airflow_provider_omnimessage.receiver import config

        try:
            if not config.is_enabled():
                return []
            retention_days = config.retention_days()
        except config.OptionError as error:  # it would stop the API server, which serves more than the receiver
            log.error("%s; the API server starts without the receiver", error)
            return []
        from airflow_provider_omnimessage.receiver.app import create_app
        from airflow_provider_omnimessage.receiver.database import open_database
        from airflow_provider_omnimessage.receiver.service import Receiver

        receiver = Receiver(lambda: open_database(config.database_url()), retention_days=retention_days)
        return [{"app": create_app(receiver), "url_prefix": PREFIX, "name": "Omnimessage receiver"}]
