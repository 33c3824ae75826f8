"""An embedded Messente for development, demos and tests. It shares no code with the hook: the two can disagree."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_omnimessage.sandbox.client import SandboxClient
    from airflow_provider_omnimessage.sandbox.server import Sandbox

__all__ = ["Sandbox", "SandboxClient"]


def __getattr__(name: str) -> object:
    # Imported on first use: FastAPI and uvicorn are optional, and slow to import.
    if name == "Sandbox":
        from airflow_provider_omnimessage.sandbox.server import Sandbox

        return Sandbox
    if name == "SandboxClient":
        from airflow_provider_omnimessage.sandbox.client import SandboxClient

        return SandboxClient
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
