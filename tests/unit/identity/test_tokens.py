"""The fabric's own tokens: made once, known by their hash, refused when they should be."""

from __future__ import annotations

import asyncio
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from fabric.config.load import load
from fabric.config.schema import Config
from fabric.identity.authenticators import authenticator
from fabric.identity.issue import create_token, first_operator_token, revoke_token, tokens_of
from fabric.identity.principal import Authenticator, Principal, UnknownCallerError
from fabric.identity.tokens import Tokens, digest
from fabric.journal.base import JournalUnavailableError
from fabric.journal.sqlite import SqliteJournal
from fabric.model.jobs import Role

CONFIG = """
sites: {home: {kind: onprem, node_types: {box: {nodes: [a], cpus: 1}}}}
burst: {baseline: [{gpus: 1, for: 0s}]}
teams: {vision: {}, clinic: {}}
"""
REVOKER = """
import sys
from fabric.identity.issue import revoke_token, tokens_of
from fabric.journal.sqlite import SqliteJournal
journal = SqliteJournal(sys.argv[1], "cli")
input()
print(revoke_token(journal, tokens_of(journal).by_id[sys.argv[2]], "an operator"), flush=True)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "journal.db"


@pytest.fixture
def journal(path: Path) -> Iterator[SqliteJournal]:
    journal = SqliteJournal(path, "tester")
    yield journal
    journal.close()


@cache
def config(text: str = CONFIG) -> Config:
    loaded = load(text, "fabric.yaml")
    assert isinstance(loaded, Config), str(loaded)
    return loaded


def make(journal: SqliteJournal, team: str = "vision", expires_at: float | None = None) -> tuple[str, str]:
    return create_token(journal, "mia", team, frozenset({Role.USER}), expires_at, "tester")


def ask(door: Authenticator, authorization: str | None) -> Principal:
    return asyncio.run(door.who(authorization))


def test_a_token_stands_for_the_user_team_and_roles_it_was_made_for(journal: SqliteJournal) -> None:
    token_id, text = make(journal)
    door = authenticator(config, journal)
    assert ask(door, f"Bearer {text}") == Principal("mia", "vision", frozenset({Role.USER}), token_id)
    assert ask(door, f"bearer  {text} ").user == "mia"


def test_the_journal_holds_the_hash_of_a_token_and_not_the_token(journal: SqliteJournal, path: Path) -> None:
    _, text = make(journal)
    secret = text.split("_", 2)[2]
    files = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert digest(text).encode() in files
    assert secret.encode() not in files
    assert text not in repr(tokens_of(journal))


@pytest.mark.parametrize(
    "authorization", [None, "", "Bearer", "Bearer ", "Basic bWlhOm1pYQ==", "fab_0123456789_secret", "Token fab_1_2"]
)
def test_a_request_without_a_token_is_told_how_to_send_one(journal: SqliteJournal, authorization: str | None) -> None:
    with pytest.raises(UnknownCallerError, match="RAY_AUTH_TOKEN"):
        ask(authenticator(config, journal), authorization)


def test_a_token_of_which_any_character_differs_is_not_known(journal: SqliteJournal) -> None:
    _, text = make(journal)
    door = authenticator(config, journal)
    for place in range(len(text)):
        for other in {"x", "_", "é"} - {text[place]}:
            with pytest.raises(UnknownCallerError):
                ask(door, f"Bearer {text[:place]}{other}{text[place + 1 :]}")
    for other in (text[:-1], text + "A", text * 1000, "fab_", "fab__", "fab_\udcff_\udcff"):
        with pytest.raises(UnknownCallerError):
            ask(door, f"Bearer {other}")


def test_a_token_counts_until_it_expires_and_the_refusal_says_when_it_did(journal: SqliteJournal) -> None:
    token_id, text = make(journal, expires_at=1_800_000_000.0)
    tokens = tokens_of(journal)
    assert tokens.shown(text, 1_799_999_999.9).id == token_id
    assert tokens.by_id[token_id].state(1_799_999_999.9) == "valid"
    with pytest.raises(UnknownCallerError, match=f"{token_id} expired on 2027-01-15 at 08:00 UTC"):
        tokens.shown(text, 1_800_000_000.0)
    assert tokens.by_id[token_id].state(1_800_000_000.0) == "expired"


def test_only_who_holds_the_whole_token_learns_that_it_was_revoked(journal: SqliteJournal) -> None:
    token_id, text = make(journal)
    assert revoke_token(journal, tokens_of(journal).by_id[token_id], "tester")
    assert not revoke_token(journal, tokens_of(journal).by_id[token_id], "tester")
    tokens = tokens_of(journal)
    with pytest.raises(UnknownCallerError, match="was revoked on"):
        tokens.shown(text, time.time())
    with pytest.raises(UnknownCallerError, match="not known"):
        tokens.shown(f"fab_{token_id}_guess", time.time())


def test_a_token_revoked_by_another_process_is_refused_within_a_second(journal: SqliteJournal, path: Path) -> None:
    token_id, text = make(journal)

    async def measured() -> float:
        door = authenticator(config, journal)
        other = subprocess.Popen(
            [sys.executable, "-c", REVOKER, str(path), token_id],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with other:
            assert other.stdin is not None and other.stdout is not None
            assert (await door.who(f"Bearer {text}")).user == "mia"
            other.stdin.write("\n")
            other.stdin.flush()
            assert await asyncio.to_thread(other.stdout.readline) == "True\n"
            revoked = time.monotonic()
            while time.monotonic() - revoked < 5:
                try:
                    await door.who(f"Bearer {text}")
                except UnknownCallerError:
                    return time.monotonic() - revoked
                await asyncio.sleep(0.01)
        raise AssertionError("it was never refused")

    assert asyncio.run(measured()) < 1.0


def test_a_token_made_while_the_gateway_runs_is_known_within_a_second(journal: SqliteJournal) -> None:
    door = authenticator(config, journal)
    _, text = make(journal)

    async def known() -> Principal:
        begun = time.monotonic()
        while True:
            try:
                return await door.who(f"Bearer {text}")
            except UnknownCallerError:
                assert time.monotonic() - begun < 1.0
                await asyncio.sleep(0.01)

    assert asyncio.run(known()).user == "mia"


def test_a_thousand_callers_at_once_cost_one_look_into_the_journal(journal: SqliteJournal) -> None:
    _, text = make(journal)

    async def crowd() -> int:
        door = authenticator(config, journal)
        await asyncio.sleep(0.3)
        reads: list[int] = []
        read = journal.read
        journal.read = lambda after=0, limit=None: reads.append(after) or read(after, limit)  # type: ignore[assignment]
        await asyncio.gather(*(door.who(f"Bearer {text}") for _ in range(1000)))
        return len(reads)

    assert asyncio.run(crowd()) == 1


def test_while_the_journal_cannot_be_read_nobody_is_let_in(journal: SqliteJournal) -> None:
    _, text = make(journal)

    async def after_the_end() -> None:
        door = authenticator(config, journal)
        assert (await door.who(f"Bearer {text}")).user == "mia"
        journal.close()
        await asyncio.sleep(0.3)
        await door.who(f"Bearer {text}")

    with pytest.raises(JournalUnavailableError):
        asyncio.run(after_the_end())


def test_a_token_of_a_team_that_left_the_configuration_is_refused(journal: SqliteJournal) -> None:
    _, text = make(journal, team="clinic")
    now = [config()]
    door = authenticator(lambda: now[0], journal)
    assert ask(door, f"Bearer {text}").team == "clinic"
    now[0] = config(CONFIG.replace(", clinic: {}", ""))
    with pytest.raises(UnknownCallerError, match="clinic, which is not in the configuration any more"):
        ask(door, f"Bearer {text}")


def test_without_a_provider_another_kind_of_token_is_not_known(journal: SqliteJournal) -> None:
    with pytest.raises(UnknownCallerError, match="not a token of this fabric"):
        ask(authenticator(config, journal), "Bearer eyJhbGciOiJub25lIn0.e30.")


def test_a_role_that_a_later_version_made_gives_nothing(journal: SqliteJournal) -> None:
    token_id, _ = make(journal)
    entry = next(iter(journal.read()))
    later = type(entry)(**{**{name: getattr(entry, name) for name in entry.__slots__}, "data": {**entry.data}})
    later.data["roles"] = ["user", "emperor"]  # type: ignore[index]
    tokens = Tokens()
    tokens.step(later)
    assert tokens.by_id[token_id].roles == {Role.USER}


def test_the_operators_own_token_is_made_once_and_anew_when_it_is_gone_or_revoked(
    journal: SqliteJournal, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    path = first_operator_token(state, journal, "ops")
    assert path == state / "secrets" / "user.token"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    first = path.read_text()
    token = tokens_of(journal).shown(first, time.time())
    assert (token.user, token.team, token.roles) == ("ops", "", {Role.USER, Role.OPERATOR})

    assert first_operator_token(state, journal, "ops").read_text() == first
    assert len(tokens_of(journal).by_id) == 1

    revoke_token(journal, token, "ops")
    second = first_operator_token(state, journal, "ops").read_text()
    assert second != first
    path.unlink()
    third = first_operator_token(state, journal, "ops").read_text()
    path.write_bytes(b"\xff\x00 not a token")
    assert len({first, second, third, first_operator_token(state, journal, "ops").read_text()}) == 4
