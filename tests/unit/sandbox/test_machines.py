"""A machine is real: it runs its user data in a bare environment, and when it ends nothing of it is left."""

from __future__ import annotations

import os
import signal

import pytest

from autoscaler.sandbox.machine import descendants, start_identity
from tests.conftest import wait_until
from tests.sandboxes import SandboxServer

# A process that left its session, was orphaned twice and will not listen.
HIDES = """
(setsid sh -c 'trap "" TERM; (setsid sh -c "trap \\"\\" TERM HUP; echo hidden; sleep 601" &) ; sleep 602' &)
while [ ! -e never ]; do sleep 0.1; done
"""


def test_no_process_is_left_after_the_end_even_when_the_user_data_double_forks(shared: SandboxServer):
    shared.launch("hides", HIDES)
    instance = shared.wait_for("hides", "running")
    wait_until(lambda: shared.console("hides") == "hidden\n", what="the hidden process")
    wait_until(lambda: len(shared.processes(instance["id"])) >= 5, what="all its processes")
    machine = shared.pid("hides")
    below = set(descendants(machine))
    assert len(below) >= 4, "the machine adopts what was orphaned"

    shared.terminate("hides")
    assert shared.processes(instance["id"]) == []
    assert [pid for pid in {machine, *below} if start_identity(pid)] == []


def test_a_machine_whose_user_data_ends_is_powered_off_with_everything_on_it(shared: SandboxServer):
    shared.launch("short", "setsid sleep 600 & exit 3")
    instance = shared.wait_for("short", "ended")

    assert instance["reason"] == "powered off"
    assert shared.processes(instance["id"]) == []


@pytest.mark.parametrize("command", ["shutdown -h now", "poweroff", 'sh -c "$FABRIC_END_COMMAND"'])
def test_a_machine_can_power_itself_off(shared: SandboxServer, command: str):
    shared.launch("self", f"sleep 600 & {command}; sleep 600")
    instance = shared.wait_for("self", "ended")

    assert instance["reason"] == "powered off"
    assert shared.processes(instance["id"]) == []


def test_user_data_is_asked_to_end_and_has_a_moment_for_it(shared: SandboxServer):
    shared.launch("polite", "trap 'echo bye; exit 0' TERM; echo up; while true; do sleep 0.1; done")
    wait_until(lambda: shared.console("polite") == "up\n", what="the user data")
    shared.terminate("polite")

    assert shared.console("polite").endswith("bye\n")


def test_the_environment_is_the_machines_own_and_holds_no_secret_of_the_servers(
    server: SandboxServer, monkeypatch: pytest.MonkeyPatch
):
    server.kill()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of-the-server")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "of-the-server")
    server.start()
    server.launch("env", "env; pwd; umask; command -v python; command -v shutdown")
    instance = server.wait_for("env", "ended")
    console = server.console("env")
    home = str(server.state / "machines" / instance["id"])

    assert "of-the-server" not in console
    for line in (
        f"FABRIC_METADATA_URL={server.url}/metadata/{instance['id']}",
        "FABRIC_NODE_ADDRESS=127.0.0.1",
        f"FABRIC_WORK_DIR={home}/work",
        f"{home}/work",
        f"{home}/bin/shutdown",
    ):
        assert line in console.splitlines()


def test_a_crash_ends_everything_at_once_and_says_so(shared: SandboxServer):
    shared.launch("unlucky", "setsid sleep 600 & sleep 600")
    instance = shared.wait_for("unlucky", "running")
    shared.script("crash", instance="unlucky")

    assert shared.wait_for("unlucky", "ended")["reason"] == "host failure"
    assert shared.processes(instance["id"]) == []


def test_a_stopped_machine_is_ended_all_the_same(shared: SandboxServer):
    shared.launch("frozen", "sleep 600")
    instance = shared.wait_for("frozen", "running")
    os.kill(shared.pid("frozen"), signal.SIGSTOP)
    shared.http.delete(f"/v1/instances/{instance['id']}")

    assert shared.wait_for("frozen", "ended", timeout=30)["reason"] == "user"
    assert shared.processes(instance["id"]) == []


def test_the_files_of_a_machine_are_its_owners_and_its_work_is_gone_after_the_end(shared: SandboxServer):
    shared.launch("tidy", "echo data > file; sleep 600")
    home = shared.state / "machines" / shared.wait_for("tidy", "running")["id"]
    wait_until((home / "work" / "file").exists, what="the user data's file")
    assert home.stat().st_mode & 0o077 == 0
    assert (home / "user-data").stat().st_mode & 0o077 == 0

    shared.terminate("tidy")
    assert not (home / "work").exists()
    assert not (home / "user-data").exists(), "it held a ticket"


def test_machines_of_two_clouds_never_meet_even_with_the_same_tokens(shared: SandboxServer, server: SandboxServer):
    here, there = shared.launch("same", "sleep 600"), server.launch("same", "sleep 600")
    shared.wait_for("same", "running")
    server.wait_for("same", "running")
    assert here["id"] != there["id"]

    shared.terminate("same")
    assert server.show("same")["state"] == "running"
    assert server.processes(there["id"])
