"""Airflow's base class of links, which importing an operator does not need."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.sdk import BaseOperatorLink
else:
    try:
        from airflow.sdk import BaseOperatorLink
    except ImportError:  # Airflow 2
        from airflow.models.baseoperatorlink import BaseOperatorLink

__all__ = ["BaseOperatorLink"]
