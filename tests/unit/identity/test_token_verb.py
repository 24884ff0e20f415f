"""``fabric token``, as people type it."""

from __future__ import annotations

import asyncio
import json
import stat
import time
from pathlib import Path

import pytest

from fabric.config.reload import ConfigFile
from fabric.identity.bearer import JournalTokens
from fabric.identity.principal import Principal, UnknownCallerError
from fabric.journal.sqlite import SqliteJournal
from fabric.model.jobs import Role
from tests.unit.cli.places import place_in
from tests.unit.cli.typed import Screen


@pytest.fixture
def place(tmp_path: Path) -> Screen:
    place = Screen(place_in(tmp_path))
    place.path.write_text(place.path.read_text() + "teams: {vision: {}, clinic: {}}\n")
    return place


def who(place: Screen, text: str) -> Principal:
    journal = SqliteJournal(place.journal, "gateway")
    try:
        door = JournalTokens(journal, lambda: ConfigFile(place.path).current, time.time)
        return asyncio.run(door.who(f"Bearer {text}"))
    finally:
        journal.close()


def test_a_token_is_printed_once_counts_at_the_gateway_and_after_revoke_no_more(place: Screen) -> None:
    made = place.fabric("token", "create", "--user", "mia", "--team", "vision", "--role", "user", "--role", "auditor")
    assert made.returncode == 0, made.stderr
    text = made.stdout.strip()
    caller = who(place, text)
    assert (caller.user, caller.team, caller.roles) == ("mia", "vision", {Role.USER, Role.AUDITOR})

    listed = place.fabric("token", "list", "--json")
    assert text not in listed.stdout
    (row,) = json.loads(listed.stdout)
    assert (row["id"], row["user"], row["team"], row["state"]) == (caller.token_id, "mia", "vision", "valid")
    assert 89.9 * 86400 < row["expires_at"] - row["created_at"] <= 90 * 86400

    revoked = place.fabric("token", "revoke", caller.token_id)
    assert (revoked.returncode, revoked.stdout) == (0, f"token {caller.token_id} of mia: revoked\n")
    with pytest.raises(UnknownCallerError, match="revoked"):
        who(place, text)
    assert place.fabric("token", "list").stdout == "there are no valid tokens\n"
    assert "revoked" in place.fabric("token", "list", "--all").stdout
    assert "was revoked before" in place.fabric("token", "revoke", caller.token_id).stdout


def test_with_output_the_token_is_in_a_private_file_and_nowhere_else(place: Screen, tmp_path: Path) -> None:
    file = tmp_path / "mia.token"
    made = place.fabric("token", "create", "--user", "mia", "--expires", "never", "--output", str(file), "--json")
    text = file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert text not in made.stdout + made.stderr
    assert json.loads(made.stdout) == {"id": who(place, text).token_id, "file": str(file)}
    again = place.fabric("token", "create", "--user", "noa", "--output", str(file))
    assert (again.returncode, file.read_text()) == (5, text)
    assert len(json.loads(place.fabric("token", "list", "--all", "--json").stdout)) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--user", "mia", "--team", "visoin"), 1, "there is no team visoin"),
        (("--user", "mia", "--role", "emperor"), 2, "roles: user, operator, auditor"),
        (("--user", "mia", "--expires", "soon"), 2, "is not a duration"),
        (("--user", "mia", "--expires", "0s"), 2, "has to count for some time"),
        (("--user", "mia\x1b[2J"), 2, "printable characters"),
        (("--user", " "), 2, "printable characters"),
        (("--user", "mia", "--output", "/nowhere/at/all"), 2, "there is no directory"),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence_and_nothing_is_made(
    place: Screen, arguments: tuple[str, ...], code: int, said: str
) -> None:
    done = place.fabric("token", "create", *arguments)
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr
    assert not place.journal.exists()


def test_revoking_one_that_is_not_there_revokes_nothing(place: Screen) -> None:
    text = place.fabric("token", "create", "--user", "mia").stdout.strip()
    caller = who(place, text)
    done = place.fabric("token", "revoke", caller.token_id, "0000000000")
    assert (done.returncode, "there is no token 0000000000" in done.stderr) == (1, True)
    assert who(place, text) == caller
    whole = place.fabric("token", "revoke", text)
    assert (whole.returncode, text in whole.stdout) == (0, False)
