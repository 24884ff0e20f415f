"""The ``Authorization`` header, and the authenticator that knows the fabric's own tokens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from fabric.config.schema import Config
from fabric.identity.principal import Principal, UnknownCallerError
from fabric.identity.tokens import Tokens
from fabric.journal.base import Journal
from fabric.journal.fold import Tail

FRESH_S = 0.25


class JournalTokens:
    """Knows the tokens in the journal, also those that another process makes or revokes while this one runs.

    The table is never older than ``FRESH_S`` seconds when it is asked; a journal that cannot be read refuses everybody
    rather than trust an old table. All journal reading is done in threads but the first, in the constructor.

    Args:
        journal: where tokens are kept.
        config: the configuration in force; a token of a team that is not in it any more is refused.
        clock: Unix seconds.
        ticks: seconds of a clock that is never set.

    Raises:
        JournalUnavailableError: the journal cannot be read.
    """

    def __init__(
        self,
        journal: Journal,
        config: Callable[[], Config],
        clock: Callable[[], float],
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tail = Tail(journal)
        self._config = config
        self._clock = clock
        self._ticks = ticks
        self._tokens = Tokens()
        self._reading: asyncio.Task[None] | None = None
        self._read()

    async def who(self, authorization: str | None) -> Principal:
        """The caller behind an ``Authorization`` header. See ``Authenticator.who``."""
        text = bearer(authorization)
        await self._be_fresh()
        token = self._tokens.shown(text, self._clock())
        if token.team and token.team not in self._config().teams:
            raise UnknownCallerError(
                f"Token {token.id} is for the team {token.team}, which is not in the configuration any more. "
                "Ask an operator for a token of another team."
            )
        return token.principal()

    async def _be_fresh(self) -> None:
        if self._ticks() - self._read_at <= FRESH_S:
            return
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(asyncio.to_thread(self._read))
        # Many requests wait for one reading; one of them that is given up must not end it for the others.
        await asyncio.shield(self._reading)

    def _read(self) -> None:
        begun = self._ticks()
        for entry in self._tail.stream():
            self._tokens.step(entry)
        self._read_at = begun


def bearer(authorization: str | None) -> str:
    """The token in an ``Authorization`` header (RFC 6750, 2.1).

    Raises:
        UnknownCallerError: there is none.
    """
    scheme, _, text = (authorization or "").strip().partition(" ")
    if scheme.lower() != "bearer" or not text.strip():
        raise UnknownCallerError(
            "This needs a token. Set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN to yours; an operator makes one with "
            "`fabric token create`."
        )
    return text.strip()
