"""Fixtures of the unit tests."""

from __future__ import annotations

import io
import json
import sys
from datetime import timedelta

import pytest

from airflow_provider_omnimessage.__main__ import main
from airflow_provider_omnimessage.api.messages import sms
from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook

TO = "+37255555555"


class Ended:
    """How a command ended."""

    def __init__(self, code: int, output: str, told: str) -> None:
        self.code = code
        self.output = output
        self.told = told

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
    with OmnimessageHook() as hook:
        return hook.send(TO, [sms("a")], time_to_send=timedelta(hours=1)).omnimessage_id
