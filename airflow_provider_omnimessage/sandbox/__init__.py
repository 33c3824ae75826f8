"""An embedded Messente for development, demos and tests: a second reading of the API, without the hook's code."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_omnimessage.sandbox.client import SandboxClient
    from airflow_provider_omnimessage.sandbox.server import Sandbox

__all__ = ["Sandbox", "SandboxClient"]


def __getattr__(name: str) -> object:
    # Imported on use: FastAPI and uvicorn are an extra, and nobody should pay for them at import.
    if name == "Sandbox":
        from airflow_provider_omnimessage.sandbox.server import Sandbox

        return Sandbox
    if name == "SandboxClient":
        from airflow_provider_omnimessage.sandbox.client import SandboxClient

        return SandboxClient
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
