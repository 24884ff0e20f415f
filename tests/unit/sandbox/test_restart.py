"""A killed server takes nothing with it: machines go on, and the bill is exact however long it was away."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
import time
from pathlib import Path

import httpx
import pytest

from autoscaler.sandbox.machine import start_identity
from fabric.model.money import Tariff
from tests.conftest import wait_until
from tests.sandboxes import SandboxServer

QUICK = Tariff(3_610_000, 2)


def alive(pid: int) -> bool:
    return start_identity(pid) != ""


def cmdline(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def test_instances_and_bill_survive_kill_9_and_restart(server: SandboxServer):
    server.launch("runs", "echo once; sleep 600")
    server.launch("pending", "echo late", node_type="slow")
    server.launch("gone", "true")
    gone = server.wait_for("gone", "ended")
    running = server.wait_for("runs", "running")
    pid = server.pid("runs")

    server.kill()
    assert alive(pid)
    server.start()

    assert server.show("runs") == running
    assert server.show("gone") == gone
    assert server.show("pending")["state"] == "pending"
    assert server.pid("runs") == pid
    assert server.console("runs") == "once\n"
    ended = server.terminate("runs")
    lines = {line["token"]: line for line in server.get("/bill")["lines"]}
    assert set(lines) == {"runs", "pending", "gone"}
    assert lines["runs"]["micro_usd"] == QUICK.cost(ended["ended_at_ms"] - running["launched_at_ms"])
    assert lines["gone"]["micro_usd"] == QUICK.cost(gone["ended_at_ms"] - gone["launched_at_ms"])
    assert lines["pending"]["open"]


def test_a_machine_that_ended_while_the_server_was_away_is_charged_until_it_ended(server: SandboxServer):
    server.launch("runs", "sleep 600")
    server.wait_for("runs", "running")
    pid = server.pid("runs")
    server.kill()

    ended_at_ms = time.time_ns() // 1_000_000
    os.kill(pid, signal.SIGTERM)  # what `shutdown` inside the machine does
    wait_until(lambda: not alive(pid), what="the machine's end")
    known_ms = time.time_ns() // 1_000_000
    time.sleep(0.6)  # the server stays away a while: that time must not be charged
    server.start()

    ended = server.wait_for("runs", "ended")
    assert ended_at_ms <= ended["ended_at_ms"] <= known_ms
    assert ended["reason"] == "powered off"


def test_an_end_that_was_asked_for_before_the_crash_is_carried_out_after_it(server: SandboxServer):
    server.launch("stubborn", "trap '' TERM; while true; do sleep 0.2; done")
    server.wait_for("stubborn", "running")
    pid = server.pid("stubborn")
    server.http.delete(f"/v1/instances/{server.show('stubborn')['id']}")
    server.kill()
    server.start()

    assert server.wait_for("stubborn", "ended")["reason"] == "user"
    assert not alive(pid)


def test_a_machine_killed_with_the_server_away_leaves_no_process_and_is_charged_to_its_last_sign_of_life(
    server: SandboxServer,
):
    server.launch("runs", "setsid sleep 600 & sleep 600")
    instance = server.wait_for("runs", "running")
    pid = server.pid("runs")
    wait_until(lambda: len(server.processes(instance["id"])) >= 4, what="the user data's processes")
    server.kill()
    os.kill(pid, signal.SIGKILL)
    server.start()

    ended = server.wait_for("runs", "ended")
    assert ended["reason"] == "host failure"
    assert ended["ended_at_ms"] >= instance["running_at_ms"]
    assert server.processes(instance["id"]) == []


def test_what_a_killed_server_left_can_be_ended_without_serving(server: SandboxServer):
    server.launch("runs", "sleep 600")
    instance = server.wait_for("runs", "running")
    server.kill()
    assert server.processes(instance["id"])

    assert server.stop() == 0  # --end-all
    assert server.processes(instance["id"]) == []
    server.open()
    server.start()
    assert server.show("runs")["reason"] == "cloud switched off"


def test_scripted_faults_and_prices_survive_a_restart(server: SandboxServer):
    server.script("capacity", node_type="quick")
    server.script("price", node_type="quick", market="spot", per_hour="0.5 USD/h")
    before = server.get("/v1/faults"), server.get("/v1/offers"), server.get("/v1/prices")
    server.kill()
    server.start()

    assert (server.get("/v1/faults"), server.get("/v1/offers"), server.get("/v1/prices")) == before


@pytest.mark.parametrize("seed", range(2))
def test_killed_at_any_moment_of_launching_each_machine_runs_exactly_once(server: SandboxServer, seed: int):
    chance = random.Random(seed)
    accepted: list[str] = []
    for number in range(3):
        killer = threading.Timer(chance.uniform(0.0, 0.2), server.kill)
        killer.start()
        try:
            for repeat in range(3):
                server.launch(token := f"t-{number}-{repeat}", "echo ran; sleep 600")
                accepted.append(token)
        except httpx.TransportError:
            pass  # no answer: it may or may not have been made
        killer.join()
        server.start()

    for token in accepted:
        server.wait_for(token, "running")
    instances = server.get("/v1/instances")["instances"]
    assert len({instance["token"] for instance in instances}) == len(instances)
    for instance in instances:
        token = instance["token"]
        wait_until(lambda token=token: server.console(token) != "", what=f"the user data of {token}")
        assert server.console(token) == "ran\n"
        machines = [pid for pid in server.processes(instance["id"]) if b"machine.py" in cmdline(pid)]
        assert machines == [server.pid(token)]
    assert len(server.get("/bill")["lines"]) == len(instances)


def test_an_end_asked_for_while_the_server_starts_is_an_end(server: SandboxServer):
    server.launch("runs", "sleep 600")
    instance = server.wait_for("runs", "running")
    server.kill()
    starting = subprocess.Popen(server.command(), stderr=subprocess.PIPE, text=True)
    wait_until(lambda: (server.state / "server.lock").read_text() == f"{starting.pid}\n", what="its lock")
    starting.terminate()

    with starting:
        assert starting.wait(30) == 0
    assert server.processes(instance["id"]) == []
    server.start()
    assert server.show("runs")["reason"] == "cloud switched off"
