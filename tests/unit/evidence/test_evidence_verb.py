"""``fabric evidence``, as people type it."""

from __future__ import annotations

import json
import shlex
import stat
import subprocess
from pathlib import Path

import pytest

from fabric.journal.base import Draft
from fabric.journal.sqlite import SqliteJournal
from tests.evidence_journals import good_story, opening, ran_on, submitted
from tests.unit.cli.places import Place, place_in
from tests.unit.cli.typed import Screen


def place_with(tmp_path: Path, drafts: list[Draft]) -> Screen:
    place = place_in(tmp_path)
    journal = SqliteJournal(place.journal, "tester")
    journal.append(drafts)
    journal.close()
    return Screen(place)


@pytest.fixture
def place(tmp_path: Path) -> Screen:
    bad = [*good_story("bad", "patient", [])[:3], ran_on("bad", 1, "fab-far-1", "far")]
    return place_with(tmp_path, [*opening(), *good_story("good", "internal", ["fab-near-1"]), *bad])


def test_a_file_is_written_and_verified_anywhere_with_the_public_key(place: Screen, tmp_path: Path) -> None:
    file = tmp_path / "good.json"
    made = place.fabric("evidence", "good", "--output", str(file))
    assert (made.returncode, made.stdout) == (0, ""), made.stderr
    assert f"9 of 17 entries of the journal prove it; written to {file}" in made.stderr
    key = place.fabric("evidence", "key").stdout.strip()
    secret = place.state / "secrets" / "evidence.key"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    offline = Screen(Place(elsewhere / "no.yaml", 0))
    said = offline.fabric("evidence", "verify", str(file), "--key", key)
    assert said.returncode == 0, said.stderr
    assert f"valid: signed by {key}\n" in said.stdout
    assert "data class internal, allowed at home, near" in said.stdout and "ran on 1 nodes at near" in said.stdout

    pem = elsewhere / "key.pem"
    pem.write_text(place.fabric("evidence", "key", "--pem").stdout)
    assert offline.fabric("evidence", "verify", str(file), "--key", str(pem)).returncode == 0
    unknown = offline.fabric("evidence", "verify", str(file))
    assert (unknown.returncode, "whose key that is was not checked" in unknown.stdout) == (0, True)
    told = json.loads(offline.fabric("evidence", "verify", str(file), "--key", key, "--json").stdout)
    assert (told["ok"], told["key_checked"], told["statement"]["job"]) == (True, True, "good")


def test_the_fabrics_own_machine_knows_its_key_and_names_a_foreign_one(place: Screen, tmp_path: Path) -> None:
    file = tmp_path / "good.json"
    place.fabric("evidence", "job", "good", "-o", str(file))
    assert "not checked" not in place.fabric("evidence", "verify", str(file)).stdout
    (place.state / "secrets" / "evidence.key").unlink()
    place.fabric("evidence", "key")
    said = place.fabric("evidence", "verify", str(file))
    assert (said.returncode, "signed with a foreign key" in said.stdout) == (1, True)


def test_a_job_that_was_where_it_may_not_be_is_written_and_named_by_both(place: Screen, tmp_path: Path) -> None:
    file = tmp_path / "bad.json"
    made = place.fabric("evidence", "bad", "-o", str(file))
    assert (made.returncode, "at site far" in made.stderr) == (1, True)
    said = place.fabric("evidence", "verify", str(file))
    assert said.returncode == 1
    assert "at site far" in said.stdout and "genuine, but the job was where it may not be" in said.stdout


def test_against_an_export_of_the_journal_an_entry_that_was_left_out_is_named(place: Screen, tmp_path: Path) -> None:
    file, export = tmp_path / "good.json", tmp_path / "journal.jsonl"
    place.fabric("evidence", "good", "-o", str(file))
    assert place.fabric("journal", "export", "-o", str(export)).returncode == 0
    assert place.fabric("evidence", "verify", str(file), "--journal", str(export)).returncode == 0
    lines = export.read_text().splitlines(keepends=True)
    export.write_text("".join(lines[:-3]))
    said = place.fabric("evidence", "verify", str(file), "--journal", str(export))
    assert (said.returncode, "The export ends at entry" in said.stdout) == (1, True)
    export.write_text("".join(lines[:5] + lines[6:]))
    said = place.fabric("evidence", "verify", str(file), "--journal", str(export))
    assert (said.returncode, "The export is broken at entry 6" in said.stdout) == (1, True)


def test_a_job_that_does_not_exist_and_a_key_that_is_none_are_sentences(place: Screen, tmp_path: Path) -> None:
    made = place.fabric("evidence", "nothing")
    assert (made.returncode, made.stdout) == (1, "")
    assert "no entry says that the job nothing was submitted" in made.stderr
    file = tmp_path / "x.json"
    file.write_text("{}")
    assert place.fabric("evidence", "verify", str(file), "--key", "ed25519:00").returncode == 2
    assert place.fabric("evidence", "verify", str(file)).returncode == 1
    assert place.fabric("evidence", "good", "-o", "/nowhere/x.json").returncode == 6


def test_openssl_agrees_about_the_signature(place: Screen, tmp_path: Path) -> None:
    """As docs/reference/evidence.md tells whoever trusts no code of ours."""
    told = json.loads(place.fabric("evidence", "good").stdout)
    signature = bytes.fromhex(told.pop("signature"))
    del told["entries"]
    (tmp_path / "signed").write_bytes(
        b"fabric-evidence/1\n" + json.dumps(told, sort_keys=True, separators=(",", ":")).encode()
    )
    (tmp_path / "signature").write_bytes(signature)
    (tmp_path / "key.pem").write_text(place.fabric("evidence", "key", "--pem").stdout)
    done = subprocess.run(
        shlex.split("openssl pkeyutl -verify -pubin -inkey key.pem -rawin -in signed -sigfile signature"),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_report_of_a_period_is_json_and_a_page(place: Screen, tmp_path: Path) -> None:
    html = tmp_path / "report.html"
    done = place.fabric(
        "evidence", "report", "--from", "2020-01-01", "--to", "2099-12-31", "--html", str(html), "--json"
    )
    assert done.returncode == 1, done.stderr
    told = json.loads(done.stdout)
    assert [job["job"] for job in told["jobs"]] == ["good", "bad"]
    assert told["to"] == 4102444800.0
    assert "Fabric <b>testing</b>" in html.read_text()
    quiet = place.fabric("evidence", "report", "--from", "2020-01-01", "--to", "2020-01-31")
    assert (quiet.returncode, json.loads(quiet.stdout)["jobs"]) == (0, [])
    assert place.fabric("evidence", "report", "--from", "2020-01-02", "--to", "2020-01-01").returncode == 2
    assert "neither a day" in place.fabric("evidence", "report", "--from", "yesterday", "--to", "2020-01-01").stderr


def test_a_job_may_be_called_like_a_command(tmp_path: Path) -> None:
    place = place_with(tmp_path, [*opening(), submitted("verify", "open")])
    told = json.loads(place.fabric("evidence", "job", "verify").stdout)
    assert told["statement"]["job"] == "verify"
