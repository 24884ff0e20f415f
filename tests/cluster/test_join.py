"""Real machines join a real Ray head through a real gateway: boot script, agent, raylet, lease, spot notice."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import pytest

from autoscaler.boot.script import BootSpec, render
from autoscaler.boot.trust import Ticket, cluster_token_file, new_ticket
from fabric.gateway.onprem import issue_onprem_ticket
from fabric.journal.base import Draft
from fabric.journal.sqlite import SqliteJournal
from fabric.model.events import Event
from tests.conftest import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
LEASE_S = 6.0
PROBE = """
import json, sys, ray
from ray.autoscaler.v2.sdk import get_cluster_status
address = sys.argv[1]
ray.init(address=address, log_to_driver=False, logging_level="error")

@ray.remote(num_cpus=1, max_retries=1)
def where(avoid):
    import time
    node = ray.get_runtime_context().get_node_id()
    while node == avoid:
        time.sleep(0.1)
    return node

def nodes():
    labels = {node["NodeID"]: node for node in ray.nodes()}
    status = get_cluster_status(address)
    return [
        {"instance": node.instance_id, "type": node.ray_node_type_name, "id": node.node_id,
         "labels": labels[node.node_id]["Labels"], "resources": labels[node.node_id]["Resources"]}
        for node in [*status.active_nodes, *status.idle_nodes]
    ]

tasks = {}
for line in sys.stdin:
    verb, _, argument = line.strip().partition(" ")
    if verb == "nodes":
        answer = nodes()
    elif verb == "submit":
        tasks[argument] = where.remote(argument)
        answer = None
    elif verb == "result":
        ready, _ = ray.wait([tasks[argument]], timeout=0.1)
        answer = ray.get(ready[0]) if ready else None
    print("ANSWER", json.dumps(answer), flush=True)
"""


class Cluster:
    """A head, a gateway, and a controller that is nothing but a heart one can stop."""

    def __init__(self, folder: Path, ports: Callable[[], int]) -> None:
        self.folder = folder
        self.alive = threading.Event()
        self.alive.set()
        self.notices: dict[str, float] = {}
        self._web = _serve(self._answer)
        self.web = f"127.0.0.1:{self._web.server_port}"
        self.ray = f"127.0.0.1:{ports()}"
        self.gateway = f"127.0.0.1:{ports()}"
        self.machines: list[Machine] = []
        self.probe: subprocess.Popen[str] | None = None
        self.token_file = cluster_token_file(folder / "state")
        self.journal = SqliteJournal(folder / "state" / "journal.db", "test")
        (folder / "fabric.yaml").write_text(
            f"listen: {{gateway: '{self.gateway}', controller: '{self.web}'}}\n"
            f"ray: {{address: 127.0.0.1, port: {self.ray.rpartition(':')[2]}}}\n"
            "defaults: {data_class: open}\ndata_classes: {open: {sites: any}}\n"
            "sites:\n"
            "  home: {kind: onprem, node_types: {box: {nodes: [one], cpus: 1}}}\n"
            "  sky: {kind: sandbox, node_types: {box: {cpus: 1, max: 9, price: {on-demand: 1 USD/h}}}}\n"
            f"burst: {{lease: {LEASE_S:.0f}s, baseline: [{{gpus: 1, for: 0s}}]}}\n"
        )
        self.environ = {
            "PATH": f"{BIN}:/usr/bin:/bin",
            "HOME": os.environ.get("HOME", "/"),
            "PYTHONPATH": str(ROOT),
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        auth = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.token_file)}
        identity = {
            "RAY_enable_autoscaler_v2": "1",
            "RAY_CLOUD_INSTANCE_ID": "head",
            "RAY_NODE_TYPE_NAME": "head",
        }
        head = [str(BIN / "ray"), "start", "--head", "--no-monitor", "--block", "--num-cpus=0", "--num-gpus=0"]
        head += [f"--port={self.ray.rpartition(':')[2]}", "--node-ip-address=127.0.0.1"]
        head += ["--include-dashboard=false", "--object-store-memory=80000000"]
        self._processes = [
            self._start("head", head, auth | identity),
            self._start(
                "gateway", [sys.executable, "-m", "fabric.gateway.main", "--config", str(folder / "fabric.yaml")]
            ),
        ]
        self._auth = auth

    def begin(self) -> None:
        """Wait for the head and connect a driver to it."""
        head_log = self.folder / "head.log"
        wait_until(lambda: "Ray runtime started" in head_log.read_text(), timeout=60, what="the head's start")
        with (self.folder / "probe.log").open("wb") as log:
            self.probe = subprocess.Popen(
                [sys.executable, "-c", PROBE, self.ray],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=self.environ | self._auth,
            )

    def ask(self, question: str) -> Any:
        assert self.probe is not None and self.probe.stdin is not None and self.probe.stdout is not None
        self.probe.stdin.write(question + "\n")
        self.probe.stdin.flush()
        for line in self.probe.stdout:
            if line.startswith("ANSWER "):
                return json.loads(line.removeprefix("ANSWER "))
        raise AssertionError((self.folder / "probe.log").read_text())

    def node(self, token: str) -> dict[str, Any] | None:
        return next((node for node in self.ask("nodes") if node["instance"] == token), None)

    def machine(self, name: str, rented: bool = True) -> Machine:
        folder = self.folder / name
        folder.mkdir()
        token, ticket = self._intend(name) if rented else self._issue(name)
        site = "sky" if rented else "home"
        spec = BootSpec(
            token=token,
            site=site,
            node_type=f"{site}.box",
            ticket=ticket.text,
            gateway=f"http://{self.gateway}",
            python=".".join(platform.python_version_tuple()[:2]),
            ray=version("ray"),
            resources={"CPU": 1, "GPU": 2, "room": 3},
            labels={"fabric/node-type": f"{site}.box"},
            lease_s=LEASE_S,
            boot_deadline_s=60,
            metadata_url=f"http://{self.web}/{name}",
            end_command=f"touch {folder / 'ended'}" if rented else "",
            work_dir=str(folder / "work"),
            node_address="127.0.0.1",
            object_store_bytes=80_000_000,
        )
        machine = Machine(folder, token, render(spec), self.environ)
        self.machines.append(machine)
        return machine

    def _issue(self, name: str) -> tuple[str, Ticket]:
        return issue_onprem_ticket(self.journal, site="home", node_type="home.box", node=name, clock=time.time)

    def _intend(self, name: str) -> tuple[str, Ticket]:
        """What the controller writes before it asks a cloud for a machine."""
        token, ticket = f"fab-{name}", new_ticket()
        intent = {
            "token": token,
            "site": "sky",
            "node_type": "sky.box",
            "market": "spot",
            "per_hour": 1_000_000,
            "ticket_sha256": ticket.sha256,
            "ticket_expires_at": time.time() + 60,
            "labels": {"fabric/site": "sky"},
        }
        self.journal.append([Draft(Event.LAUNCH_INTENDED, intent)])
        return token, ticket

    def close(self) -> None:
        for machine in self.machines:
            machine.kill()
        if self.probe is not None:
            self.probe.kill()
            self.probe.communicate()
        for process in reversed(self._processes):
            process.send_signal(signal.SIGTERM)
        for process in self._processes:
            _end_tree(process)
        self._web.shutdown()
        self._web.server_close()
        self.journal.close()

    def _start(self, name: str, command: list[str], extra: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("wb") as log:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environ | (extra or {})
            )

    def _answer(self, path: str) -> dict[str, float] | None:
        if path == "/healthz":
            return {"last_tick": time.time()} if self.alive.is_set() else None
        at = self.notices.get(path.removeprefix("/").removesuffix("/spot"))
        return None if at is None else {"reclaim_at": at}


class Machine:
    """A machine is a boot script in a session of its own."""

    def __init__(self, folder: Path, token: str, script: str, environ: dict[str, str]) -> None:
        self.folder = folder
        self.token = token
        # What Ray leaves of a machine that is killed: the short directory the agent takes when it is told none.
        self._session_root = Path(f"/tmp/fabric-{hashlib.sha256(token.encode()).hexdigest()[:10]}")
        self._script = folder / "boot.sh"
        self._script.write_text(script)
        self._environ = environ
        self.boot()

    def boot(self) -> None:
        with (self.folder / "console.log").open("ab") as log:
            self.process = subprocess.Popen(
                ["/bin/sh", str(self._script)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environ,
                start_new_session=True,
            )

    def console(self) -> str:
        return (self.folder / "console.log").read_text()

    def ended(self) -> bool:
        return self.process.poll() is not None and (self.folder / "ended").exists()

    def processes(self) -> list[psutil.Process]:
        """Every Ray process that carries this machine's identity."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("RAY_CLOUD_INSTANCE_ID") == self.token:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def raylet(self) -> psutil.Process:
        return next(process for process in self.processes() if process.name() == "raylet")

    def kill(self) -> None:
        """What the cloud does when it takes the machine: everything is gone at once."""
        everything = self.processes()
        if self.process.poll() is None:
            tree = psutil.Process(self.process.pid)
            everything += [tree, *tree.children(recursive=True)]
        for process in everything:
            _kill(process)
        self.process.wait(timeout=10)
        psutil.wait_procs(everything, timeout=5)
        shutil.rmtree(self._session_root, ignore_errors=True)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    def ports() -> int:
        with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as probe:
            return probe.server_port

    cluster = Cluster(tmp_path_factory.mktemp("fabric"), ports)
    try:
        cluster.begin()
        yield cluster
    finally:
        cluster.close()


def test_a_node_joins_with_identity_and_labels_and_gives_its_work_away_on_a_spot_notice(cluster: Cluster) -> None:
    doomed = cluster.machine("doomed")
    node = wait_until(lambda: cluster.node(doomed.token), timeout=40, what="the join")
    assert isinstance(node, dict)
    assert node["type"] == "sky.box"
    assert node["labels"]["fabric/site"] == "sky"
    assert node["labels"]["fabric/node-type"] == "sky.box"
    assert {name: node["resources"][name] for name in ("CPU", "GPU", "room")} == {"CPU": 1, "GPU": 2, "room": 3}
    for process in psutil.process_iter():
        assert cluster.token_file.read_text() not in _command(process)
    assert "FABRIC_TICKET" not in doomed.raylet().environ()

    cluster.ask(f"submit {node['id']}")
    reclaim_at = time.time() + 10
    cluster.notices["doomed"] = reclaim_at
    other = cluster.machine("other")
    wait_until(lambda: "Ray moves the work of this node away" in doomed.console(), what="the drain")
    wait_until(lambda: time.time() > reclaim_at, what="the reclaim")
    doomed.kill()
    result = wait_until(lambda: cluster.ask(f"result {node['id']}"), timeout=30, what="the retry on another node")
    wait_until(lambda: "the raylet is up" in other.console(), what="the agent seeing its raylet")
    joined = cluster.node(other.token)
    assert joined is not None and result == joined["id"]
    noticed = [entry for entry in cluster.journal.read() if entry.kind == Event.SPOT_NOTICE]
    assert [(entry.data["token"], entry.data["reclaim_at"]) for entry in noticed] == [(doomed.token, reclaim_at)]

    other.raylet().kill()
    wait_until(other.ended, what="the end of the machine whose raylet died")
    assert other.process.returncode == 24
    wait_until(lambda: not other.processes(), what="the end of every Ray process of that machine")


def test_without_a_controller_a_rented_machine_ends_with_its_lease_and_an_owned_one_stays(cluster: Cluster) -> None:
    owned, rented = cluster.machine("owned", rented=False), cluster.machine("rented")
    first = wait_until(lambda: cluster.node(owned.token), timeout=40, what="the owned machine's join")
    wait_until(lambda: cluster.node(rented.token), timeout=40, what="the rented machine's join")
    cluster.alive.clear()
    heard = time.monotonic()
    try:
        wait_until(rented.ended, timeout=LEASE_S + 10, what="the end of the rented machine")
    finally:
        cluster.alive.set()
    assert time.monotonic() - heard > LEASE_S / 2
    assert rented.process.returncode == 22
    assert not rented.processes()

    # The agent of the owned machine is killed; its supervisor starts it again.
    old = owned.raylet()
    _kill(psutil.Process(owned.process.pid))
    owned.process.wait(timeout=10)
    assert old.is_running()
    owned.boot()

    def back() -> object:
        node = cluster.node(owned.token)
        return node is not None and isinstance(first, dict) and node["id"] != first["id"]

    wait_until(back, timeout=40, what="the second join")
    assert not old.is_running()
    joins = [e for e in cluster.journal.read() if e.kind == Event.NODE_JOINED and e.data["token"] == owned.token]
    assert ["ticket_sha256" in entry.data for entry in joins] == [True, False]

    owned.process.send_signal(signal.SIGTERM)
    assert owned.process.wait(timeout=20) == 0
    wait_until(lambda: not owned.processes(), what="the end of every Ray process of that machine")


def _serve(answer: Callable[[str], dict[str, float] | None]) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = answer(self.path)
            self.send_response(404 if body is None else 200)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def _end_tree(process: subprocess.Popen[bytes]) -> None:
    tree = []
    if process.poll() is None:
        tree = psutil.Process(process.pid).children(recursive=True)
    try:
        process.wait(timeout=15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    _, left = psutil.wait_procs(tree, timeout=5)
    for child in left:
        _kill(child)


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.Error:
        return


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
