"""The signing keys of an OpenID Connect provider: found by discovery, cached, asked for again within bounds."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

import httpx
import jwt

from fabric.identity.principal import IssuerUnreachableError, UnknownCallerError

REFRESH_S = 3600.0
REFETCH_S = 30.0
RETRY_S = 5.0
KEEP_S = 24 * 3600.0
TIMEOUT_S = 5.0
_LARGEST = 1024 * 1024
_MOST_KEYS = 100
_LEAST_RSA_BITS = 2048


@dataclass(frozen=True, slots=True)
class Signing:
    """A key, and the issuer exactly as its discovery document writes it."""

    key: jwt.PyJWK
    issuer: str


@dataclass(frozen=True, slots=True)
class _Fetched:
    issuer: str
    keys: tuple[jwt.PyJWK, ...]
    at: float


class IssuerKeys:
    """The keys of one provider.

    They are read when the first token comes and then every ``REFRESH_S`` seconds; a token with an unknown key id makes
    them be read again, but no more than once in ``REFETCH_S`` seconds, so keys may rotate and nobody can use us to
    flood the provider. While the provider does not answer it is asked every ``RETRY_S`` seconds, and the keys that are
    known go on to count for ``KEEP_S`` seconds.

    Args:
        issuer: its URL, without a slash at its end.
        ca: file of the CA bundle that signs its certificate; None for the system's.
        ticks: seconds of a clock that is never set.
    """

    def __init__(self, issuer: str, ca: str | None, ticks: Callable[[], float] = time.monotonic) -> None:
        self._issuer = issuer
        self._ca = ca
        self._ticks = ticks
        self._fetched: _Fetched | None = None
        self._asked_at = float("-inf")
        self._failure = ""
        self._asking: asyncio.Task[None] | None = None

    async def of(self, key_id: object, algorithm: str) -> Signing:
        """The key of that id for ``algorithm``; where a token names no key, the only one there is.

        Raises:
            UnknownCallerError: the provider has no such key.
            IssuerUnreachableError: the provider does not answer, and no key of it is known.
        """
        now = self._ticks()
        if self._fetched is None or now - self._fetched.at > REFRESH_S:
            # While a provider that was out is asked again, nobody whose key is known waits for it.
            await self._ask(RETRY_S, wait=not self._failure or self._known() is None)
        found = self._find(key_id, algorithm)
        if found is None:
            await self._ask(RETRY_S if self._failure else REFETCH_S)
            found = self._find(key_id, algorithm)
        if found is not None:
            return found
        if self._known() is None:
            raise IssuerUnreachableError(
                f"The OpenID Connect provider {self._issuer} cannot be asked now ({self._failure}), and its keys are "
                "not known here. Try again in a moment, or use a token of the fabric's own."
            )
        raise UnknownCallerError("The token is signed with a key that its provider does not publish.")

    async def newer(self, signing: Signing, key_id: object, algorithm: str) -> Signing:
        """The key that has taken the place of ``signing``; ``signing`` itself where none has."""
        await self._ask(REFETCH_S)
        return self._find(key_id, algorithm) or signing

    def _known(self) -> _Fetched | None:
        if self._fetched is None or self._ticks() - self._fetched.at > KEEP_S:
            return None
        return self._fetched

    def _find(self, key_id: object, algorithm: str) -> Signing | None:
        known = self._known()
        if known is None:
            return None
        fitting = [key for key in known.keys if key.algorithm_name == algorithm]
        if key_id is not None:
            fitting = [key for key in fitting if key.key_id == key_id]
        return Signing(fitting[0], known.issuer) if len(fitting) == 1 else None

    async def _ask(self, every_s: float, *, wait: bool = True) -> None:
        """Read the keys again, unless that was tried less than ``every_s`` seconds ago; all callers share one try."""
        if self._asking is None or self._asking.done():
            if self._ticks() - self._asked_at < every_s:
                return
            self._asked_at = self._ticks()
            self._asking = asyncio.create_task(self._fetch())
        if wait:
            await asyncio.shield(self._asking)

    async def _fetch(self) -> None:
        try:
            async with asyncio.timeout(2 * TIMEOUT_S), self._client() as client:
                about = await _document(client, f"{self._issuer}/.well-known/openid-configuration")
                issuer, address = about.get("issuer"), about.get("jwks_uri")
                # OpenID Connect Discovery 1.0, 4.3: it has to be the issuer that was asked.
                if not isinstance(issuer, str) or issuer.rstrip("/") != self._issuer:
                    raise _UnusableError("its discovery document is another issuer's")
                if not isinstance(address, str):
                    raise _UnusableError("its discovery document names no jwks_uri")
                keys = _keys(await _document(client, address))
        except (_UnusableError, httpx.HTTPError, httpx.InvalidURL, OSError, TimeoutError) as error:
            self._failure = str(error) or type(error).__name__
            return
        self._fetched, self._failure = _Fetched(issuer, keys, self._ticks()), ""

    def _client(self) -> httpx.AsyncClient:
        trust = ssl.create_default_context(cafile=self._ca)
        return httpx.AsyncClient(verify=trust, timeout=TIMEOUT_S, follow_redirects=False)


class _UnusableError(Exception):
    """The provider answered with something that cannot be used; says what."""


async def _document(client: httpx.AsyncClient, address: str) -> Mapping[str, Any]:
    if not _is_safe(address):
        raise _UnusableError(f"{address[:200]} is not https")
    body = b""
    async with client.stream("GET", address, headers={"Accept": "application/json"}) as answer:
        if answer.status_code != httpx.codes.OK:
            raise _UnusableError(f"{address} answers with status {answer.status_code}")
        async for chunk in answer.aiter_bytes():
            body += chunk
            if len(body) > _LARGEST:
                raise _UnusableError(f"{address} answers with more than {_LARGEST} bytes")
    try:
        value: object = json.loads(body)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise _UnusableError(f"{address} does not answer with a JSON object")
    return cast(Mapping[str, Any], value)


def _is_safe(address: str) -> bool:
    """Keys that come over plain http could be anybody's; only on this very machine they cannot."""
    parts = urlsplit(address)
    if parts.scheme == "https":
        return True
    try:
        loopback = parts.hostname == "localhost" or ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        loopback = False
    return parts.scheme == "http" and loopback


def _keys(document: Mapping[str, Any]) -> tuple[jwt.PyJWK, ...]:
    """The keys for signatures of a JWK set (RFC 7517); others, weak ones and unreadable ones are passed over."""
    listed = document.get("keys")
    if not isinstance(listed, list):
        raise _UnusableError("its key set holds no list of keys")
    found: list[jwt.PyJWK] = []
    for item in cast(list[object], listed)[:_MOST_KEYS]:
        if not isinstance(item, dict) or cast(dict[str, Any], item).get("use", "sig") != "sig":
            continue
        try:
            key = jwt.PyJWK(cast(dict[str, Any], item))
        except (jwt.PyJWTError, ValueError, TypeError):
            continue
        if key.key_type == "EC" or (key.key_type == "RSA" and key.key.key_size >= _LEAST_RSA_BITS):
            found.append(key)
    if not found:
        raise _UnusableError("its key set holds no key for RS256 or ES256")
    return tuple(found)
