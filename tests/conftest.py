"""For all tests: a separate Airflow home, and no network access beyond this machine."""

from __future__ import annotations

import atexit
import gc
import ipaddress
import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest
from full_size import IS_FULL_SIZE
from tls import tls_server

if TYPE_CHECKING:
    from airflow_provider_omnimessage.sandbox import Sandbox

# Airflow reads its home once, when it is first imported.
_HOME = tempfile.mkdtemp(prefix="omnimessage-tests-")
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)
for _name in [name for name in os.environ if name.startswith("AIRFLOW_")]:
    del os.environ[_name]
os.environ["AIRFLOW_HOME"] = _HOME
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ["AIRFLOW__CORE__DAGS_FOLDER"] = os.path.join(_HOME, "dags")
os.mkdir(os.environ["AIRFLOW__CORE__DAGS_FOLDER"])
os.environ["AIRFLOW__USAGE_DATA_COLLECTION__ENABLED"] = "False"
os.environ["NO_PROXY"] = "127.0.0.1,localhost"


def _stay_on_this_machine(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.connect":
        address = arguments[1]
        if isinstance(address, tuple) and not ipaddress.ip_address(address[0]).is_loopback:
            raise AssertionError(f"A test tried to reach {address[0]}")
    if event == "socket.getaddrinfo":
        host = arguments[0]
        host = host.decode() if isinstance(host, bytes) else host
        if host not in (None, "", "localhost", "0.0.0.0", "::", "127.0.0.1", "::1", socket.gethostname()):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


sys.addaudithook(_stay_on_this_machine)


# long, so that no test fails on a busy machine
hypothesis.settings.register_profile(
    "any machine",
    deadline=None,
    max_examples=100 if IS_FULL_SIZE else 15,
    # the same examples each time, so that what passed here passes there; developers search with others
    derandomize="CI" in os.environ,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("any machine")

# Airflow is a million objects that stay: looking at them again and again takes a fifth of the tests' time.
gc.set_threshold(50_000, 20, 50)


def pytest_collection_finish() -> None:
    """Leave what the tests have imported out of garbage collection."""
    gc.collect()
    gc.freeze()


#: Modules that take minutes, the longest first: one that began last would run alone in the end.
LONGEST = (
    "test_matrix",
    "test_receiver",
    "test_docs_commands",
    "test_crashes",
    "test_waits",
    "test_alerts",
    "test_tutorial",
    "test_airflow",
    "test_guarded_work",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, and reject names that differ from process to process.

    The tests are distributed by their names.
    """
    rank = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(LONGEST)))
    unstable = sorted({item.nodeid.partition("[")[0] for item in items if " at 0x" in item.nodeid})
    if unstable:
        raise pytest.UsageError(f"names with an address in them; pass ids= to parametrize: {', '.join(unstable)}")


@pytest.fixture(scope="session")
def omnimessage_sandbox_options() -> dict[str, str]:
    """Credentials with all characters that need escaping somewhere."""
    return {"username": "us:er%@/ü", "password": "p:a/s@s%w ü漢🔑"}


class Pauses(list[float]):
    """Record the pauses between attempts instead of sleeping; the clock moves forward by each."""

    sleep = list.append

    def monotonic(self) -> float:
        return time.monotonic() + sum(self)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pauses]:
    from airflow_provider_omnimessage.alerts import beats, known
    from airflow_provider_omnimessage.hooks import budget, pacing, repeating, requests_transport
    from airflow_provider_omnimessage.hooks import cancelling as hook_cancelling
    from airflow_provider_omnimessage.notifications import event_store
    from airflow_provider_omnimessage.tasks import cancelling, posting

    pauses = Pauses()
    for module in (
        requests_transport,
        pacing,
        repeating,
        budget,
        hook_cancelling,
        known,
        beats,
        cancelling,
        posting,
        event_store,
    ):
        monkeypatch.setattr(module, "time", pauses)
    pacing.reset_paces()
    yield pauses
    pacing.reset_paces()


@pytest.fixture
def sandbox(omnimessage_sandbox: Sandbox, pauses: Pauses) -> Sandbox:
    """The sandbox fixture that users get, without real pauses."""
    return omnimessage_sandbox


@pytest.fixture
def untrusted_server(tmp_path: Path) -> Iterator[tls_server]:
    """A TLS server with a self-signed certificate that never responds."""
    server = tls_server(tmp_path)
    with server:
        yield server
