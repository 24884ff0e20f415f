"""Making and revoking the fabric's own tokens."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from pathlib import Path

from autoscaler.boot.private import private_directory, write_private
from fabric.identity.principal import Principal, UnknownCallerError
from fabric.identity.tokens import PREFIX, Token, Tokens, created
from fabric.journal.base import AlreadyAppendedError, Draft, Journal
from fabric.model.events import Event
from fabric.model.jobs import Role

OWN_TOKEN_FILE = "user.token"  # noqa: S105 - a file name
_ID_BYTES = 5
_SECRET_BYTES = 32


def tokens_of(journal: Journal) -> Tokens:
    """Every token in ``journal``.

    Raises:
        JournalUnavailableError: it cannot be read.
    """
    tokens = Tokens()
    for entry in journal.read():
        tokens.step(entry)
    return tokens


def create_token(
    journal: Journal, user: str, team: str, roles: frozenset[Role], expires_at: float | None, by: str
) -> tuple[str, str]:
    """Make a token.

    Args:
        journal: gets the entry, which holds a SHA-256 and not the token.
        user: whom it stands for.
        team: the team of that person; ``""`` for none.
        roles: what that person may do.
        expires_at: Unix seconds from which on it counts no more; None for never.
        by: who makes it.

    Returns:
        Its id, and the token itself, which is kept nowhere.

    Raises:
        JournalUnavailableError: nothing was made.
    """
    token_id = secrets.token_hex(_ID_BYTES)
    text = f"{PREFIX}{token_id}_{secrets.token_urlsafe(_SECRET_BYTES)}"
    data = created(token_id, text, Principal(user, team, roles, token_id), expires_at, by)
    journal.append([Draft(Event.TOKEN_CREATED, data, once=f"token:{token_id}")])
    return token_id, text


def revoke_token(journal: Journal, token: Token, by: str) -> bool:
    """Make ``token`` count no more, from the next second on in every process; False where somebody already did."""
    try:
        journal.append([Draft(Event.TOKEN_REVOKED, {"id": token.id, "by": by}, once=f"token-revoked:{token.id}")])
    except AlreadyAppendedError:
        return False
    return True


def first_operator_token(state: Path, journal: Journal, os_user: str, clock: Callable[[], float] = time.time) -> Path:
    """The file with the token of whoever runs the fabric on this machine, ``<state>/secrets/user.token`` (0600).

    The token in it is kept for as long as it is good; it is replaced when the file is gone or its token is not in the
    journal, expired or revoked.

    Args:
        state: the state directory.
        journal: where tokens are kept.
        os_user: name of the operating system's user; becomes the token's user, in no team, with the roles user and
            operator.
        clock: Unix seconds.

    Raises:
        JournalUnavailableError: the journal cannot be read or written.
        OSError: the file cannot be written.
    """
    path = private_directory(state / "secrets") / OWN_TOKEN_FILE
    if not _is_good(path, journal, clock()):
        _, text = create_token(journal, os_user, "", frozenset({Role.USER, Role.OPERATOR}), None, "fabric up")
        write_private(path, text.encode())
    return path


def _is_good(path: Path, journal: Journal, now: float) -> bool:
    try:
        tokens_of(journal).shown(path.read_text(encoding="ascii").strip(), now)
    except (OSError, UnicodeDecodeError, UnknownCallerError):
        return False
    return True
