"""OpenID Connect bearer tokens: signed JWTs of the configured provider (OpenID Connect Core 1.0, RFC 7519, RFC 8725).

The signature and the registered claims are PyJWT's work. Its own client for keys is not used: it asks the provider
again for every unknown key id, so that anybody could make the gateway flood it, and it forgets the keys it has when
the provider does not answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jwt

from fabric.config.schema import Config, OidcBlock
from fabric.identity.issuer import IssuerKeys, Signing
from fabric.identity.principal import Principal, UnknownCallerError
from fabric.model.jobs import Role

ALGORITHMS = ("RS256", "ES256")
LEEWAY_S = 60.0
_LONGEST_NAME = 256
_LONGEST_TOKEN = 16 * 1024


class OidcTokens:
    """Knows the tokens of one provider.

    Args:
        block: the provider, the audience and the names of the claims.
        keys: the provider's signing keys.
    """

    def __init__(self, block: OidcBlock, keys: IssuerKeys) -> None:
        self.block = block
        self._keys = keys

    async def principal(self, text: str, config: Config) -> Principal:
        """The caller behind a token.

        Args:
            text: the token.
            config: the configuration in force, for the names of its teams.

        Raises:
            UnknownCallerError: the token is not good, or its team is not known.
            IssuerUnreachableError: the provider does not answer and its keys are not known.
        """
        if len(text) > _LONGEST_TOKEN:
            raise UnknownCallerError("This token is longer than any OpenID Connect token that the fabric takes.")
        try:
            header = jwt.get_unverified_header(text)
        except jwt.InvalidTokenError as error:
            raise UnknownCallerError(f"This is not an OpenID Connect token: {error}.") from None
        algorithm = str(header.get("alg"))
        if algorithm not in ALGORITHMS:
            raise UnknownCallerError(
                f"The token is signed with {algorithm[:20]}; the fabric takes {' and '.join(ALGORITHMS)} only."
            )
        return self._principal(await self._claims(text, header.get("kid"), algorithm), config)

    async def _claims(self, text: str, key_id: object, algorithm: str) -> Mapping[str, Any]:
        try:
            signing = await self._keys.of(key_id, algorithm)
            try:
                return self._decode(text, signing, algorithm)
            except jwt.InvalidSignatureError:
                # A provider that does not name its keys may have changed them.
                newer = await self._keys.newer(signing, key_id, algorithm)
                return self._decode(text, newer, algorithm)
        except jwt.InvalidTokenError as error:
            raise UnknownCallerError(self._why(error)) from None

    def _decode(self, text: str, signing: Signing, algorithm: str) -> Mapping[str, Any]:
        return jwt.decode(
            text,
            signing.key,
            algorithms=[algorithm],
            audience=self.block.audience,
            issuer=signing.issuer,
            leeway=LEEWAY_S,
            options={"require": ["exp", "iss", "aud", "sub"]},
        )

    def _why(self, error: jwt.InvalidTokenError) -> str:
        match error:
            case jwt.ExpiredSignatureError():
                return "The token has expired. Log in again at your provider."
            case jwt.ImmatureSignatureError():
                return "The token is not valid yet: the clock here and the provider's differ by more than a minute."
            case jwt.InvalidAudienceError():
                return f"The token is for somebody else: its audience is not {self.block.audience}."
            case jwt.InvalidIssuerError():
                return f"The token was not issued by {self.block.issuer}."
            case jwt.MissingRequiredClaimError():
                return f"The token lacks the claim {error.claim}."
            case jwt.InvalidSignatureError():
                return "The token's signature is not the provider's."
            case _:
                return f"The token is not good: {error}."

    def _principal(self, claims: Mapping[str, Any], config: Config) -> Principal:
        block = self.block
        user = _claim(claims, block.user_claim)
        if not isinstance(user, str) or not user.isprintable() or not 0 < len(user) <= _LONGEST_NAME:
            raise UnknownCallerError(f"The token does not name its user: the claim {block.user_claim} is not a name.")
        if block.user_claim == "email" and claims.get("email_verified") is False:
            raise UnknownCallerError("The provider says that it has not verified the e-mail address in this token.")
        return Principal(user, self._team(claims, config), _roles(_claim(claims, block.roles_claim)), _id(claims))

    def _team(self, claims: Mapping[str, Any], config: Config) -> str:
        value = _claim(claims, self.block.team_claim)
        if value is None:
            return ""
        named = [value] if isinstance(value, str) else value if isinstance(value, list) else []
        known = [team for team in named if isinstance(team, str) and team in config.teams]
        if len(known) == 1:
            return known[0]
        claim, teams = self.block.team_claim, ", ".join(sorted(config.teams)) or "none"
        wrong = "names more than one team" if known else "names no team"
        raise UnknownCallerError(
            f"The claim {claim} of the token {wrong} of this fabric's configuration (teams: {teams}). "
            "Ask an operator to add the team, or your provider to correct the claim."
        )


def _claim(claims: Mapping[str, Any], name: str) -> Any:
    """A claim by its name, or by a path such as ``realm_access.roles`` into claims that are objects."""
    if name in claims:
        return claims[name]
    value: Any = claims
    for step in name.split("."):
        value = value.get(step) if isinstance(value, Mapping) else None
    return value


def _roles(value: Any) -> frozenset[Role]:
    """The roles that the fabric knows among those named, and ``user`` where it knows none."""
    named = value.split() if isinstance(value, str) else value if isinstance(value, list) else []
    known = {role.value: role for role in Role}
    return frozenset(known[role] for role in named if isinstance(role, str) and role in known) or frozenset({Role.USER})


def _id(claims: Mapping[str, Any]) -> str:
    subject = claims["sub"]
    if not subject.isprintable() or not 0 < len(subject) <= _LONGEST_NAME:
        raise UnknownCallerError(
            "The token does not name its subject: the claim sub is empty, too long or unprintable."
        )
    return f"oidc:{subject}"
