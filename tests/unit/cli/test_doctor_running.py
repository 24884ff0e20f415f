"""The doctor looks at a fabric that is up, or half of it: which processes run, and whose its ports are."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from autoscaler.boot.trust import cluster_token_file
from fabric.cli import ports
from fabric.cli.programs import Program
from fabric.cli.run_dir import RUN_MARK, Record, RunDir, end
from fabric.cli.supervisor import Supervisor, render, start
from fabric.config.reload import read
from fabric.config.schema import Config
from tests.conftest import wait_until
from tests.unit.cli.surgery import Place, place_in, state_of

LISTEN = (
    "import socket, sys, threading as t; "
    "held = [socket.create_server(('127.0.0.1', int(number))) for number in sys.argv[1:]]; t.Event().wait()"
).replace("; ", ";")


@dataclass
class Up:
    """A supervisord of this fabric with one program, which listens where it is told."""

    place: Place
    run: RunDir
    numbers: dict[str, int]

    def start(self, *, without: str = "") -> None:
        numbers = [number for key, number in self.numbers.items() if key != without]
        listener = Program("listener", (sys.executable, "-c", LISTEN, *map(str, numbers)), 1)
        conf = self.place.state / "supervisord.conf"
        conf.write_text(render(self.run, self.place.state, [listener], {RUN_MARK: str(self.run.root)}))
        start(conf, self.run, foreground=False)
        wait_until(lambda: all(map(_is_taken, numbers)), what="the ports")
        wait_until(lambda: Supervisor(self.run).states()[0].running, what="the program")

    def kill_supervisord(self) -> None:
        os.kill(int(self.run.pid_file.read_text()), signal.SIGKILL)
        wait_until(lambda: not Supervisor(self.run).is_up(), what="the end of supervisord")


@pytest.fixture
def up(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Up]:
    place = place_in(tmp_path, free_port)
    cluster_token_file(place.state)
    place.state.chmod(0o700)
    config, run = read(place.config), RunDir.of(place.config)
    assert isinstance(config, Config)
    run.create(Record(str(place.config), str(place.state), 0.0), place.config.read_bytes())
    yield Up(place, run, {port.key: port.number for port in ports.needed(config)})
    Supervisor(run).shutdown()
    assert end(run.processes(), grace_s=5) == []
    run.remove()


def _is_taken(number: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", number)) == 0


def _said(findings: list[dict[str, Any]], name: str) -> str:
    return " ".join(found["detail"] for found in findings if found["name"] == name)


def test_a_fabric_that_is_up_has_its_own_ports(up: Up) -> None:
    up.start()
    findings = up.place.findings(0)
    assert state_of(findings, "ports") == {"ok"}
    assert f"{len(up.numbers)} of {len(up.numbers)} are held by this fabric's own" in _said(findings, "ports")
    assert _said(findings, "processes").startswith("supervisord runs")


def test_a_port_that_somebody_else_took_from_a_fabric_that_is_up_fails(up: Up) -> None:
    up.start(without="listen.gateway")
    with socket.create_server(("0.0.0.0", up.numbers["listen.gateway"])):
        (found,) = up.place.failures("ports")
    assert "(listen.gateway)" in found["detail"]
    assert f"(process {os.getpid()}) has it, which is not of this fabric" in found["detail"]


def test_a_port_on_which_a_fabric_that_is_up_does_not_listen_is_a_warning(up: Up) -> None:
    up.start(without="listen.reaper")
    findings = up.place.findings(0)
    assert state_of(findings, "ports") == {"ok", "warn"}
    assert f"127.0.0.1:{up.numbers['listen.reaper']} (listen.reaper): nothing listens there" in _said(findings, "ports")


def test_processes_without_their_supervisord_are_said_with_fabric_down(up: Up) -> None:
    up.start(without="listen.reaper")
    up.kill_supervisord()
    (found,) = up.place.failures("processes")
    assert "supervisord has died" in found["detail"]
    assert all(str(process.pid) in found["detail"] for process in up.run.processes())
    assert "fabric down" in found["remedy"]
    assert state_of(up.place.findings(1), "ports") == {"ok"}, "who has them is ours, and nobody waits for the reaper"


def test_a_program_that_does_not_stay_up_is_named_with_its_log(up: Up) -> None:
    with closing(socket.create_server(("127.0.0.1", up.numbers["listen.reaper"]))):
        conf = up.place.state / "supervisord.conf"
        quitter = Program("quitter", (sys.executable, "-c", "raise SystemExit(3)"), 1)
        conf.write_text(render(up.run, up.place.state, [quitter], {RUN_MARK: str(up.run.root)}))
        start(conf, up.run, foreground=False)
        wait_until(lambda: Supervisor(up.run).states()[0].state == "BACKOFF", what="its failure")
        (found,) = up.place.failures("processes")
    assert "quitter is BACKOFF" in found["detail"]
    assert "quitter.log" in found["remedy"]


def test_before_up_there_is_no_process(up: Up) -> None:
    assert _said(up.place.findings(0), "processes").startswith("none")
