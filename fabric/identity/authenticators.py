"""The authenticator of a configuration: the fabric's own tokens and, where one is configured, OpenID Connect."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from fabric.config.schema import Config
from fabric.identity.bearer import JournalTokens, bearer
from fabric.identity.principal import Authenticator, Principal, UnknownCallerError
from fabric.identity.tokens import PREFIX
from fabric.journal.base import Journal

if TYPE_CHECKING:
    from fabric.identity.oidc import OidcTokens


def authenticator(
    config: Callable[[], Config], journal: Journal, clock: Callable[[], float] = time.time
) -> Authenticator:
    """Make the authenticator of a gateway.

    Args:
        config: the configuration in force; it is asked at every call, so edits count at once.
        journal: where the fabric's own tokens are kept. All of it is read before this returns.
        clock: Unix seconds.

    Raises:
        JournalUnavailableError: the journal cannot be read.
    """
    return _Configured(config, JournalTokens(journal, config, clock))


class _Configured:
    def __init__(self, config: Callable[[], Config], own: JournalTokens) -> None:
        self._config = config
        self._own = own
        self._oidc: OidcTokens | None = None

    async def who(self, authorization: str | None) -> Principal:
        """The caller behind an ``Authorization`` header. See ``Authenticator.who``."""
        text = bearer(authorization)
        config = self._config()
        if text.startswith(PREFIX):
            return await self._own.who(authorization)
        provider = self._provider(config)
        if provider is None:
            raise UnknownCallerError(
                f"This is not a token of this fabric: those begin with {PREFIX}. An operator makes one with "
                "`fabric token create`."
            )
        return await provider.principal(text, config)

    def _provider(self, config: Config) -> OidcTokens | None:
        block = config.access.oidc
        if block is None:
            self._oidc = None
        elif self._oidc is None or self._oidc.block != block:
            # Where there is no provider, its libraries are not loaded.
            from fabric.identity.issuer import IssuerKeys
            from fabric.identity.oidc import OidcTokens

            self._oidc = OidcTokens(block, IssuerKeys(block.issuer, block.ca))
        return self._oidc
