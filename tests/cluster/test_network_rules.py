"""What only the network can stop inside one Ray cluster, and that the rules we ship stop it; with real namespaces."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from autoscaler.sandbox.network import Namespaces
from tests.conftest import wait_until
from tests.sandboxes import unused_port

pytestmark = [
    pytest.mark.root,
    pytest.mark.cluster,
    pytest.mark.timeout(170),
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
    pytest.mark.skipif(shutil.which("ip") is None, reason="network namespaces need the command `ip` (iproute2)"),
]

RULES = Path(__file__).parents[2] / "configs" / "network"
BIN = Path(sys.executable).parent
MARK = "ELASTIC_TEST_NETWORK"
# The driver stands for an open job; what it is handed belongs to a job whose data stays home.
PROBE = """
import json, os, sys, ray
from ray._private.internal_api import node_stats
ray.init(address=os.environ["HEAD"], log_to_driver=False, logging_level="error")

@ray.remote(num_cpus=0, resources={"home": 0.01}, max_retries=0)
def secret(size):
    return b"s" * size

@ray.remote(num_cpus=0, resources={"burst": 0.01}, max_retries=0)
def take(data):
    return len(data)

@ray.remote(num_cpus=0, resources={"burst": 0.01})
class Actor:
    def take(self, data):
        return len(data)

@ray.remote(num_cpus=0, resources={"home": 0.01}, max_retries=0)
def call(actor, size):
    return ray.get(actor.take.remote(b"s" * size))

@ray.remote(num_cpus=0, resources={"burst": 0.01}, max_retries=0)
def fetch(refs):
    return len(ray.get(refs[0]))

def stored():
    node = next(node for node in ray.nodes() if node["Alive"] and "burst" in node["Resources"])
    return node_stats(node["NodeManagerAddress"], node["NodeManagerPort"]).store_stats.cumulative_created_bytes

actor = Actor.remote()
ray.get(actor.take.remote(b"1"))
BIG = 2_000_000
for line in sys.stdin:
    verb, patience = line.split()
    tries = {
        "ref": lambda: take.remote(secret.remote(BIG)),
        "ref in a list": lambda: fetch.remote([secret.remote(BIG)]),
        "actor, big": lambda: call.remote(actor, BIG),
        "actor, small": lambda: call.remote(actor, 10),
    }
    before = stored()
    made = {name: attack() for name, attack in tries.items()}
    ray.wait(list(made.values()), num_returns=len(made), timeout=float(patience))
    outcomes = {}
    for name, ref in made.items():
        try:
            outcomes[name] = ray.get(ref, timeout=0.1)
        except ray.exceptions.GetTimeoutError:
            outcomes[name] = "waits"
        except Exception as error:
            outcomes[name] = type(error).__name__
    print("ANSWER", json.dumps([outcomes, stored() - before]), flush=True)
    for ref in made.values():
        ray.cancel(ref, force=True, recursive=True)
"""


class Split:
    """A head on the bridge, a node at home and one in the cloud, each in a namespace of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.network = Namespaces(f"10.{200 + secrets.randbelow(50)}.{secrets.randbelow(250)}.0/24", str(folder))
        self.network.start()
        self.head = self.network.host_address
        self.home = self.network.pick_address([])
        self.burst = self.network.pick_address([self.home])
        self.spaces = {address: self.network.connect(address) for address in (self.home, self.burst)}
        self.gcs = unused_port()
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "FABRIC_"))},
            MARK: str(folder),
            "RAY_AUTH_MODE": "disabled",
            "RAY_USAGE_STATS_ENABLED": "0",
            "HEAD": f"{self.head}:{self.gcs}",
        }
        self.nodes: list[subprocess.Popen[bytes]] = []
        self.probe: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """All three nodes, and the driver on the head."""
        self._ray("head", [], f"--head --port={self.gcs} --ray-client-server-port={unused_port()}", self.head, {})
        wait_until(lambda: self._up("head"), 60, "the head")
        for name, address in (("home", self.home), ("burst", self.burst)):
            inside = ["ip", "netns", "exec", self.spaces[address]]
            self._ray(name, inside, f"--address={self.head}:{self.gcs}", address, {name: 1})
        wait_until(lambda: self._up("home") and self._up("burst"), 60, "both nodes")
        self.probe = subprocess.Popen(
            [sys.executable, "-c", PROBE],
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def try_everything(self, patience_s: float) -> tuple[dict[str, Any], int]:
        """What came of each attempt, and how many bytes the burst node's object store took in meanwhile."""
        assert self.probe is not None and self.probe.stdin is not None and self.probe.stdout is not None
        print("try", patience_s, file=self.probe.stdin, flush=True)
        outcomes, stored = json.loads(next(line for line in self.probe.stdout if line.startswith("ANSWER"))[7:])
        return outcomes, stored

    def at_home(self, *command: str) -> None:
        """Run something in the home node's namespace."""
        subprocess.run(["ip", "netns", "exec", self.spaces[self.home], *command], check=True, timeout=20)

    def close(self) -> None:
        """End everything and remove the network."""
        if self.probe is not None and self.probe.stdin is not None and self.probe.stdout is not None:
            self.probe.kill()
            self.probe.wait()
            self.probe.stdin.close()
            self.probe.stdout.close()
        for process in psutil.process_iter():
            try:
                if f"{MARK}={self.folder}".encode() in Path(f"/proc/{process.pid}/environ").read_bytes():
                    process.kill()
            except (OSError, psutil.Error):
                continue
        for node in self.nodes:
            node.wait(10)
        self.network.stop()

    def _ray(self, name: str, inside: list[str], where: str, address: str, resources: dict[str, int]) -> None:
        monitor = "--no-monitor --include-dashboard=false" if name == "head" else ""
        command = f"{BIN}/ray start --block {where} {monitor} --node-ip-address={address} --num-cpus=0 --num-gpus=0"
        command += f" --object-store-memory=80000000 --disable-usage-stats --temp-dir=/tmp/{self.folder.name}-{name}"
        with (self.folder / f"{name}.log").open("wb") as log:
            node = subprocess.Popen(
                [*inside, *command.split(), f"--resources={json.dumps(resources)}"],
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.nodes.append(node)

    def _up(self, name: str) -> bool:
        return "Ray runtime started" in (self.folder / f"{name}.log").read_text()


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Split]:
    split = Split(tmp_path_factory.mktemp("net"))
    try:
        split.start()
        yield split
    finally:
        split.close()
        for name in ("head", "home", "burst"):
            shutil.rmtree(f"/tmp/{split.folder.name}-{name}", ignore_errors=True)


def test_without_the_split_ray_hands_them_over(split: Split) -> None:
    """Why the rules are needed: this is what no label and no guard can see."""
    outcomes, stored = split.try_everything(40)
    assert outcomes == {"ref": 2_000_000, "ref in a list": 2_000_000, "actor, big": 2_000_000, "actor, small": 10}
    assert stored >= 4_000_000


@pytest.mark.parametrize("tool", ["ip", "nft"])
def test_objects_and_calls_of_home_do_not_reach_the_cloud_once_the_network_is_split(split: Split, tool: str) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"skipped: no command `{tool}`; install nftables")
    subnet = f"{split.burst}/32"
    if tool == "ip":
        split.at_home(str(RULES / "sovereign-node.sh"), subnet)
    else:
        rules = (RULES / "sovereign-node.nft").read_text().replace("10.88.0.0/24", subnet)
        (split.folder / "rules.nft").write_text(rules)
        split.at_home("nft", "-f", str(split.folder / "rules.nft"))

    outcomes, stored = split.try_everything(8)
    assert not [taken for taken in outcomes.values() if isinstance(taken, int)], outcomes
    # For what it could not fetch Ray itself puts a mark of some bytes there.
    assert stored < 100

    if tool == "ip":
        split.at_home(str(RULES / "sovereign-node.sh"), "--undo", subnet)
    else:
        split.at_home("nft", "delete", "table", "inet", "fabric_sovereign")


@pytest.mark.skipif(shutil.which("nft") is None, reason="skipped: no command `nft`; install nftables")
def test_burst_machines_reach_of_the_head_what_they_need_and_nothing_else(split: Split) -> None:
    rules = split.folder / "head.nft"
    rules.write_text((RULES / "head.nft").read_text().replace("10.88.0.0/24", f"{split.burst}/32"))
    listen = "import socket, time; s = [socket.create_server(('', p)) for p in (6379, 6380)]; print(1, flush=True); "
    connect = f"import socket, sys; socket.create_connection(('{split.home}', int(sys.argv[1])), 2)"
    server = subprocess.Popen(
        ["ip", "netns", "exec", split.spaces[split.home], sys.executable, "-c", f"{listen}time.sleep(60)"],
        stdout=subprocess.PIPE,
    )

    def answers(port: int) -> bool:
        inside = ["ip", "netns", "exec", split.spaces[split.burst], sys.executable, "-c", connect, str(port)]
        return subprocess.run(inside, capture_output=True, timeout=20, check=False).returncode == 0

    try:
        assert server.stdout is not None
        assert server.stdout.readline()
        assert (answers(6379), answers(6380)) == (True, True)
        split.at_home("nft", "-f", str(rules))
        assert (answers(6379), answers(6380)) == (True, False)
    finally:
        split.at_home("nft", "delete", "table", "inet", "fabric_head")
        server.kill()
        server.wait()
        if server.stdout is not None:
            server.stdout.close()
