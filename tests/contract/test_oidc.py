"""OpenID Connect tokens: those of a real provider are taken, and everything that only looks like one is refused."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization

from autoscaler.boot.trust import ensure_certificate
from fabric.config.load import load
from fabric.config.schema import Config
from fabric.identity.authenticators import authenticator
from fabric.identity.issue import create_token
from fabric.identity.issuer import KEEP_S, REFETCH_S, REFRESH_S, IssuerKeys
from fabric.identity.oidc import LEEWAY_S, OidcTokens
from fabric.identity.principal import IssuerUnreachableError, Principal, UnknownCallerError
from fabric.journal.sqlite import SqliteJournal
from fabric.model.jobs import Role
from tests.contract.oidc_servers import Issuer, Key, Provider
from tests.sandboxes import unused_port

CONFIG = """
sites: {{home: {{kind: onprem, node_types: {{box: {{nodes: [a], cpus: 1}}}}}}}}
burst: {{baseline: [{{gpus: 1, for: 0s}}]}}
teams: {{vision: {{}}, clinic: {{}}}}
access: {{oidc: {{issuer: "{issuer}", audience: fabric{more}}}}}
"""


def config(issuer: str, more: str = "") -> Config:
    loaded = load(CONFIG.format(issuer=issuer, more=more), "fabric.yaml")
    assert isinstance(loaded, Config), str(loaded)
    return loaded


class Clock:
    """Ticks that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Door:
    """The gateway's view of one provider."""

    def __init__(self, issuer: str, more: str = "") -> None:
        self.ticks = Clock()
        self.config = config(issuer, more)
        block = self.config.access.oidc
        assert block is not None
        self._tokens = OidcTokens(block, IssuerKeys(block.issuer, block.ca, self.ticks))
        self._loop = asyncio.Runner()

    def who(self, token: str) -> Principal:
        return self._loop.run(self._tokens.principal(token, self.config))

    def refusal(self, token: str) -> str:
        with pytest.raises(UnknownCallerError) as refused:
            self.who(token)
        assert not isinstance(refused.value, IssuerUnreachableError)
        return str(refused.value)

    def crowd(self, tokens: list[str]) -> list[object]:
        async def all_at_once() -> list[object]:
            return await asyncio.gather(
                *(self._tokens.principal(token, self.config) for token in tokens), return_exceptions=True
            )

        return self._loop.run(all_at_once())

    def close(self) -> None:
        self._loop.close()


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    provider = Provider(unused_port())
    yield provider
    provider.stop()


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    issuer = Issuer()
    yield issuer
    issuer.close()


@pytest.fixture
def door_to() -> Iterator[Callable[..., Door]]:
    doors: list[Door] = []

    def make(url: str, more: str = "") -> Door:
        doors.append(Door(url, more))
        return doors[-1]

    yield make
    for door in doors:
        door.close()


def test_who_logged_in_at_a_real_provider_is_known_by_its_claims(
    provider: Provider, door_to: Callable[..., Door]
) -> None:
    token = provider.login("mia", email="mia@example.org", team="vision", roles=["auditor", "offline_access"])
    caller = door_to(provider.issuer).who(token)
    assert caller == Principal("mia@example.org", "vision", frozenset({Role.AUDITOR}), "oidc:mia")


def test_the_gateways_door_takes_both_kinds_of_token(provider: Provider, tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "journal.db", "tester")
    _, own = create_token(journal, "noa", "clinic", frozenset({Role.USER}), None, "tester")
    theirs = provider.login("mia", email="mia@example.org")

    async def ask() -> list[str]:
        door = authenticator(lambda: config(provider.issuer), journal)
        return [(await door.who(f"Bearer {token}")).user for token in (own, theirs)]

    assert asyncio.run(ask()) == ["noa", "mia@example.org"]
    journal.close()


def test_a_token_for_another_audience_is_refused(provider: Provider, door_to: Callable[..., Door]) -> None:
    token = provider.login("mia", client="wiki", email="mia@example.org")
    assert "its audience is not fabric" in door_to(provider.issuer).refusal(token)


def test_over_https_the_provider_has_to_show_a_certificate_of_the_configured_authority(
    tmp_path: Path, door_to: Callable[..., Door]
) -> None:
    pair = ensure_certificate(tmp_path, "127.0.0.1")
    provider = Provider(unused_port(), (pair.certificate, pair.key))
    try:
        token = provider.login("mia", email="mia@example.org")
        assert door_to(provider.issuer, f", ca: {pair.certificate}").who(token).user == "mia@example.org"
        with pytest.raises(IssuerUnreachableError, match="certificate"):
            door_to(provider.issuer).who(token)
    finally:
        provider.stop()


def test_a_provider_that_restarts_with_a_new_key_that_has_no_id_is_followed(door_to: Callable[..., Door]) -> None:
    provider = Provider(unused_port())
    try:
        door = door_to(provider.issuer)
        before = provider.login("mia", email="mia@example.org")
        assert door.who(before).user == "mia@example.org"
        provider.stop()
        assert door.who(before).user == "mia@example.org"
        provider.start()
        after = provider.login("mia", email="mia@example.org")
        door.ticks.now += REFETCH_S
        assert door.who(after).user == "mia@example.org"
        assert "signature is not the provider's" in door.refusal(before)
    finally:
        provider.stop()


def test_every_changed_character_of_a_real_token_is_noticed(provider: Provider, door_to: Callable[..., Door]) -> None:
    token = provider.login("mia", email="mia@example.org")
    door = door_to(provider.issuer)
    # The last character of each part may hold bits that base64 does not use.
    ends = {place - 1 for place, char in enumerate(token) if char == "."} | {len(token) - 1}
    for place in set(range(0, len(token), 7)) - ends:
        other = "A" if token[place] != "A" else "B"
        door.refusal(token[:place] + other + token[place + 1 :])


@pytest.mark.parametrize("algorithm", ["none", "None", "HS256", "HS512", "RS512", "PS256", "ES384", "EdDSA"])
def test_an_algorithm_that_is_not_agreed_is_refused_before_any_key_is_looked_at(
    issuer: Issuer, door_to: Callable[..., Door], algorithm: str
) -> None:
    issuer.keys = [Key("1").public()]
    parts = [json.dumps(part).encode() for part in ({"alg": algorithm, "kid": "1", "typ": "JWT"}, issuer.claims())]
    unsigned = ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)
    said = door_to(issuer.url).refusal(f"{unsigned}.")
    assert f"is signed with {algorithm}; the fabric takes RS256 and ES256 only" in said
    assert issuer.asked == []


def test_the_public_key_is_no_secret_for_hs256(issuer: Issuer, door_to: Callable[..., Door]) -> None:
    key = Key("1")
    issuer.keys = [key.public()]
    pem = key.private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    parts = [json.dumps(part).encode() for part in ({"alg": "HS256", "kid": "1"}, issuer.claims())]
    signing = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    signature = base64.urlsafe_b64encode(hmac.digest(pem, signing, "sha256")).rstrip(b"=")
    assert "RS256 and ES256 only" in door_to(issuer.url).refusal(f"{signing.decode()}.{signature.decode()}")
    # The same with a symmetric key among the published ones, and a header that claims RS256.
    issuer.keys.append({"kty": "oct", "kid": "2", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LTEyMzQ"})
    parts[0] = json.dumps({"alg": "RS256", "kid": "2"}).encode()
    signing = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    signature = base64.urlsafe_b64encode(hmac.digest(b"secret-secret-secret-secret-1234", signing, "sha256")).rstrip(
        b"="
    )
    assert "does not publish" in door_to(issuer.url).refusal(f"{signing.decode()}.{signature.decode()}")


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
def test_both_agreed_algorithms_are_taken_and_each_only_with_its_own_key(
    issuer: Issuer, door_to: Callable[..., Door], algorithm: str
) -> None:
    key, other = Key("1", algorithm), Key("2", "ES256" if algorithm == "RS256" else "RS256")
    issuer.keys = [key.public(), other.public()]
    door = door_to(issuer.url)
    assert door.who(key.sign(issuer.claims())).user == "mia@example.org"
    assert "does not publish" in door.refusal(key.sign(issuer.claims(), kid="2"))
    stranger = Key("1", algorithm)
    assert "signature is not the provider's" in door.refusal(stranger.sign(issuer.claims()))


class FromNow(float):
    """Seconds from the moment at which the test runs, for a claim."""


def claims_now(changed: dict[str, object]) -> dict[str, object]:
    return {name: int(time.time() + value) if isinstance(value, FromNow) else value for name, value in changed.items()}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"aud": "wiki"}, "its audience is not fabric"),
        ({"aud": ["wiki", "mail"]}, "its audience is not fabric"),
        ({"aud": None}, "lacks the claim aud"),
        ({"iss": "https://elsewhere.example"}, "was not issued by"),
        ({"iss": None}, "lacks the claim iss"),
        ({"exp": FromNow(-LEEWAY_S - 5)}, "has expired"),
        ({"exp": None}, "lacks the claim exp"),
        ({"exp": "soon"}, "is not good"),
        ({"nbf": FromNow(LEEWAY_S + 60)}, "not valid yet"),
        ({"iat": FromNow(LEEWAY_S + 60)}, "not valid yet"),
        ({"sub": None}, "lacks the claim sub"),
        ({"sub": ""}, "does not name its subject"),
        ({"email": None}, "the claim email is not a name"),
        ({"email": ["mia"]}, "the claim email is not a name"),
        ({"email": "mia\x1b[2J"}, "the claim email is not a name"),
        ({"email_verified": False}, "has not verified the e-mail address"),
        ({"team": "visoin"}, "names no team of this fabric's configuration (teams: clinic, vision)"),
        ({"team": 7}, "names no team"),
        ({"team": ["vision", "clinic"]}, "names more than one team"),
    ],
)
def test_a_claim_that_is_not_as_it_should_be_is_named(
    issuer: Issuer, door_to: Callable[..., Door], changed: dict[str, object], said: str
) -> None:
    key = Key("1", "ES256")
    issuer.keys = [key.public()]
    assert said in door_to(issuer.url).refusal(key.sign(issuer.claims(**claims_now(changed))))


@pytest.mark.parametrize(
    ("changed", "team", "roles"),
    [
        ({"team": None}, "", {Role.USER}),
        ({"team": ["everybody", "clinic"]}, "clinic", {Role.USER}),
        ({"roles": ["operator", "user"]}, "vision", {Role.OPERATOR, Role.USER}),
        ({"roles": "auditor offline_access"}, "vision", {Role.AUDITOR}),
        ({"roles": ["emperor", 7]}, "vision", {Role.USER}),
        ({"roles": {"operator": True}}, "vision", {Role.USER}),
        ({"aud": ["wiki", "fabric"], "exp": FromNow(-LEEWAY_S + 20)}, "vision", {Role.USER}),
    ],
)
def test_team_and_roles_come_from_the_claims(
    issuer: Issuer, door_to: Callable[..., Door], changed: dict[str, object], team: str, roles: set[Role]
) -> None:
    key = Key("1", "ES256")
    issuer.keys = [key.public()]
    caller = door_to(issuer.url).who(key.sign(issuer.claims(**claims_now(changed))))
    assert (caller.team, caller.roles) == (team, roles)


def test_the_claims_have_the_names_and_paths_of_the_configuration(issuer: Issuer, door_to: Callable[..., Door]) -> None:
    key = Key("1", "ES256")
    issuer.keys = [key.public()]
    more = ", user_claim: preferred_username, team_claim: 'https://lab.example/team', roles_claim: realm_access.roles"
    claims = {"preferred_username": "mia", "https://lab.example/team": "clinic", "realm_access": {"roles": ["auditor"]}}
    caller = door_to(issuer.url, more).who(key.sign(issuer.claims(**claims, email_verified=False)))
    assert (caller.user, caller.team, caller.roles) == ("mia", "clinic", {Role.AUDITOR})


def test_an_issuer_that_writes_itself_with_a_slash_at_the_end_is_the_same(
    issuer: Issuer, door_to: Callable[..., Door]
) -> None:
    key = Key("1", "ES256")
    issuer.keys, issuer.about = [key.public()], {"issuer": f"{issuer.url}/"}
    door = door_to(issuer.url)
    assert door.who(key.sign(issuer.claims(iss=f"{issuer.url}/"))).user == "mia@example.org"
    assert "was not issued by" in door.refusal(key.sign(issuer.claims()))


def test_keys_may_rotate_and_unknown_key_ids_cannot_make_us_flood_the_provider(
    issuer: Issuer, door_to: Callable[..., Door]
) -> None:
    old, new = Key("old", "ES256"), Key("new", "ES256")
    issuer.keys = [old.public()]
    door = door_to(issuer.url)
    good = old.sign(issuer.claims())
    results = door.crowd([good] * 20 + [Key(f"made-up-{n}", "ES256").sign(issuer.claims()) for n in range(20)])
    assert [type(result) for result in results] == [Principal] * 20 + [UnknownCallerError] * 20
    assert issuer.asked == ["/.well-known/openid-configuration", "/jwks"]

    issuer.keys = [new.public()]
    fresh = new.sign(issuer.claims())
    assert "does not publish" in door.refusal(fresh)
    door.ticks.now += REFETCH_S
    assert {type(result) for result in door.crowd([fresh] * 20)} == {Principal}
    assert len(issuer.asked) == 4
    assert "does not publish" in door.refusal(good)
    assert len(issuer.asked) == 4


def test_keys_are_read_again_after_an_hour_so_a_withdrawn_one_does_not_count_for_ever(
    issuer: Issuer, door_to: Callable[..., Door]
) -> None:
    key = Key("1", "ES256")
    issuer.keys = [key.public()]
    door, token = door_to(issuer.url), key.sign(issuer.claims())
    door.who(token)
    issuer.keys = [Key("2", "ES256").public()]
    door.ticks.now += REFRESH_S - 1
    door.who(token)
    door.ticks.now += 2
    assert "does not publish" in door.refusal(token)


def test_while_the_provider_is_out_its_known_keys_count_for_a_day(issuer: Issuer, door_to: Callable[..., Door]) -> None:
    key = Key("1", "ES256")
    issuer.keys = [key.public()]
    door, token = door_to(issuer.url), key.sign(issuer.claims())
    door.who(token)
    issuer.failing = True
    door.ticks.now += KEEP_S - 1
    assert {type(result) for result in door.crowd([token] * 20)} == {Principal}
    assert len(issuer.asked) == 3
    door.ticks.now += 6
    with pytest.raises(IssuerUnreachableError, match="answers with status 500"):
        door.who(token)
    issuer.failing = False
    door.ticks.now += 6
    assert door.who(token).user == "mia@example.org"


def test_while_a_provider_that_is_out_hangs_nobody_whose_key_is_known_waits_for_it(
    issuer: Issuer, door_to: Callable[..., Door]
) -> None:
    key = Key("1", "ES256")
    issuer.keys = [key.public()]
    door, token = door_to(issuer.url), key.sign(issuer.claims())
    door.who(token)
    issuer.failing = True
    door.ticks.now += REFRESH_S + 1
    door.who(token)
    issuer.stuck.set()
    door.ticks.now += 10
    begun = time.monotonic()
    for _ in range(5):
        assert door.who(token).user == "mia@example.org"
    assert time.monotonic() - begun < 4
    issuer.failing = False
    issuer.stuck.clear()
    issuer.released.set()


def test_a_provider_that_was_never_reached_is_said_to_be_out_and_asked_again_later(
    issuer: Issuer, door_to: Callable[..., Door]
) -> None:
    key = Key("1", "ES256")
    issuer.keys, issuer.failing = [key.public()], True
    door, token = door_to(issuer.url), key.sign(issuer.claims())
    for _ in range(10):
        with pytest.raises(IssuerUnreachableError, match="cannot be asked now"):
            door.who(token)
    assert len(issuer.asked) == 1
    issuer.failing = False
    door.ticks.now += 5
    assert door.who(token).user == "mia@example.org"


@pytest.mark.parametrize(
    ("about", "keys", "said"),
    [
        ({"issuer": "https://elsewhere.example"}, None, "another issuer's"),
        ({"jwks_uri": None}, None, "names no jwks_uri"),
        ({"jwks_uri": "http://198.51.100.7/jwks"}, None, "is not https"),
        ({"jwks_uri": "file:///etc/passwd"}, None, "is not https"),
        ({}, "none of them", "holds no list of keys"),
        ({}, [{"kty": "oct", "k": "c2VjcmV0"}, {"kty": "what"}, 7], "holds no key for RS256 or ES256"),
        ({"padding": "x" * 2_000_000}, None, "answers with more than"),
    ],
)
def test_a_provider_whose_answers_cannot_be_used_counts_as_out_of_reach(
    issuer: Issuer, door_to: Callable[..., Door], about: dict[str, Any], keys: Any, said: str
) -> None:
    key = Key("1", "ES256")
    issuer.about, issuer.keys = about, [key.public()] if keys is None else keys
    with pytest.raises(IssuerUnreachableError, match=said):
        door_to(issuer.url).who(key.sign(issuer.claims()))


def test_weak_keys_and_keys_for_encryption_do_not_count(issuer: Issuer, door_to: Callable[..., Door]) -> None:
    weak, sealing, good = Key("weak", bits=1024), Key("sealing", "ES256"), Key("good", "ES256")
    issuer.keys = [weak.public(), {**sealing.public(), "use": "enc"}, good.public()]
    door = door_to(issuer.url)
    with pytest.warns(jwt.InsecureKeyLengthWarning):
        token = weak.sign(issuer.claims())
    assert "does not publish" in door.refusal(token)
    assert "does not publish" in door.refusal(sealing.sign(issuer.claims()))
    assert door.who(good.sign(issuer.claims())).user == "mia@example.org"


@pytest.mark.parametrize("text", ["a", "a.b", "a.b.c", "..", "é.é.é", "x" * 20_000, "eyJhbGciOiJSUzI1NiJ9.e30.", "{}"])
def test_what_is_no_token_at_all_is_refused_with_a_sentence(
    issuer: Issuer, door_to: Callable[..., Door], text: str
) -> None:
    issuer.keys = [Key("1").public()]
    assert door_to(issuer.url).refusal(text).endswith(".")


def test_a_token_with_a_critical_header_that_nobody_knows_is_refused(
    issuer: Issuer, door_to: Callable[..., Door]
) -> None:
    key = Key("1", "ES256")
    issuer.keys = [key.public()]
    assert "critical" in door_to(issuer.url).refusal(key.sign(issuer.claims(), crit=["exp"], exp=1))
