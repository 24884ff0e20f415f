"""The node's side of the gateway's HTTP API: small JSON messages, and a certificate that is pinned, not trusted."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import ssl
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_ANSWER_LIMIT = 64 * 1024


class UnreachableError(Exception):
    """No answer, or none that makes sense: ask again later."""


class WrongCertificateError(UnreachableError):
    """Somebody else answers at the gateway's address. Nothing was sent."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the gateway said. ``sentence`` is for people and ``code`` for programs, both ``""`` when it agreed."""

    status: int
    body: Mapping[str, Any]

    @property
    def code(self) -> str:
        """The refusal's code."""
        return self._error("code")

    @property
    def sentence(self) -> str:
        """What is wrong and what to do about it."""
        return f"{self._error('sentence')} {self._error('remedy')}".strip()

    def _error(self, name: str) -> str:
        error = self.body.get("error")
        return str(error.get(name, "")) if isinstance(error, Mapping) else ""


class GatewayLink:
    """Posts messages to one gateway.

    Args:
        url: its base URL.
        fingerprint: SHA-256 of its certificate in hex; checked before anything is sent. ``""`` for plain http.
        timeout_s: patience for each step of an exchange.
    """

    def __init__(self, url: str, fingerprint: str, timeout_s: float = 10.0) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is not the URL of a gateway")
        self._secure = parts.scheme == "https"
        self._host, self._port = parts.hostname, parts.port
        self._fingerprint = fingerprint.lower()
        self._timeout_s = timeout_s

    def post(self, path: str, message: Mapping[str, Any], timeout_s: float | None = None) -> Answer:
        """Send one message.

        Raises:
            UnreachableError: nobody answered in time, or with something that is no answer of a gateway.
            WrongCertificateError: the certificate is not the expected one.
        """
        connection = http.client.HTTPConnection(self._host, self._port, timeout=timeout_s or self._timeout_s)
        try:
            if self._secure:
                self._pin(connection)
            connection.request("POST", path, json.dumps(message), {"Content-Type": "application/json"})
            response = connection.getresponse()
            body = json.loads(response.read(_ANSWER_LIMIT))
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise UnreachableError(f"no answer from the gateway: {error or type(error).__name__}") from error
        finally:
            connection.close()
        if not isinstance(body, dict):
            raise UnreachableError("the gateway's answer is no JSON object")
        return Answer(response.status, body)

    def _pin(self, connection: http.client.HTTPConnection) -> None:
        connection.connect()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        secured = context.wrap_socket(connection.sock)
        connection.sock = secured
        found = hashlib.sha256(secured.getpeercert(binary_form=True) or b"").hexdigest()
        if not hmac.compare_digest(found, self._fingerprint):
            raise WrongCertificateError(
                f"the certificate at {self._host}:{self._port} has the fingerprint {found}, expected was "
                f"{self._fingerprint or 'none'}; nothing was sent"
            )
