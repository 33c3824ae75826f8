"""What every test stands on: an Airflow home of its own, and a machine that reaches nobody but itself."""

from __future__ import annotations

import atexit
import ipaddress
import os
import shutil
import socket
import ssl
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

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


@pytest.fixture(scope="session")
def omnimessage_sandbox_options() -> dict[str, str]:
    """Credentials with everything in them that could be escaped wrongly."""
    return {"username": "us:er%@/ü", "password": "p:a/s@s%w ü漢🔑"}


class Pauses(list[float]):
    """The pauses between the attempts of a call: they pass at once, on a clock that takes them for passed."""

    sleep = list.append

    def monotonic(self) -> float:
        return time.monotonic() + sum(self)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> Pauses:
    from airflow_provider_omnimessage import alerts, deadman
    from airflow_provider_omnimessage.hooks import transport

    pauses = Pauses()
    for module in (transport, alerts, deadman):
        monkeypatch.setattr(module, "time", pauses)
    return pauses


@pytest.fixture
def sandbox(omnimessage_sandbox: Sandbox, pauses: Pauses) -> Sandbox:
    """What users have in their tests, with pauses that pass at once."""
    return omnimessage_sandbox


class UntrustedServer:
    """
    Speaks TLS with a certificate of its own making, and answers nothing.

    :param folder: where its certificate is kept.
    """

    def __init__(self, folder: Path) -> None:
        self.bundle = folder / "server.pem"
        self.heard: list[bytes] = []
        self.connections = 0
        self._certify()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.host = f"https://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._socket.close()

    def _certify(self) -> None:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import NameOID

        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
        now = datetime.now(timezone.utc)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(1)
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
            .sign(key, hashes.SHA256())
        )
        self.bundle.write_bytes(
            certificate.public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )

    def _serve(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.bundle)
        while self._socket.fileno() >= 0:
            try:
                raw, _ = self._socket.accept()
                self.connections += 1
                with context.wrap_socket(raw, server_side=True) as connection:
                    self.heard.append(connection.recv(65536))
            except OSError:
                continue


@pytest.fixture
def untrusted_server(tmp_path: Path) -> Iterator[UntrustedServer]:
    server = UntrustedServer(tmp_path)
    yield server
    server.close()
