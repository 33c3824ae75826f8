"""The receiver's options in Airflow's configuration, section ``[omnimessage]``."""

from __future__ import annotations

SECTION = "omnimessage"


def is_enabled() -> bool:
    """Return whether Airflow's API server runs the receiver: ``[omnimessage] receiver``."""
    from airflow.configuration import conf

    return bool(conf.getboolean(SECTION, "receiver", fallback=False))


def database_url() -> str | None:
    """Return the receiver's database: ``[omnimessage] receiver_database``; ``None``: Airflow's own."""
    from airflow.configuration import conf

    return conf.get(SECTION, "receiver_database", fallback=None) or None


def retention_days() -> float:
    """Return for how many days events are kept: ``[omnimessage] receiver_retention_days``."""
    from airflow.configuration import conf

    return float(conf.getfloat(SECTION, "receiver_retention_days", fallback=7.0))
