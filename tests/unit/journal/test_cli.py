"""``fabric journal``, run as a user runs it."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from fabric.journal.base import Draft
from fabric.journal.sqlite import SqliteJournal

ROOT = Path(__file__).resolve().parents[3]
CONFIG = """
sites:
  home:
    kind: onprem
    node_types: {box: {nodes: [localhost], cpus: 4}}
burst:
  baseline: [{cpus: 4, for: 1m}]
"""

Fabric = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "fabric.yaml").write_text(CONFIG)
    return tmp_path


@pytest.fixture
def journal_of_six(folder: Path) -> Path:
    times = iter(range(1_700_000_000, 1_700_001_000, 60))
    path = folder / "state" / "journal.db"
    with closing(SqliteJournal(path, "controller", lambda: float(next(times)))) as journal:
        for number in range(3):
            journal.append([Draft("launch.intended", {"token": f"fab-{number}", "site": "sky\x1b[2J"})])
            journal.append([Draft("decision", {"sentences": [f"Bought number {number}."], "snapshot": {}})])
    return path


@pytest.fixture
def fabric(folder: Path) -> Fabric:
    def call(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "fabric.cli", "journal", *map(str, arguments)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        environment.pop("FABRIC_CONFIG", None)
        return subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False, **options
        )  # type: ignore[call-overload]

    return call


def test_a_whole_journal_verifies_and_its_head_can_be_given_again(fabric: Fabric, journal_of_six: Path) -> None:
    done = fabric("verify")
    assert done.returncode == 0
    first, head = done.stdout.splitlines()
    assert first == "whole: entries 1 to 6"
    noted = head.removeprefix("head: ")
    assert fabric("verify", "--head", noted).returncode == 0
    assert fabric("verify", journal_of_six).stdout == done.stdout
    forged = noted[:-1] + ("0" if noted[-1] != "0" else "1")
    again = fabric("verify", "--head", forged, "--json")
    assert again.returncode == 1
    assert json.loads(again.stdout)["break"]["entry"] == 6


def test_a_broken_journal_exits_1_and_names_the_entry(fabric: Fabric, journal_of_six: Path) -> None:
    journal_of_six.write_bytes(journal_of_six.read_bytes().replace(b"number 1.", b"number 7."))
    done = fabric("verify")
    assert (done.returncode, done.stdout.splitlines()) == (
        1,
        ["broken at entry 4: changed: its content does not have the hash that is stored with it"],
    )
    told = json.loads(fabric("verify", "--json").stdout)
    assert (told["ok"], told["break"]["entry"]) == (False, 4)


def test_without_a_journal_every_verb_exits_3_with_a_sentence(fabric: Fabric, folder: Path) -> None:
    for verb in (["verify"], ["show"], ["export", "-o", "out.jsonl"]):
        done = fabric(*verb)
        assert (done.returncode, done.stdout) == (3, "")
        assert "there is no journal at" in done.stderr
    assert not (folder / "out.jsonl").exists()


@pytest.mark.usefixtures("journal_of_six")
def test_a_wrong_command_line_exits_2_and_says_what_would_be_right(fabric: Fabric) -> None:
    for arguments, hint in (
        (["show", "--kind", "launch.intend"], "did you mean launch.intended?"),
        (["show", "--since", "yesterday"], "neither a duration such as 10m nor a time"),
        (["verify", "--head", "6"], "SEQ:HASH"),
        (["verify", "no-such-file"], "does not exist"),
    ):
        done = fabric(*arguments)
        assert done.returncode == 2
        assert hint in done.stderr


@pytest.mark.usefixtures("journal_of_six")
def test_show_filters_and_never_lets_text_steer_the_terminal(fabric: Fabric) -> None:
    everything = fabric("show").stdout
    assert len(everything.splitlines()) == 6
    assert "\x1b" not in everything
    assert "Bought number 2." in everything.splitlines()[-1]
    assert [line.split()[0] for line in fabric("show", "--kind", "launch.*", "-n", "2").stdout.splitlines()] == [
        "3",
        "5",
    ]
    assert [line.split()[0] for line in fabric("show", "--token", "fab-1").stdout.splitlines()] == ["3"]
    assert [line.split()[0] for line in fabric("show", "--since", "2023-11-14T22:17:20+00:00").stdout.splitlines()] == [
        "5",
        "6",
    ]
    assert fabric("show", "--since", "1h").stdout == ""
    lines = [json.loads(line) for line in fabric("show", "--kind", "decision", "--json").stdout.splitlines()]
    assert [(line["seq"], line["kind"]) for line in lines] == [(2, "decision"), (4, "decision"), (6, "decision")]


def test_show_follows_what_another_process_appends(folder: Path, journal_of_six: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "fabric.cli",
        "journal",
        "show",
        "--last",
        "1",
        "--follow",
        "--kind",
        "spot.notice",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    with closing(SqliteJournal(journal_of_six, "gateway")) as journal:
        journal.append([Draft("spot.notice", {"token": "one"})])
        with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            assert "token=one" in child.stdout.readline()
            journal.append([Draft("node.lost", {"token": "one"}), Draft("spot.notice", {"token": "two"})])
            assert "token=two" in child.stdout.readline()
            child.send_signal(signal.SIGINT)
            assert child.wait(20) == 130


def test_an_export_verifies_anywhere_even_with_a_hash_and_a_text_editor(
    fabric: Fabric, folder: Path, journal_of_six: Path
) -> None:
    exported = fabric("export", "-o", "out.jsonl")
    assert exported.returncode == 0
    head = exported.stderr.strip().removeprefix("head: ")
    assert fabric("verify", "out.jsonl", "--head", head).returncode == 0
    assert fabric("export").stdout == (folder / "out.jsonl").read_text()
    journal_of_six.unlink()
    lines = (folder / "out.jsonl").read_text().splitlines()
    for line in lines:
        assert hashlib.sha256(f"{line[:-75]}}}".encode()).hexdigest() == json.loads(line)["hash"]
    done = fabric("verify", "-", input="\n".join(lines[2:]) + "\n")
    assert done.returncode == 0
    assert "entries 3 to 6; what came before entry 3 is not in this file" in done.stdout


@pytest.mark.usefixtures("journal_of_six")
def test_a_spoilt_export_names_the_entry(fabric: Fabric) -> None:
    lines = fabric("export").stdout.splitlines()
    spoilt = {
        "changed": ([*lines[:3], lines[3].replace("number 1", "number 7"), *lines[4:]], 4),
        "removed": ([*lines[:3], *lines[4:]], 4),
        "swapped": ([*lines[:2], lines[3], lines[2], *lines[4:]], 3),
        "doubled": ([*lines[:3], *lines[2:]], 4),
        "no line": ([*lines[:2], "{}", *lines[2:]], 3),
        "not even text": ([*lines[:5], "\x00"], 6),
        "cut short": ([*lines[:5], lines[5][:-20]], 6),
        "nothing": ([], 1),
    }
    for name, (changed, seq) in spoilt.items():
        done = fabric("verify", "-", "--json", input="\n".join(changed))
        assert done.returncode == 1, name
        assert json.loads(done.stdout)["break"]["entry"] == seq, name


@pytest.mark.usefixtures("journal_of_six")
def test_an_export_since_a_time_has_no_gap(fabric: Fabric) -> None:
    done = fabric("export", "--since", "2023-11-14T22:16:20+00:00")
    assert [json.loads(line)["seq"] for line in done.stdout.splitlines()] == [4, 5, 6]
    assert fabric("verify", "-", input=done.stdout).returncode == 0
    assert fabric("export", "--since", "1h").stderr.strip() == "there was nothing to export"
