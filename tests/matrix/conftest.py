"""A clean environment for each supported Airflow, with the built wheel in it, and what was seen there."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_omnimessage.sandbox import Sandbox

from .environments import HERE, Environment, build_wheel, make_venv
from .expectations import RUNS, VERSIONS, WAITING, Version
from .receiving import receiving

#: What ``scripts/test --matrix`` runs, and with the pre-release, ``--early``: a failure there is listed only.
WANTED = [
    pytest.param(version, marks=pytest.mark.xfail(reason=f"Airflow {version.airflow} is a pre-release"))
    if version.is_early
    else version
    for version in VERSIONS
    if not version.is_early or "OMNIMESSAGE_EARLY" in os.environ
]
#: Versions at a time: while one waits, the other works. If another worker of pytest runs an Airflow beside them, one.
AT_A_TIME = 1 if "PYTEST_XDIST_WORKER" in os.environ else 2


@dataclass(frozen=True)
class Seen:
    """
    What was seen of one version.

    :param environment: where it ran.
    :param waited: the waits that were seen to be waiting, and in which state.
    :param messages: what was at Messente when its DAGs had run.
    :param requests_while_pushed: the calls that Messente got while a deferred wait relied on reports; ``None`` if there
        was no such wait.
    :param report: the report that the environment wrote.
    """

    environment: Environment
    waited: dict[tuple[str, str], str]
    messages: list[dict[str, Any]]
    requests_while_pushed: list[str] | None
    report: dict[str, Any]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build what users install."""
    return build_wheel(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="session")
def seen_of(
    request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[Version], Seen]]:
    """Run every version that a test needs, a few at a time."""
    wanted = [version for version in VERSIONS if version in map(_asked_for, request.session.items)]
    with ExitStack() as open_till_the_end, ThreadPoolExecutor(AT_A_TIME) as threads:
        running: dict[Version, Future[Seen]] = {}
        for version in wanted:
            sandbox = open_till_the_end.enter_context(Sandbox())
            folder = tmp_path_factory.mktemp(f"airflow-{version.line}-")
            running[version] = threads.submit(_see, version, folder, wheel, sandbox)
        yield lambda version: running[version].result()


def _asked_for(item: pytest.Item) -> Version | None:
    """Return the version that a test asks for."""
    call = getattr(item, "callspec", None)
    return call.params.get("seen") if call is not None else None


def _see(version: Version, folder: Path, wheel: Path, sandbox: Sandbox) -> Seen:
    environment = Environment(version, folder, make_venv(version, wheel), sandbox)
    environment.must("-m", "airflow", "db", "migrate")
    waited: dict[tuple[str, str], str] = {}
    sandbox.add_fault("server_error", call="status", times="always")

    def let_reports_tell_once_all_wait() -> None:
        pushing.deliver_once_deferred(environment)
        now = environment.states(WAITING)
        waited.update({task: state for task, state in now.items() if state == WAITING[task]})
        if waited == WAITING:
            sandbox.clear_faults()

    # what callbacks send, they send after the runs have ended
    expected = sum(map(len, version.messages.values()))
    with receiving(environment, wheel) as pushing:
        environment.live(
            lambda: len(sandbox.messages) >= expected and environment.runs_have_ended(RUNS),
            let_reports_tell_once_all_wait,
        )
        requests_while_pushed = pushing.requests_while_deferred
    messages = sandbox.messages
    sandbox.clear_faults()
    written = folder / "report.json"
    environment.must(HERE / "inside.py", HERE / "dags", written)
    return Seen(environment, waited, messages, requests_while_pushed, json.loads(written.read_text()))


@pytest.fixture(scope="session", params=WANTED, ids=lambda version: version.line)
def seen(request: pytest.FixtureRequest, seen_of: Callable[[Version], Seen]) -> Seen:
    """Return each version in turn."""
    return seen_of(request.param)


@pytest.fixture(scope="session")
def environment(seen: Seen) -> Environment:
    """Return the environment of this version."""
    return seen.environment


@pytest.fixture(scope="session")
def report(seen: Seen) -> dict[str, Any]:
    """Return the report that the environment wrote."""
    return seen.report
