"""The agent as a real process, up to the raylet: joining, giving up, ending the machine. The rest needs a cluster."""

from __future__ import annotations

import json
import platform
import signal
import stat
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pytest

from fabric.gateway.refusals import Versions
from fabric.model.events import Event
from tests.conftest import wait_until
from tests.unit.gateway import serving
from tests.unit.gateway.serving import Gateway

HERE = Versions(platform.python_version(), version("ray"))


class Machine:
    """The agent's process, as the boot script starts it."""

    def __init__(self, folder: Path, gateway_url: str, ticket: str, **changes: str) -> None:
        self.folder = folder
        self.work = folder / "work"
        self.environ = {
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "PYTHONPATH": str(Path(__file__).parents[3]),
            "FABRIC_TOKEN": "fab-1",
            "FABRIC_SITE": "sky",
            "FABRIC_NODE_TYPE": "sky.box",
            "FABRIC_TICKET": ticket,
            "FABRIC_GATEWAY": gateway_url,
            "FABRIC_RESOURCES": json.dumps({"CPU": 1}),
            "FABRIC_WORK_DIR": str(self.work),
            "FABRIC_TEMP_DIR": str(folder / "ray"),
            "FABRIC_BOOT_DEADLINE_S": "60",
            "FABRIC_END_COMMAND": f"touch {folder}/ended",
        } | changes
        self.log = folder / "agent.log"
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "autoscaler.boot.agent"], env=self.environ, stderr=log, stdout=log
            )

    def wait(self, timeout: float = 40) -> int:
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            pytest.fail(f"the agent did not end:\n{self.said()}")

    def said(self) -> str:
        return self.log.read_text()

    def ended(self) -> bool:
        return (self.folder / "ended").exists()


@pytest.fixture(autouse=True)
def _same_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "OURS", HERE)


def test_a_refusal_is_final_and_ends_the_machine(gateway: Gateway, tmp_path: Path) -> None:
    machine = Machine(tmp_path, gateway.url, "never-issued")
    assert machine.wait() == 20
    assert "No launch in this fabric's journal was given this join ticket." in machine.said()
    assert machine.ended()


def test_a_ticket_of_another_machine_is_not_taken(gateway: Gateway, tmp_path: Path) -> None:
    machine = Machine(tmp_path, gateway.url, gateway.intend("fab-2").text)
    assert machine.wait() == 20
    assert "the ticket belongs to fab-2, but this machine is fab-1" in machine.said()


def test_a_machine_that_cannot_reach_the_gateway_ends_at_its_boot_deadline(tmp_path: Path, free_port) -> None:
    begun = time.monotonic()
    machine = Machine(tmp_path, f"http://127.0.0.1:{free_port()}", "x", FABRIC_BOOT_DEADLINE_S="1.5")
    assert machine.wait() == 21
    assert time.monotonic() - begun >= 1.5
    assert "the boot deadline passed while the gateway could not be joined" in machine.said()
    assert machine.said().count("cannot join yet") == 1
    assert machine.ended()


def test_a_machine_asked_to_stop_while_joining_stops(tmp_path: Path, free_port) -> None:
    machine = Machine(tmp_path, f"http://127.0.0.1:{free_port()}", "x")
    wait_until(lambda: "cannot join yet" in machine.said(), what="the first attempt")
    machine.process.send_signal(signal.SIGTERM)
    assert machine.wait() == 0
    assert not machine.ended()


def test_a_missing_setting_is_named(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "http://127.0.0.1:1", "x", FABRIC_SITE="")
    assert machine.wait() == 2
    assert "FABRIC_SITE is not set" in machine.said()


def test_a_node_asks_until_it_may_join_and_ends_when_the_raylet_does_not_come_up(
    gateway: Gateway, tmp_path: Path
) -> None:
    gateway.controller_silent_s = 1000.0
    machine = Machine(tmp_path, gateway.url, gateway.intend("fab-1").text, FABRIC_BOOT_DEADLINE_S="12")
    wait_until(lambda: "cannot join yet: The controller was last alive" in machine.said(), what="a refusal for now")
    gateway.controller_silent_s = 0.0
    wait_until(lambda: gateway.entries(Event.NODE_JOINED), what="the join")
    # There is no head at the address the gateway gives: the raylet cannot come up.
    assert machine.wait() in (21, 24)
    assert "before the raylet was up" in machine.said() or "before it was up" in machine.said()
    assert machine.ended()
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in machine.work.iterdir()}
    assert modes.pop("ray-start.log", None) is not None
    assert modes == dict.fromkeys(["cluster.token", "credential", "nonce"], 0o600)
    assert stat.S_IMODE(machine.work.stat().st_mode) == 0o700

    # The machine comes back without a ticket, after its end was intended.
    gateway.end("fab-1")
    (tmp_path / "ended").unlink()
    machine.environ["FABRIC_TICKET"] = ""
    machine.start()
    assert machine.wait() == 20
    assert "fab-1 has been ended (idle)" in machine.said()
    assert machine.ended()
