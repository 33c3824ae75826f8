"""The base class of Airflow's plugins. Its module is heavier than the other bases', so only the plugin imports it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.sdk.plugins_manager import AirflowPlugin
else:
    try:
        from airflow.sdk.plugins_manager import AirflowPlugin
    except ImportError:  # Airflow 3.1 and older
        from airflow.plugins_manager import AirflowPlugin

__all__ = ["AirflowPlugin"]
