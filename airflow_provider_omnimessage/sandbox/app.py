"""The whole sandbox as one ASGI application: routes calls to Messente's API, or to the control calls and the inbox."""

from __future__ import annotations

from fastapi.responses import JSONResponse, Response

from airflow_provider_omnimessage.sandbox.control import control_app
from airflow_provider_omnimessage.sandbox.guard import rejection_reason
from airflow_provider_omnimessage.sandbox.messente_api import unauthorized
from airflow_provider_omnimessage.sandbox.messente_app import (
    CutConnection,
    MessenteApp,
    Receive,
    Scope,
    Send,
    api_path,
)
from airflow_provider_omnimessage.sandbox.posting import is_loopback
from airflow_provider_omnimessage.sandbox.state import SandboxState


class SandboxApp:
    """The whole sandbox as one ASGI application.

    :param state: the sandbox.
    :param cut: resets a connection.
    :param url: the API's base URL, as clients reach it.
    :param host: the host that the server listens on.
    """

    def __init__(self, state: SandboxState, cut: CutConnection, *, url: str, host: str) -> None:
        self._state = state
        self._host = host
        self._messente = MessenteApp(state, cut)
        self._control = control_app(state, url)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Route one call."""
        if api_path(scope["path"]) is not None:
            await self._messente(scope, receive, send)
            return
        rejection = self._rejection(scope)
        if rejection is not None:
            await rejection(scope, receive, send)
            return
        await self._control(scope, receive, send)

    def _rejection(self, scope: Scope) -> Response | None:
        # The address that a connection arrived at belongs to the sandbox, whatever it listens on.
        own_hosts = (self._host, scope["server"][0])
        reason = rejection_reason(scope["method"], scope["headers"], own_hosts)
        if reason:
            return JSONResponse({"detail": reason}, 403)
        if is_loopback(scope["client"][0]):
            return None
        authorization = dict(scope["headers"]).get(b"authorization", b"")
        if self._state.api.is_authorized(authorization):
            return None
        denied = unauthorized()
        headers = {name.decode(): value.decode() for name, value in denied.headers}
        return Response(denied.body, denied.status, headers)
