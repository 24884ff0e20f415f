"""``fabric up`` and ``fabric down`` for real: everything comes up, comes back when killed, and leaves nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from fabric.cli.context import get_json
from fabric.cli.exits import Exit
from fabric.cli.programs import HEAD
from fabric.cli.run_dir import RunDir
from fabric.cli.supervisor import ProcessState, Supervisor
from tests.conftest import wait_until
from tests.sandboxes import unused_port

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(420), pytest.mark.xdist_group("up-down")]

CONFIG = """
fabric: {{name: updown}}
defaults: {{data_class: open}}
data_classes: {{open: {{sites: any}}}}
listen: {{gateway: "127.0.0.1:{gateway}", controller: "127.0.0.1:{controller}", reaper: "127.0.0.1:{reaper}"}}
ray: {{port: {ray}, dashboard: "127.0.0.1:{dashboard}", object_store: 80MB}}
sites:
  home:
    kind: onprem
    node_types:
      box: {{nodes: [a], local: true, gpus: 1, cpus: 1}}
  sky:
    kind: sandbox
    endpoint: 127.0.0.1:{sandbox}
    node_types:
      g1: {{gpus: 1, cpus: 1, boot: 0s, min: 1, max: 2, price: {{on-demand: 3.61 USD/h, minimum: 2s}}}}
burst:
  baseline: [{{gpus: 2, for: 1h}}]
"""


@dataclass
class Place:
    """A configuration of its own, and the command line on it."""

    config: Path

    @property
    def run(self) -> RunDir:
        return RunDir.of(self.config)

    def fabric(self, *arguments: str, timeout: float = 200) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "fabric.cli", *arguments, "--config", str(self.config)]
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)

    def told(self, *arguments: str) -> Any:
        done = self.fabric(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def process(self, name: str) -> ProcessState | None:
        return next((state for state in Supervisor(self.run).states() if state.name == name), None)


@contextmanager
def place_in(folder: Path) -> Iterator[Place]:
    names = ("gateway", "controller", "reaper", "ray", "dashboard", "sandbox")
    place = Place(folder / "fabric.yaml")
    place.config.write_text(CONFIG.format(**{name: unused_port() for name in names}))
    yield place
    place.fabric("down", "--force")
    assert place.run.processes() == []


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with place_in(tmp_path_factory.mktemp("updown")) as place:
        yield place


@pytest.fixture(scope="module")
def up(place: Place) -> Any:
    """What ``fabric up --json`` told."""
    return place.told("up", "--timeout", "180")


def test_the_unmodified_ray_command_line_runs_a_job_with_what_up_tells(place: Place, up: Any) -> None:
    ray = str(Path(sys.executable).with_name("ray"))
    done = subprocess.run(
        [ray, "job", "submit", "--", "python", "-c", "print(6 * 7, 'from the driver')"],
        env={**os.environ, **up["environment"]},
        cwd=place.config.parent,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "42 from the driver" in done.stdout + done.stderr


def test_a_second_up_is_refused_with_a_sentence(place: Place, up: Any) -> None:
    del up
    done = place.fabric("up")
    assert done.returncode == Exit.CONFLICT
    assert done.stderr.startswith("fabric: this fabric is already up")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["controller", "gateway"])
def test_a_killed_process_comes_back_and_answers_again(place: Place, up: Any, name: str) -> None:
    before = place.process(name)
    assert before is not None and before.running
    os.kill(before.pid, signal.SIGKILL)

    def answers_again() -> bool:
        told = get_json(f"http://{up[name]}/healthz", timeout_s=1.0)
        return told is not None and told["ok"] and told["pid"] != before.pid

    wait_until(answers_again, timeout=60, what=f"a new {name} that answers")


def test_the_list_of_nodes_has_the_head_the_own_node_and_the_rented_one(place: Place, up: Any) -> None:
    del up

    def running() -> set[str]:
        return {node["node_type"] for node in place.told("nodes")["nodes"] if node["phase"] == "running"}

    wait_until(lambda: running() == {"head", "home.box", "sky.g1"}, timeout=120, what="three running nodes")


def test_down_gives_everything_back_also_after_supervisord_and_the_sandbox_were_killed(place: Place, up: Any) -> None:
    del up
    sandbox = place.process("sandbox-sky")
    supervisord = int(place.run.pid_file.read_text())
    assert sandbox is not None
    for pid in (supervisord, sandbox.pid):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not psutil.pid_exists(sandbox.pid), what="the end of the sandbox's server")

    told = place.told("down")

    assert told["problem"] == ""
    assert [line["ended_at_ms"] is not None for line in told["ledger"]["lines"]] == [True]
    assert place.run.processes() == []
    assert not place.run.root.exists()
    again = place.fabric("down")
    assert (again.returncode, again.stdout.strip()) == (0, "Nothing is up, and nothing is rented.")


def test_what_is_not_up_says_so_with_its_exit_code(place: Place, up: Any) -> None:
    del up
    place.fabric("down")
    done = place.fabric("nodes")
    assert done.returncode == Exit.UNAVAILABLE
    assert "does not answer" in " ".join(done.stdout.split())


@pytest.mark.parametrize("program", [None, HEAD], ids=["as soon as anything runs", "as soon as the head starts"])
def test_up_in_the_foreground_that_is_told_to_end_before_all_is_well_leaves_nothing(
    tmp_path: Path, program: str | None
) -> None:
    with place_in(tmp_path) as place:
        command = [sys.executable, "-m", "fabric.cli", "up", "--foreground", "--config", str(place.config)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as up:
            try:
                wait_until(lambda: place.run.processes(program), what="the first process")
                up.terminate()
                told, _ = up.communicate(timeout=60)
            finally:
                up.kill()
        assert (up.returncode, told.splitlines()[-1]) == (Exit.INTERRUPTED, "fabric: interrupted")
        assert place.run.processes() == []
        assert not place.run.root.exists()
