"""Lease credentials: what a node shows after it has joined.

A credential is HMAC-SHA256 of the launch token under a secret that only the gateway reads, so the gateway keeps no
table of them, and a restart or a second gateway on the same state accepts the same ones.
"""

from __future__ import annotations

import hmac
import secrets
from hashlib import sha256
from pathlib import Path

from autoscaler.boot.trust import cluster_token_file, secret_file


class Credentials:
    """The gateway's secrets under ``state``: its lease key and the cluster token, both made if missing."""

    def __init__(self, state: Path) -> None:
        self._key = secret_file(state, "lease.key", lambda: secrets.token_bytes(32)).read_bytes()
        self._cluster_token_file = cluster_token_file(state)

    def cluster_token(self) -> str:
        """Read the token every Ray process of the cluster needs."""
        return self._cluster_token_file.read_text(encoding="ascii").strip()

    def of(self, token: str) -> str:
        """Make the credential of one launch."""
        return hmac.new(self._key, token.encode(), sha256).hexdigest()

    def match(self, token: str, credential: str) -> bool:
        """Whether ``credential`` is the one of ``token``; takes the same time either way."""
        return hmac.compare_digest(self.of(token).encode(), credential.encode())
