"""The receiver's options in Airflow's configuration, section ``[omnimessage]``."""

from __future__ import annotations

import math

SECTION = "omnimessage"


class OptionError(ValueError):
    """An option has a value that cannot be used; the message says which and what to do."""


def is_enabled() -> bool:
    """Return whether Airflow's API server runs the receiver: ``[omnimessage] receiver``.

    :raises OptionError: if it is neither true nor false.
    """
    from airflow.configuration import conf
    from airflow.exceptions import AirflowConfigException

    try:
        return bool(conf.getboolean(SECTION, "receiver", fallback=False))
    except AirflowConfigException:
        raise OptionError("[omnimessage] receiver: is neither true nor false; use True or False") from None


def database_url() -> str | None:
    """Return the receiver's database: ``[omnimessage] receiver_database``; ``None``: Airflow's own."""
    from airflow.configuration import conf

    return conf.get(SECTION, "receiver_database", fallback=None) or None


def retention_days() -> float:
    """Return for how many days events are kept: ``[omnimessage] receiver_retention_days``.

    :raises OptionError: if it is not a positive number.
    """
    from airflow.configuration import conf
    from airflow.exceptions import AirflowConfigException

    try:
        days = float(conf.getfloat(SECTION, "receiver_retention_days", fallback=7.0))
    except (AirflowConfigException, ValueError):
        days = 0.0
    if not 0 < days < math.inf:
        raise OptionError(
            "[omnimessage] receiver_retention_days: is not a positive number; use a number of days, such as 7 or 0.5"
        )
    return days
