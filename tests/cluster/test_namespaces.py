"""With root and namespaces, every sandbox instance is a machine with an address of its own in one Ray cluster."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from autoscaler.sandbox.machine import descendants, start_identity
from tests.conftest import wait_until
from tests.sandboxes import SandboxServer, unused_port

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
    pytest.mark.skipif(shutil.which("ip") is None, reason="network namespaces need the command `ip` (iproute2)"),
]

BIN = Path(sys.executable).parent


def interfaces() -> set[str]:
    return {link["ifname"] for link in json.loads(subprocess.check_output(["ip", "-json", "link"]))}


def namespaces() -> set[str]:
    directory = Path("/run/netns")
    return {path.name for path in directory.iterdir()} if directory.is_dir() else set()


@pytest.fixture
def subnet() -> str:
    """A subnet no interface of this host has."""
    return f"10.{200 + secrets.randbelow(50)}.{secrets.randbelow(250)}.0/24"


@pytest.fixture
def server(tmp_path: Path, subnet: str) -> Iterator[SandboxServer]:
    """A sandbox whose machines have namespaces; afterwards this host is as it was."""
    before = interfaces(), namespaces()
    server = SandboxServer(tmp_path, unused_port(), subnet).start()
    yield server
    assert server.stop() == 0
    assert server.processes() == []
    assert (interfaces(), namespaces()) == before


def test_a_machine_has_its_own_address_and_sees_only_itself(server: SandboxServer, subnet: str):
    look = (
        "hostname; hostname -I; ls /tmp /dev/shm; ls -d /proc/[0-9]* | wc -l; echo mine > /tmp/file;"
        ' python -c \'import os, urllib.request as r; u = os.environ["FABRIC_METADATA_URL"];'
        ' print(r.urlopen(u).status, flush=True); r.urlopen(u.replace("/metadata/", "/bill?owner="))\' 2>&1 | tail -1;'
        " python -c 'import socket; socket.create_connection((\"192.0.2.1\", 80), 3)' 2>&1 | tail -1;"
        " echo looked; sleep 600"
    )
    first, second = server.launch("one", look), server.launch("two", look)
    wait_until(lambda: all(server.console(token).endswith("looked\n") for token in ("one", "two")), what="both looks")

    assert {first["address"], second["address"]} == {subnet.replace(".0/", f".{n}/")[:-3] for n in (2, 3)}
    for view in (first, second):
        console = server.console(view["token"])
        assert console.splitlines()[0] == view["id"]
        assert view["address"] in console
        assert "mine" not in console, "the other machine's /tmp is not this one's"
        assert "HTTP Error 400" in console, "from a machine only its metadata is answered"
        assert "unreachable" in console, "there is no way out of the subnet"

    server.terminate("one")
    assert server.launch("three", "sleep 600")["address"] == first["address"], "an address is given again"


def test_no_process_survives_in_a_namespace(server: SandboxServer):
    server.launch("hides", "(setsid sh -c 'trap \"\" TERM; (setsid sleep 601 &); sleep 602' &); sleep 603")
    instance = server.wait_for("hides", "running")
    wait_until(lambda: len(server.processes(instance["id"])) >= 5, what="all its processes")
    below = descendants(server.pid("hides"))

    server.terminate("hides")
    assert [pid for pid in below if start_identity(pid)] == []
    assert server.processes(instance["id"]) == []


def test_a_killed_servers_network_is_taken_over_or_cleaned(server: SandboxServer):
    lives, dies = server.launch("lives", "sleep 600"), server.launch("dies", "sleep 600")
    server.wait_for("lives", "running")
    server.wait_for("dies", "running")
    both = namespaces()
    pid = server.pid("dies")
    server.kill()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not start_identity(pid), what="the machine's end")
    server.start()

    assert server.wait_for("dies", "ended")["reason"] == "host failure"
    assert server.show("lives")["state"] == "running"
    assert server.processes(lives["id"])
    assert server.processes(dies["id"]) == []
    assert len(both - namespaces()) == 1
    server.terminate("lives")


@pytest.mark.usefixtures("server")
def test_a_subnet_in_use_is_refused_with_the_interface_that_has_it(tmp_path: Path, subnet: str):
    (tmp_path / "other").mkdir()
    other = SandboxServer(tmp_path / "other", unused_port(), subnet)
    other.http.close()
    done = subprocess.run(other.command(), capture_output=True, text=True, timeout=30, check=False)

    assert done.returncode == 2
    assert "is in use by the interface fsb-" in done.stderr


@pytest.mark.cluster
def test_instances_join_a_ray_head_on_the_bridge_and_run_tasks(server: SandboxServer, tmp_path: Path, subnet: str):
    head_address = subnet.replace(".0/24", ".1")
    gcs = unused_port()
    with RayHead(head_address, gcs, tmp_path) as head:
        join = (
            f"exec ray start --block --address={head_address}:{gcs} --node-ip-address=$FABRIC_NODE_ADDRESS"
            " --num-cpus=1 --resources='{\"burst\": 1}' --object-store-memory=80000000 --disable-usage-stats"
        )
        launched = [server.launch(token, join) for token in ("one", "two")]
        ran_on = head.run(TASKS)

        assert sorted(ran_on) == sorted(view["address"] for view in launched)
        for view in launched:
            below = descendants(server.pid(view["token"]))
            server.terminate(view["token"])
            assert [pid for pid in below if start_identity(pid)] == []


TASKS = """
import json, os, ray
ray.init(address=os.environ["HEAD"], logging_level="error", log_to_driver=False)
@ray.remote(num_cpus=0, resources={"burst": 1})
def where():
    import socket, time
    time.sleep(1)  # both nodes are needed at once
    return ray.util.get_node_ip_address()
print("RAN", json.dumps(ray.get([where.remote() for _ in range(2)], timeout=90)))
"""


class RayHead:
    """A Ray head on the bridge's address, ended with everything it started."""

    def __init__(self, address: str, port: int, directory: Path) -> None:
        self._address = f"{address}:{port}"
        self._directory = directory
        ports = f"--port={port} --ray-client-server-port={unused_port()} --dashboard-port={unused_port()}"
        self._command = (
            f"{BIN}/ray start --head --block --node-ip-address={address} {ports} --num-cpus=0 --include-dashboard=false"
            f" --object-store-memory=80000000 --disable-usage-stats --temp-dir=/tmp/ray-{secrets.token_hex(4)}"
        ).split()

    def __enter__(self) -> RayHead:
        with (self._directory / "head.log").open("wb") as log:
            environment = {**os.environ, "RAY_AUTH_MODE": "disabled"}
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, start_new_session=True, env=environment
            )
        self._temp_dir = Path(self._command[-1].partition("=")[2])
        wait_until(self._ready, 60, "the Ray head")
        return self

    def __exit__(self, *_: object) -> None:
        below = descendants(self._process.pid)
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        deadline = time.monotonic() + 10
        while left := [pid for pid in below if start_identity(pid)]:
            if time.monotonic() > deadline:
                for pid in left:
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
        shutil.rmtree(self._temp_dir, ignore_errors=True)

    def run(self, script: str) -> list[str]:
        """Run a driver and read the JSON after ``RAN``."""
        done = subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "HEAD": self._address},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr + (self._directory / "head.log").read_text()
        return json.loads(next(line for line in done.stdout.splitlines() if line.startswith("RAN"))[4:])

    def _ready(self) -> bool:
        log = (self._directory / "head.log").read_text()
        assert self._process.poll() is None, log
        return "Ray runtime started" in log
