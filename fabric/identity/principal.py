"""Whoever sent a request, and what that person may do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from fabric.model.jobs import Role


@dataclass(frozen=True, slots=True)
class Principal:
    """A known caller.

    Attributes:
        user: the name in receipts and evidence.
        team: whose quota, weight and data class count; ``""`` for none, which has the default class.
        roles: what the caller may do.
        token_id: id of the token that was shown, ``oidc:<subject>`` for OpenID Connect.
    """

    user: str
    team: str
    roles: frozenset[Role]
    token_id: str

    def may_see(self, team: str) -> bool:
        """Whether jobs of ``team`` are shown."""
        return team == self.team or bool(self.roles & {Role.OPERATOR, Role.AUDITOR})

    def may_submit(self) -> bool:
        """Whether jobs may be submitted at all."""
        return bool(self.roles & {Role.USER, Role.OPERATOR})

    def may_stop(self, team: str) -> bool:
        """Whether jobs of ``team`` may be stopped and deleted."""
        return Role.OPERATOR in self.roles or (Role.USER in self.roles and team == self.team)

    def may_see_dashboard(self) -> bool:
        """Whether Ray's dashboard, which shows every team's work, is open."""
        return bool(self.roles & {Role.OPERATOR, Role.AUDITOR})


class UnknownCallerError(Exception):
    """No token, or one that is not known, expired or revoked; the sentence says which and what to do."""


class IssuerUnreachableError(UnknownCallerError):
    """The OpenID Connect provider does not answer and none of its keys is known: nobody can tell who this is.

    The caller is not at fault and may come again: answer 503.
    """


class Authenticator(Protocol):
    """Finds out who sent a request."""

    async def who(self, authorization: str | None) -> Principal:
        """The caller behind an ``Authorization`` header.

        Raises:
            UnknownCallerError: nobody that is known; answer 401.
            IssuerUnreachableError: it cannot be found out now; answer 503.
            JournalUnavailableError: the table of tokens cannot be brought up to date; answer 503.
        """
        ...
