"""Alerts that are scheduled at Messente before the work starts, and cancelled when it is done in time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_omnimessage.alerts.deadman import DeadMansSwitch
    from airflow_provider_omnimessage.alerts.heartbeat import HeartbeatOperator
    from airflow_provider_omnimessage.alerts.on_call import OnCall
    from airflow_provider_omnimessage.alerts.steps import Step

__all__ = ["DeadMansSwitch", "HeartbeatOperator", "OnCall", "Step"]

_MODULES = {"DeadMansSwitch": "deadman", "HeartbeatOperator": "heartbeat", "OnCall": "on_call", "Step": "steps"}


def __getattr__(name: str) -> Any:
    # one import path for all alerts, at the cost of the one that is imported
    if name not in _MODULES:
        raise AttributeError(name)
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
