"""``fabric nodes`` against the real controller, and against a journal when there is no controller."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fabric.cli.exits import Exit
from fabric.journal.base import Draft
from fabric.journal.sqlite import SqliteJournal
from fabric.model.events import Event
from fabric.model.money import format_usd
from tests.conftest import wait_until
from tests.unit.cli.places import COST_OF_A_MINUTE, LAUNCH, Place, controller_of, place_in, write_story

OFFER = str(LAUNCH["offer"])


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    place = place_in(tmp_path_factory.mktemp("running"))
    write_story(place.journal)
    with controller_of(place):
        wait_until(lambda: place.status()["last_decision"]["seq"], what="a decision")
        yield place


@pytest.fixture
def stopped(tmp_path: Path) -> Place:
    """A fabric that is not running and has a journal."""
    place = place_in(tmp_path)
    write_story(place.journal)
    return place


def listed(place: Place, *more: str, exit_code: Exit) -> dict[str, Any]:
    shown = place.fabric("nodes", "--json", *more)
    assert (shown.returncode, shown.stderr) == (exit_code, "")
    return json.loads(shown.stdout)


def row(screen: str, name: str) -> str:
    return next(line for line in screen.splitlines() if line.startswith(name))


def test_it_lists_the_same_nodes_as_the_status_and_says_who_told(running: Place) -> None:
    told, status = listed(running, exit_code=Exit.OK), running.status()
    assert told["controller"] == status["controller"] == {"address": f"127.0.0.1:{running.controller}", "answers": True}
    assert {node["id"] for node in told["nodes"]} == {node["id"] for node in status["nodes"]}
    assert {frozenset(node) for node in told["nodes"]} == {frozenset(node) for node in status["nodes"]}
    assert told.keys() == {"at", "controller", "journal", "nodes"}


def test_a_rented_node_has_its_offer_its_price_and_its_cost_so_far(running: Place) -> None:
    before = next(node for node in listed(running, exit_code=Exit.OK)["nodes"] if node["token"] == "fab-here")
    shown = running.fabric("nodes").stdout
    after = next(node for node in listed(running, exit_code=Exit.OK)["nodes"] if node["token"] == "fab-here")
    assert (before["offer"], before["per_hour_micro_usd"]) == (OFFER, 3_600_000)
    assert COST_OF_A_MINUTE < before["cost_micro_usd"] <= after["cost_micro_usd"]
    line = row(shown, "fab-here")
    assert OFFER in line
    assert "$3.60/h" in line
    said = float(line.split("$")[2].split()[0])
    assert before["cost_micro_usd"] / 1e6 - 1e-4 <= said <= after["cost_micro_usd"] / 1e6 + 1e-4


def test_your_own_nodes_come_first_cost_nothing_and_a_dead_one_says_so(running: Place) -> None:
    shown = running.fabric("nodes").stdout
    assert shown.index("onprem/home/a") < shown.index("fab-")
    assert "yours" in row(shown, "onprem/home/a")
    assert "$" not in row(shown, "onprem/home/a")
    assert "dead" in row(shown, "onprem/home/b")


def test_the_table_is_that_of_the_status(stopped: Place) -> None:
    alone, status = stopped.fabric("nodes").stdout, stopped.fabric("status").stdout
    assert row(alone, "node  ").split() == row(status, "node  ").split()
    for name in ("onprem/home/a", "onprem/home/b", "fab-here", "fab-new"):
        assert row(alone, name).split()[:3] == row(status, name).split()[:3]


def test_a_launch_that_ended_is_listed_with_all_and_only_then(running: Place) -> None:
    assert "fab-gone" not in running.fabric("nodes").stdout
    (ended,) = listed(running, "--all", exit_code=Exit.OK)["ended"]
    assert (ended["token"], ended["offer"], ended["cost_micro_usd"]) == ("fab-gone", OFFER, COST_OF_A_MINUTE)
    assert ended["ended_at"] - ended["launched_at"] == pytest.approx(60)
    assert (ended["cause"], ended["estimated"], ended["priced"]) == ("work", False, True)
    line = row(running.fabric("nodes", "--all").stdout, "fab-gone")
    assert OFFER in line
    assert format_usd(COST_OF_A_MINUTE, 4) in line
    assert line.rstrip().endswith("work")


def test_what_became_waste_is_said_in_words(stopped: Place) -> None:
    journal = SqliteJournal(stopped.journal, "controller")
    journal.append(
        [
            Draft(Event.TERMINATE_INTENDED, {"token": "fab-new", "cause": "join_deadline", "by": "controller"}),
            Draft(Event.INSTANCE_ENDED, {"token": "fab-new", "launched_at_ms": 1_000, "ended_at_ms": 61_000}),
        ]
    )
    journal.close()
    told = listed(stopped, "--all", exit_code=Exit.UNAVAILABLE)
    assert {ended["token"]: ended["cause"] for ended in told["ended"]} == {"fab-new": "failed_join", "fab-gone": "work"}
    assert "fab-new" not in {node["token"] for node in told["nodes"]}
    assert row(stopped.fabric("nodes", "--all").stdout, "fab-new").rstrip().endswith("failed join")


def test_without_a_controller_what_the_journal_knows_is_listed_with_exit_code_3(stopped: Place) -> None:
    shown = stopped.fabric("nodes")
    assert (shown.returncode, shown.stderr) == (Exit.UNAVAILABLE, "")
    assert f"the controller does not answer on 127.0.0.1:{stopped.controller}" in shown.stdout
    assert "what the journal knows" in " ".join(shown.stdout.split())
    told = listed(stopped, exit_code=Exit.UNAVAILABLE)
    assert not told["controller"]["answers"]
    assert told["journal"]["seq"] > 0
    assert {node["id"]: node["phase"] for node in told["nodes"]} == {
        "onprem/home/a": "running",
        "onprem/home/b": "dead",
        "fab-here": "running",
        "fab-new": "requested",
    }


def test_a_fabric_that_has_never_run_has_nothing_to_list(tmp_path: Path) -> None:
    shown = place_in(tmp_path).fabric("nodes", "--all", "--json")
    assert (shown.returncode, shown.stdout) == (Exit.UNAVAILABLE, "")
    assert "this fabric has never run" in shown.stderr


def test_every_key_of_the_json_is_in_the_help(stopped: Place) -> None:
    words = set(stopped.fabric("nodes", "--help").stdout.replace(",", " ").replace(":", " ").split())
    told = listed(stopped, "--all", exit_code=Exit.UNAVAILABLE)
    assert told.keys() <= words
    assert told["ended"][0].keys() <= words


def test_the_script_for_a_machine_of_your_own_is_json_if_asked_and_an_unknown_machine_is_refused(
    stopped: Place,
) -> None:
    shown = stopped.fabric("nodes", "join-script", "home", "a", "--json")
    assert shown.returncode == Exit.OK, shown.stderr
    told = json.loads(shown.stdout)
    assert (told["node"], told["node_type"]) == ("onprem/home/a", "home.box")
    assert told["script"].startswith("#!")
    for arguments, named in ((("home", "z"), "a, b"), (("sky", "a"), "home")):
        refused = stopped.fabric("nodes", "join-script", *arguments)
        assert (refused.returncode, refused.stdout) == (Exit.NO, "")
        assert named in refused.stderr
