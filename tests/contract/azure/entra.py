"""Entra's token endpoint as far as a service principal with a secret needs it.

https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from tests.contract.azure.refusal import Refusal

TENANT = "11111111-2222-3333-4444-555555555555"
CLIENT = "99999999-8888-7777-6666-555555555555"
LIFETIME_S = 3600


class Entra:
    """Makes tokens for one service principal and lets in who has one.

    Args:
        base: its own address.
        secret: of the service principal.
        clock: Unix seconds.
    """

    def __init__(self, base: str, secret: str, clock: Callable[[], float]) -> None:
        self._base = base
        self._secret = secret
        self._clock = clock
        self._made: dict[str, float] = {}
        self._refused = False

    def metadata(self) -> dict[str, Any]:
        """The openid configuration that msal reads first."""
        return {
            "issuer": f"{self._base}/{TENANT}/v2.0",
            "authorization_endpoint": f"{self._base}/{TENANT}/oauth2/v2.0/authorize",
            "token_endpoint": f"{self._base}/{TENANT}/oauth2/v2.0/token",
        }

    def exchange(self, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        """Status and body of ``POST …/token``."""
        if form.get("grant_type") != "client_credentials" or form.get("scope") != f"{self._base}/.default":
            told = f"AADSTS70011: The provided value for the input parameter 'scope' is not valid: {form.get('scope')}"
            return 400, {"error": "invalid_scope", "error_description": told}
        if self._refused or (form.get("client_id"), form.get("client_secret")) != (CLIENT, self._secret):
            told = f"AADSTS7000215: Invalid client secret provided for app '{CLIENT}'."
            return 401, {"error": "invalid_client", "error_description": told, "error_codes": [7000215]}
        token = secrets.token_urlsafe(24)
        self._made[token] = self._clock() + LIFETIME_S
        life = {"expires_in": LIFETIME_S, "ext_expires_in": LIFETIME_S}
        return 200, {"token_type": "Bearer", **life, "access_token": token}

    def let_in(self, header: str) -> None:
        """Check the ``Authorization`` of a call.

        Raises:
            Refusal: 401, as Azure says it.
        """
        asks = {"WWW-Authenticate": f'Bearer authorization_uri="{self._base}/{TENANT}", error="invalid_token"'}
        ends = self._made.get(header.removeprefix("Bearer "))
        if ends is None:
            raise Refusal(401, "InvalidAuthenticationToken", "The access token is invalid.", asks)
        if ends <= self._clock():
            raise Refusal(
                401, "ExpiredAuthenticationToken", "The access token expiry UTC time is earlier than now.", asks
            )

    def expire(self) -> None:
        """No token counts any more, and no new one is made."""
        self._made = dict.fromkeys(self._made, 0.0)
        self._refused = True

    def expire_nothing(self) -> None:
        """Tokens are made again."""
        self._refused = False
