"""``fabric status`` against the real controller's own pages, and against a journal when there is no controller."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from fabric.cli.exits import Exit
from fabric.cli.run_dir import Record, RunDir
from fabric.journal.base import Draft
from fabric.journal.sqlite import SqliteJournal
from fabric.model.events import Event
from tests.conftest import wait_until
from tests.unit.cli.places import COST_OF_A_MINUTE, LAUNCH, Place, controller_of, place_in, write_story


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    place = place_in(tmp_path_factory.mktemp("running"))
    write_story(place.journal)
    with controller_of(place):
        yield place


@pytest.fixture
def stopped(tmp_path: Path) -> Place:
    """A fabric that is not running and has a journal."""
    place = place_in(tmp_path)
    write_story(place.journal)
    return place


@pytest.fixture(scope="module")
def seen(running: Place) -> dict[str, Any]:
    """The status once the controller has decided and has noticed that its cloud does not answer."""

    def settled() -> dict[str, Any] | None:
        status = running.status()
        return status if status["last_decision"]["seq"] and site(status, "sky")["error"] else None

    status = wait_until(settled, what="a decision")
    assert isinstance(status, dict)
    return status


@pytest.fixture(scope="module")
def screen(running: Place, seen: dict[str, Any]) -> str:
    """What a person sees then."""
    del seen
    shown = running.fabric("status")
    assert (shown.returncode, shown.stderr) == (Exit.OK, "")
    return shown.stdout


def site(status: dict[str, Any], name: str) -> dict[str, Any]:
    return next(block for block in status["sites"] if block["name"] == name)


def line_of(screen: str, beginning: str) -> str:
    return next(line for line in screen.splitlines() if line.strip().startswith(beginning))


def node_type(status: dict[str, Any], name: str) -> tuple[int, int, int]:
    kind = next(kind for kind in status["node_types"] if kind["name"] == name)
    return kind["plan"], kind["requested"], kind["observed"]


def test_a_running_controller_is_shown_with_exit_code_0(running: Place, seen: dict[str, Any], screen: str) -> None:
    assert seen["controller"] == {"address": f"127.0.0.1:{running.controller}", "answers": True}
    assert line_of(screen, "testing").split()[1] == "runs;"


def test_the_queue_is_shown_against_each_threshold_with_how_long_it_has_been_above(
    seen: dict[str, Any], screen: str
) -> None:
    assert seen["queue"]["gpus"] >= 2
    low, high = seen["baseline"]["thresholds"]
    assert low["above_since"] is not None
    assert high["above_since"] is None
    assert seen["baseline"]["open"]
    assert "reached for" in line_of(screen, "2 GPUs at once")
    assert "below" in line_of(screen, "50 GPUs for 5 min")
    assert "open for" in line_of(screen, "Burst")


def test_gpus_are_counted_at_home_and_rented(screen: str) -> None:
    assert line_of(screen, "GPUs  ").split(maxsplit=1)[1].startswith("at home 1 of 1 in use, rented 0 of ")


def test_a_dead_machine_of_your_own_is_named_and_is_not_counted_as_observed(seen: dict[str, Any], screen: str) -> None:
    assert node_type(seen, "home.box") == (2, 0, 1)
    assert "onprem/home/b" in line_of(screen, "Dead")
    assert "nothing is bought because of that alone" in line_of(screen, "Dead")


def test_the_last_decision_is_shown_as_the_sentences_that_the_journal_has(
    running: Place, seen: dict[str, Any], screen: str
) -> None:
    journal = SqliteJournal(running.journal, "test")
    written = {entry.seq: entry.data["sentences"] for entry in journal.read() if entry.kind == Event.DECISION}
    journal.close()
    assert seen["last_decision"]["sentences"] == written[seen["last_decision"]["seq"]]
    flat = " ".join(screen.split())
    assert any(all(" ".join(sentence.split()) in flat for sentence in sentences) for sentences in written.values())


def test_a_site_that_does_not_answer_says_so_in_its_row(seen: dict[str, Any], screen: str) -> None:
    assert site(seen, "sky")["error"]
    assert site(seen, "sky")["error"][:20] in line_of(screen, "sky ")


def test_a_rejected_edit_is_shown_with_its_place_and_the_old_configuration_stays_in_force(
    running: Place, seen: dict[str, Any]
) -> None:
    good = running.path.read_text()
    run = RunDir.of(running.path)
    run.create(Record(str(running.path), str(running.journal.parent), time.time()), good.encode())
    try:
        running.path.write_text(good.replace("hold: 1h", "hodl: 1h"))
        status = wait_until(lambda: status if (status := running.status())["config"]["problems"] else None)
        shown = running.fabric("status")
    finally:
        running.path.write_text(good)
        run.remove()
    assert isinstance(status, dict)
    assert status["controller"]["answers"]
    assert status["config"]["digest"] == seen["config"]["digest"]
    assert f"{running.path}:{good[: good.index('hold: 1h')].count(chr(10)) + 1}:" in status["config"]["problems"][0]
    assert "the edited file is not taken" in shown.stdout
    assert "hodl" in shown.stdout


def test_without_a_controller_the_journal_is_shown_with_exit_code_3(stopped: Place) -> None:
    shown = stopped.fabric("status")
    assert shown.returncode == Exit.UNAVAILABLE
    assert f"the controller does not answer on 127.0.0.1:{stopped.controller}" in shown.stdout
    assert "fab-here" in shown.stdout
    assert "fab-new" in shown.stdout
    assert "fab-gone" not in shown.stdout


def test_without_a_controller_nodes_and_money_are_the_fold_of_the_journal(stopped: Place) -> None:
    shown = stopped.fabric("status", "--json")
    assert shown.returncode == Exit.UNAVAILABLE
    status = json.loads(shown.stdout)
    assert not status["controller"]["answers"]
    assert {node["id"]: node["phase"] for node in status["nodes"]} == {
        "onprem/home/a": "running",
        "onprem/home/b": "dead",
        "fab-here": "running",
        "fab-new": "requested",
    }
    assert node_type(status, "home.box") == (2, 0, 1)
    assert node_type(status, "sky.g1") == (2, 1, 1)
    here = next(node["cost_micro_usd"] for node in status["nodes"] if node["id"] == "fab-here")
    assert here > COST_OF_A_MINUTE
    assert status["money"]["spent_micro_usd"] == COST_OF_A_MINUTE + here
    assert status["money"]["by_site"] == {
        "sky": {"per_hour_micro_usd": 3_600_000, "spent_micro_usd": COST_OF_A_MINUTE + here}
    }
    assert status["money"]["per_hour_micro_usd"] == 3_600_000


def test_the_keys_of_the_json_are_the_same_whoever_tells(stopped: Place, seen: dict[str, Any]) -> None:
    status = stopped.status()
    assert status.keys() == seen.keys()
    for name in ("sites", "node_types", "nodes"):
        assert {frozenset(row) for row in status[name]} == {frozenset(row) for row in seen[name]}
    assert status["config"].keys() == seen["config"].keys()
    assert status["last_decision"].keys() == seen["last_decision"].keys()


def test_every_key_of_the_json_is_in_the_help(seen: dict[str, Any], stopped: Place) -> None:
    words = set(stopped.fabric("status", "--help").stdout.replace(",", " ").replace(":", " ").split())
    assert seen.keys() <= words
    assert {key for name in ("sites", "node_types", "nodes") for row in seen[name] for key in row} <= words


def test_a_fabric_that_has_never_run_is_said_to_have_no_journal(tmp_path: Path) -> None:
    shown = place_in(tmp_path).fabric("status")
    assert shown.returncode == Exit.UNAVAILABLE
    assert "this fabric has never run" in shown.stderr
    assert "Traceback" not in shown.stderr


def test_something_else_on_the_controllers_port_is_not_taken_for_it(stopped: Place) -> None:
    class Stranger(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"hello": "world"}')

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", stopped.controller), Stranger)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        shown = stopped.fabric("status")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert shown.returncode == Exit.CONFLICT
    assert "is not the controller of a fabric" in shown.stderr


def test_watching_goes_on_and_each_line_of_json_has_what_was_appended_since(stopped: Place) -> None:
    watching = subprocess.Popen(
        [sys.executable, "-u", "-m", "fabric.cli", "-c", str(stopped.path), "status", "--json", "--watch", "0.2"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    try:
        assert watching.stdout is not None
        first = json.loads(watching.stdout.readline())
        journal = SqliteJournal(stopped.journal, "controller")
        journal.append([Draft(Event.LAUNCH_REFUSED, {"token": "fab-new", "offer": LAUNCH["offer"], "error": "quota"})])
        journal.close()
        later = next(status for line in watching.stdout if (status := json.loads(line))["journal"] != first["journal"])
    finally:
        watching.terminate()
        watching.communicate()
    assert node_type(first, "sky.g1") == (2, 1, 1)
    assert node_type(later, "sky.g1") == (1, 0, 1)


def test_what_a_cloud_says_is_shown_as_plain_text(stopped: Place) -> None:
    said = "\x1b[2J [red]no such key[/red] :boom:"
    journal = SqliteJournal(stopped.journal, "controller")
    refused = {"token": "fab-new", "offer": LAUNCH["offer"], "error": "credentials", "message": said}
    journal.append([Draft(Event.LAUNCH_REFUSED, refused)])
    journal.close()
    row = line_of(stopped.fabric("status").stdout, "sky ")
    assert "credentials: ·[2J [red]no such key[/red] :boom:" in row
