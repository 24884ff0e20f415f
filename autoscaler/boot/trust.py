"""What both ends of a join trust: one-time tickets, the cluster token, and the gateway's certificate.

Secrets live in ``<state>/secrets`` (0700, every file 0600) on the head's machine. Several processes may ask for
the same secret at the same moment; the first one makes it and everyone gets that one.
"""

from __future__ import annotations

import datetime
import fcntl
import hashlib
import ipaddress
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from autoscaler.boot.private import private_directory, write_private

CERTIFICATE_LIFE = datetime.timedelta(days=3650)


@dataclass(frozen=True, slots=True)
class Ticket:
    """A one-time join ticket: ``text`` goes into user data, only ``sha256`` (hex) into the journal."""

    text: str
    sha256: str

    def __repr__(self) -> str:
        return f"Ticket({self.sha256[:12]}…)"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where nodes reach the gateway, and what its certificate must hash to (``""`` for plain http)."""

    url: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate and its key on disk; ``fingerprint`` is the SHA-256 of the DER form, in hex."""

    certificate: Path
    key: Path
    fingerprint: str


def new_ticket() -> Ticket:
    """Make a ticket of 256 random bits."""
    text = secrets.token_urlsafe(32)
    return Ticket(text, sha256_hex(text))


def sha256_hex(text: str) -> str:
    """Hash a ticket or a nonce into the form in which the journal may keep it."""
    return hashlib.sha256(text.encode()).hexdigest()


def cluster_token_file(state: Path) -> Path:
    """Path of the token that every process of the Ray cluster shares (``RAY_AUTH_TOKEN_PATH``); made if missing."""
    return secret_file(state, "cluster.token", lambda: secrets.token_hex(32).encode())


def guard_key_file(state: Path) -> Path:
    """Path of the key that badges are made and checked with (``fabric.sovereignty.badge``); made if missing."""
    return secret_file(state, "guard.key", lambda: secrets.token_bytes(32))


def secret_file(state: Path, name: str, make: Callable[[], bytes]) -> Path:
    """Path of a secret under ``state``; ``make`` is called once in the life of the state directory."""
    path = private_directory(state / "secrets") / name
    with _Lock(path.parent):
        if not path.exists():
            write_private(path, make())
    return path


def gateway_endpoint(state: Path, listen: str, advertise: str = "") -> Endpoint:
    """Where nodes reach a gateway that listens on ``listen`` (``host:port``).

    Args:
        state: the state directory; the certificate is made there when one is needed.
        listen: the configured address. On loopback it is plain http, anywhere else https.
        advertise: host to tell nodes when ``listen`` is a wildcard such as ``0.0.0.0``.
    """
    host, _, port = listen.rpartition(":")
    bare = host.strip("[]")
    if is_loopback(bare):
        return Endpoint(f"http://{host}:{port}", "")
    told = advertise if bare in ("0.0.0.0", "::") and advertise else bare  # noqa: S104 - compared, not bound
    shown = f"[{told}]" if ":" in told else told
    return Endpoint(f"https://{shown}:{port}", ensure_certificate(state, told).fingerprint)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach ``host``."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def ensure_certificate(state: Path, host: str) -> Certificate:
    """Load the gateway's self-signed certificate, or make it: nodes pin its fingerprint, no authority is needed."""
    key_path = secret_file(state, "gateway.key", _new_key)

    def make() -> bytes:
        return _self_signed(key_path.read_bytes(), host)

    path = secret_file(state, "gateway.crt", make)
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    return Certificate(path, key_path, certificate.fingerprint(hashes.SHA256()).hex())


class _Lock:
    """Hold a directory against other processes that make secrets in it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def __enter__(self) -> None:
        self._descriptor = os.open(self._directory, os.O_RDONLY)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


def _new_key() -> bytes:
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _self_signed(key_pem: bytes, host: str) -> bytes:
    key = serialization.load_pem_private_key(key_pem, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("gateway.key is not an elliptic-curve key; remove gateway.key and gateway.crt")
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fabric gateway")])
    try:
        subject: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        subject = x509.DNSName(host)
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + CERTIFICATE_LIFE)
        .add_extension(x509.SubjectAlternativeName([subject]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM)
