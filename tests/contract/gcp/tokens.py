"""Google's token endpoint as far as service accounts need it: https://developers.google.com/identity/protocols/oauth2/service-account"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt

from tests.contract.gcp.refusal import Refusal

GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
LIFETIME_S = 3600
# How far the client's clock may be off.
SKEW_S = 300


class Tokens:
    """Makes tokens for signed assertions and lets in who has one.

    Args:
        key: public key of the service account; None: everybody is let in.
        clock: Unix seconds.
    """

    def __init__(self, key: Path | None, clock: Callable[[], float]) -> None:
        self._key = None if key is None else key.read_text()
        self._clock = clock
        self._made: dict[str, float] = {}
        self._refused = False

    def exchange(self, form: dict[str, str]) -> tuple[int, Any, dict[str, str]]:
        """Status, body and headers of ``POST /token``."""
        if self._key is None or form.get("grant_type") != GRANT:
            return 400, {"error": "unsupported_grant_type", "error_description": "Invalid grant_type"}, {}
        claims = jwt.decode(
            form["assertion"],
            self._key,
            algorithms=["RS256"],
            options={"verify_aud": False, "verify_iat": False, "verify_exp": False},
        )
        if self._refused or abs(claims["iat"] - self._clock()) > SKEW_S:
            what = "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe."
            return 400, {"error": "invalid_grant", "error_description": what}, {}
        token = secrets.token_urlsafe(24)
        self._made[token] = self._clock() + LIFETIME_S
        return 200, {"access_token": token, "expires_in": LIFETIME_S, "token_type": "Bearer"}, {}

    def let_in(self, header: str) -> None:
        """Check the ``Authorization`` of a call.

        Raises:
            Refusal: 401, as Google says it.
        """
        if self._key is None:
            return
        if self._made.get(header.removeprefix("Bearer "), 0.0) <= self._clock():
            raise Refusal(401, "authError", "Request had invalid authentication credentials.")

    def expire(self) -> None:
        """No token counts any more, and no new one is made."""
        self._made.clear()
        self._refused = True

    def expire_nothing(self) -> None:
        """Tokens are made again."""
        self._refused = False
