"""One version's receiver, in its API server or (Airflow 2) in a process of its own, and a sandbox that posts to it."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from airflow_provider_omnimessage.sandbox import Sandbox

from .environments import Environment, make_venv

CONNECTION = "AIRFLOW_CONN_OMNIMESSAGE_PUSHED"
WAIT = ("matrix_pushed", "wait")


@dataclass
class Receiving:
    """Delivers a message once its wait is deferred, and shows what was requested of Messente from then on.

    :param sandbox: posts reports to the receiver. Its clock does not move until then.
    """

    sandbox: Sandbox
    _requests_before: int | None = field(default=None, init=False)

    def deliver_once_deferred(self, environment: Environment) -> None:
        """Let the message be delivered, if its wait is deferred."""
        if self._requests_before is None and environment.states([WAIT]).get(WAIT) == "deferred":
            self._requests_before = len(self.sandbox.requests)
            self.sandbox.advance_to_next_message()
            self.sandbox.advance(30)

    @property
    def requests_while_deferred(self) -> list[str] | None:
        """The calls that Messente got after the wait was deferred; ``None`` if it never was."""
        if self._requests_before is None:
            return None
        return [request["call"] for request in self.sandbox.requests[self._requests_before :]]


@contextmanager
def receiving(environment: Environment, wheel: Path) -> Iterator[Receiving]:
    """Turn the receiver on, and point the connection ``omnimessage_pushed`` at it."""
    with Sandbox() as sandbox:
        sandbox.freeze()
        settings = environment.variables
        settings["AIRFLOW__OMNIMESSAGE__RECEIVER"] = "True"
        settings["AIRFLOW__OMNIMESSAGE__RECEIVER_DATABASE"] = f"sqlite:///{environment.folder}/receiver.db"
        settings[CONNECTION] = json.dumps(sandbox.connection)
        with _own_process(environment, wheel) if environment.version.is_2 else _in_api_server(environment) as url:
            settings[CONNECTION] = json.dumps({**sandbox.connection, "extra": {"push_url": url}})
            yield Receiving(sandbox)


@contextmanager
def _in_api_server(environment: Environment) -> Iterator[str]:
    yield f"{environment.home.url}/omnimessage"


@contextmanager
def _own_process(environment: Environment, wheel: Path) -> Iterator[str]:
    """Run the receiver from an environment of its own: Airflow's has no FastAPI, and needs none."""
    python = make_venv(environment.version, wheel, suffix="-receiver", extra="receiver")
    announced = environment.folder / "receiver.json"
    with (environment.folder / "receiver.log").open("wb") as log:
        process = subprocess.Popen(
            [
                *(str(python), "-m", "airflow_provider_omnimessage", "receiver"),
                *("--port", "0", "--announce", str(announced)),
            ],
            env=environment.variables,
            cwd=environment.folder,
            stdout=log,
            stderr=log,
        )
    try:
        until = time.monotonic() + 120
        while not announced.exists():
            said = (environment.folder / "receiver.log").read_text()
            assert process.poll() is None, f"the receiver did not start:\n{said}"
            assert time.monotonic() < until, f"the receiver did not start in time:\n{said}"
            time.sleep(0.1)
        yield json.loads(announced.read_text())["url"]
    finally:
        process.terminate()
        process.wait(30)
