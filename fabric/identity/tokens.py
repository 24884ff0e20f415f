"""The fabric's own tokens as the journal knows them: a fold, and how a shown token is recognised.

A token reads ``fab_<id>_<secret>``. The secret is 32 random bytes, so the journal may keep its plain SHA-256: a slow,
salted hash protects what people choose from being guessed, and 256 random bits cannot be guessed at any speed
(NIST SP 800-63B, 5.1.2.2, lets look-up secrets of at least 112 bits be kept so).
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import sha256

from fabric.identity.principal import Principal, UnknownCallerError
from fabric.journal.base import Entry
from fabric.model.events import Event
from fabric.model.jobs import Role

PREFIX = "fab_"
_LONGEST = 256
_ASK = "An operator makes a new one with `fabric token create`."
_NOT_KNOWN = (
    "This token is not known to this fabric. Check that all of it was copied, or ask an operator for a new one."
)


@dataclass(frozen=True, slots=True)
class Token:
    """One token, without its secret.

    Attributes:
        id: names it in lists, in the journal and in evidence.
        user, team, roles: whom it stands for.
        sha256: of the whole token, in hex.
        created_at: Unix seconds.
        expires_at: Unix seconds from which on it counts no more; None for never.
        by: who made it.
        revoked_at: Unix seconds; None where it was not revoked.
    """

    id: str
    user: str
    team: str
    roles: frozenset[Role]
    sha256: str
    created_at: float
    expires_at: float | None
    by: str
    revoked_at: float | None = None

    def state(self, now: float) -> str:
        """``valid``, ``expired`` or ``revoked`` at ``now`` (Unix seconds)."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "valid"

    def principal(self) -> Principal:
        """Whoever shows it."""
        return Principal(self.user, self.team, self.roles, self.id)


@dataclass(slots=True)
class Tokens:
    """Every token that was ever made, by its id."""

    by_id: dict[str, Token] = field(default_factory=dict[str, Token])

    def step(self, entry: Entry) -> None:
        """Take one entry in; entries about anything else change nothing."""
        data = entry.data
        if entry.kind == Event.TOKEN_CREATED:
            known = {role.value: role for role in Role}
            self.by_id[data["id"]] = Token(
                id=data["id"],
                user=data["user"],
                team=data["team"],
                roles=frozenset(known[role] for role in data["roles"] if role in known),
                sha256=data["sha256"],
                created_at=entry.at,
                expires_at=data["expires_at"],
                by=data["by"],
            )
        elif entry.kind == Event.TOKEN_REVOKED and data["id"] in self.by_id:
            token = self.by_id[data["id"]]
            self.by_id[token.id] = replace(token, revoked_at=token.revoked_at or entry.at)

    def shown(self, text: str, now: float) -> Token:
        """The token behind ``text`` at ``now`` (Unix seconds).

        Raises:
            UnknownCallerError: it is not known, expired or revoked; the sentence says which. Only whoever holds the
                whole token learns that it expired or was revoked.
        """
        token = self.by_id.get(token_id(text))
        if token is None or len(text) > _LONGEST or not hmac.compare_digest(digest(text), token.sha256):
            raise UnknownCallerError(f"This token is not known to this fabric. Check that all of it was copied. {_ASK}")
        if token.revoked_at is not None:
            raise UnknownCallerError(f"Token {token.id} was revoked {_day(token.revoked_at)}. {_ASK}")
        if token.expires_at is not None and token.expires_at <= now:
            raise UnknownCallerError(f"Token {token.id} expired {_day(token.expires_at)}. {_ASK}")
        return token


def digest(text: str) -> str:
    """What the journal keeps of a token: its SHA-256 in hex."""
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def token_id(text: str) -> str:
    """The id in a token; ``""`` where ``text`` is none of ours."""
    prefix, _, rest = text.partition("_")
    return rest.partition("_")[0] if f"{prefix}_" == PREFIX else ""


def created(token_id: str, text: str, holder: Principal, expires_at: float | None, by: str) -> Mapping[str, object]:
    """The data of a ``token.created`` entry: everything about the token but the token."""
    return {
        "id": token_id,
        "user": holder.user,
        "team": holder.team,
        "roles": sorted(role.value for role in holder.roles),
        "sha256": digest(text),
        "expires_at": expires_at,
        "by": by,
    }


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("on %Y-%m-%d at %H:%M UTC")
