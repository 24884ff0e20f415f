"""The fabric's evidence key, an Ed25519 key (RFC 8032) in ``<state>/secrets/evidence.key``, and its public half."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from autoscaler.boot.trust import secret_file
from fabric.evidence.document import Evidence

KEY_FILE = "evidence.key"
_MARK = "ed25519:"


class BadKeyError(Exception):
    """A key that is not an Ed25519 key; says what it is instead, or where it is."""


def signing_key(state: Path) -> Ed25519PrivateKey:
    """The fabric's key; made on first use.

    Raises:
        BadKeyError: the file holds something else.
        OSError: it cannot be read or written.
    """
    path = secret_file(state, KEY_FILE, _new_key)
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise BadKeyError(f"{path} is not an Ed25519 key in PEM; restore it, or move it away to make a new one")
    return key


def known_public_key(state: Path) -> bytes | None:
    """The public half of the key under ``state``, raw; None where there is no key.

    Raises:
        BadKeyError: the file holds something else.
        OSError: it cannot be read.
    """
    return public_bytes(signing_key(state)) if (state / "secrets" / KEY_FILE).exists() else None


def sign(evidence: Evidence, key: Ed25519PrivateKey) -> Evidence:
    """The same evidence with a signature."""
    named = replace(evidence, key=public_bytes(key))
    return replace(named, signature=key.sign(named.signed_bytes()))


def public_bytes(key: Ed25519PrivateKey) -> bytes:
    """The public half, 32 raw bytes."""
    return key.public_key().public_bytes_raw()


def public_pem(key: bytes) -> str:
    """A public key in PEM (RFC 8410), as openssl reads it."""
    return (
        Ed25519PublicKey.from_public_bytes(key)
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode("ascii")
    )


def read_public_key(text: str) -> bytes:
    """The raw public key in ``ed25519:<hex>`` or in PEM.

    Raises:
        BadKeyError: it is neither.
    """
    bare = text.strip()
    if bare.startswith("-----BEGIN"):
        try:
            key = serialization.load_pem_public_key(bare.encode())
        except (ValueError, UnsupportedAlgorithm):
            key = None
        if isinstance(key, Ed25519PublicKey):
            return key.public_bytes_raw()
    elif bare.startswith(_MARK):
        try:
            found = bytes.fromhex(bare.removeprefix(_MARK))
        except ValueError:
            found = b""
        if len(found) == 32:
            return found
    raise BadKeyError(f"{bare[:80]!r} is not a public key; write {_MARK} and 64 hex digits, or name a PEM file")


def _new_key() -> bytes:
    return Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
