"""Fixtures of the unit tests. They import Airflow, so that pytest's main process, which runs no test, does not."""

from __future__ import annotations

import io
import json
import sys
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from airflow_provider_omnimessage.__main__ import main
from airflow_provider_omnimessage.api import delivery, waiting
from airflow_provider_omnimessage.api.messages import sms, viber

TO = "+37255555555"


class Ended:
    """How a command ended."""

    def __init__(self, code: int, output: str, stderr: str) -> None:
        self.code = code
        self.output = output
        self.stderr = stderr

    @property
    def rows(self) -> list[dict]:
        return json.loads(self.output)


@pytest.fixture
def run(capsys, sandbox):
    def run(*words, stdin: str | None = None):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "stdin", io.StringIO(stdin or ""))
            with pytest.raises(SystemExit) as ended:
                main(list(words))
        captured = capsys.readouterr()
        return Ended(ended.value.code, captured.out, captured.err)

    return run


@pytest.fixture
def scheduled(sandbox):
    from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook

    with OmnimessageHook() as hook:
        return hook.send(TO, [sms("a")], time_to_send=timedelta(hours=1)).omnimessage_id


@pytest.fixture
def quick_confirmation(monkeypatch):
    """Confirm a failed delivery soon."""
    for module in (delivery, waiting):
        monkeypatch.setattr(module, "CONFIRM_FAILED_AFTER", 0.2)


@pytest.fixture
def pushed(monkeypatch):
    """What is pushed as XComs; the system tests have a supervisor for it."""
    from airflow.sdk.execution_time.xcom import XCom

    pushed = []
    monkeypatch.setattr(XCom, "set", lambda **kwargs: pushed.append(kwargs))
    return pushed


@pytest.fixture
def send(sandbox):
    from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook

    sandbox.freeze()
    return lambda to="+37255555555", **when: OmnimessageHook().send(to, [viber("a"), sms("a")], **when).omnimessage_id


@pytest.fixture
def delivered(send, sandbox):
    id_ = send()
    sandbox.advance(10)
    return id_


@pytest.fixture
def rota(tmp_path):
    from rotas import calendar

    def write(*events: str, head: str = "X-WR-TIMEZONE:Europe/Tallinn") -> Path:
        path = tmp_path / "rota.ics"
        path.write_text(calendar(*events, head=head))
        return path

    return write


@pytest.fixture
def variables(monkeypatch):
    """Keep the state of notifiers' events in memory."""
    from storm_events import Variables

    from airflow_provider_omnimessage.notifications import event_store

    variables = Variables()
    monkeypatch.setattr(event_store, "Variable", SimpleNamespace(get=variables.look, set=variables.put))
    return variables
