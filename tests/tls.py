"""A server that speaks TLS on this machine, with a certificate that nobody trusts yet."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
from datetime import datetime, timedelta, timezone
from pathlib import Path


class tls_server:
    """
    A TLS server with a certificate of its own making.

    :param folder: where the certificate is written, as ``server.pem``.
    :param answer: the response to every request.
    :param address: whom the certificate is for.
    :param days: how long it is valid, from ten days ago.
    """

    def __init__(self, folder: Path, *, answer: bytes = b"", address: str = "127.0.0.1", days: int = 20) -> None:
        self.answer = answer
        self.received: list[bytes] = []
        self.connections = 0
        self.certificate = folder / "server.pem"
        _write_certificate(self.certificate, address, days)
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.host = f"https://127.0.0.1:{self.socket.getsockname()[1]}"

    def __enter__(self) -> tuple[str, list[bytes]]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate)

        def serve() -> None:
            while self.socket.fileno() >= 0:
                try:
                    raw, _ = self.socket.accept()
                    self.connections += 1
                    with context.wrap_socket(raw, server_side=True) as connection:
                        self.received.append(connection.recv(65536))
                        connection.sendall(self.answer if self.received[-1] else b"")
                except OSError:
                    continue

        threading.Thread(target=serve, daemon=True).start()
        return self.host, self.received

    def __exit__(self, *_: object) -> None:
        self.socket.close()


def _write_certificate(path: Path, address: str, days: int) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, address)])
    begin = datetime.now(timezone.utc) - timedelta(days=10)
    usage = dict.fromkeys(
        (
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "crl_sign",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), critical=False)
        # as an authority of its own, so that whoever trusts it trusts itself
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(digital_signature=True, key_cert_sign=True, **usage), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    path.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
