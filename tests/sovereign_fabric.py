"""A fabric with a kept burst machine and a team whose data stays home, and what that machine shows from outside."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import httpx
import psutil

from fabric.identity.issue import create_token
from fabric.journal.sqlite import SqliteJournal
from fabric.model.jobs import Role
from tests.conftest import wait_until
from tests.fabrics import Fabric

CANARY = "SOVEREIGN-CANARY"
CONFIG = """
fabric: {{name: test}}
defaults: {{data_class: open}}
data_classes: {{open: {{sites: any}}, patient: {{sites: [home]}}}}
teams: {{clinic: {{data_class: patient}}, vision: {{data_class: open}}}}
listen: {{gateway: "127.0.0.1:{gateway}", controller: "127.0.0.1:{controller}", reaper: "127.0.0.1:{reaper}"}}
ray: {{address: 127.0.0.1, port: {ray}, dashboard: "127.0.0.1:{dashboard}", temp_dir: {temp}, object_store: 80MB}}
sites:
  home: {{kind: onprem, node_types: {{box: {{nodes: [a], local: true, cpus: 16}}}}}}
  sky:
    kind: sandbox
    endpoint: 127.0.0.1:{sandbox}
    node_types:
      c1: {{cpus: 16, boot: 0s, min: 1, max: 1, market: [on-demand], price: {{on-demand: 1 USD/h, minimum: 2s}}}}
burst: {{baseline: [{{cpus: 64, for: 1h}}], lease: 60s, join_deadline: 120s, pending_idle: 120s, idle: 1h}}
"""
STORE = """
import json, sys, time, ray
from ray._private.internal_api import node_stats
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="error")
alive = lambda: {node["Labels"].get("fabric/site") for node in ray.nodes() if node["Alive"]}
for line in sys.stdin:
    while not {"home", "sky"} <= alive() or len([node for node in ray.nodes() if node["Alive"]]) < 3:
        time.sleep(0.1)
    node = next(node for node in ray.nodes() if node["Alive"] and node["Labels"].get("fabric/site") == "sky")
    stats = node_stats(node["NodeManagerAddress"], node["NodeManagerPort"], include_memory_info=False).store_stats
    print("STORE", json.dumps([stats.cumulative_created_bytes, stats.object_store_bytes_used, stats.num_local_objects,
          stats.cumulative_created_objects]), flush=True)
"""


class SovereignFabric(Fabric):
    """Starts with ``bring_up``; ``watch`` records every process that ever runs below the burst machine's raylet."""

    def __init__(self) -> None:
        super().__init__()
        self.path.write_text(CONFIG.format(temp=self.directory / "r", **self.ports))
        self.seen: dict[int, str] = {}
        self._tokens: dict[str, str] = {}
        self._stopped = threading.Event()
        self._store: subprocess.Popen[str] | None = None

    def bring_up(self) -> None:
        """Every process, until the machine in the cloud is a node."""
        self.start_head()
        # Every attack is to be tried within the test: a denied start holds its place for this long.
        self.start("sandbox", "gateway", "controller", RAY_worker_register_timeout_seconds="10")
        self.start_home()
        raylet = wait_until(self._raylet, 90, f"the burst raylet ({self.log('controller')})")
        assert isinstance(raylet, psutil.Process)
        self.raylet = raylet
        for team in ("clinic", "vision"):
            self.token(team)
        self.store()
        threading.Thread(target=self._watch, daemon=True).start()

    def token(self, team: str) -> str:
        """The token of somebody in ``team``."""
        if team not in self._tokens:
            self._tokens[team] = self._new_token(team)
        return self._tokens[team]

    def _new_token(self, team: str) -> str:
        journal = SqliteJournal(self.config.fabric.journal.removeprefix("sqlite:"), "test")
        try:
            return create_token(journal, f"u-{team}", team, frozenset({Role.USER}), None, "test")[1]
        finally:
            journal.close()

    def post(self, token: str, body: dict[str, Any], port: str = "gateway") -> httpx.Response:
        """Ray's own submit call."""
        url = f"http://127.0.0.1:{self.ports[port]}/api/jobs/"
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.post(url, json=body, headers=headers, trust_env=False, timeout=30)

    def job(self, token: str, job: str) -> dict[str, Any]:
        """What the gateway says of a job."""
        url = f"http://127.0.0.1:{self.ports['gateway']}/api/jobs/{job}"
        return httpx.get(url, headers={"Authorization": f"Bearer {token}"}, trust_env=False, timeout=30).json()

    def printed(self, token: str, job: str) -> str:
        """What a job printed."""
        url = f"http://127.0.0.1:{self.ports['gateway']}/api/jobs/{job}/logs"
        reply = httpx.get(url, headers={"Authorization": f"Bearer {token}"}, trust_env=False, timeout=30)
        return reply.json()["logs"]

    def store(self) -> list[int]:
        """The burst raylet's own count: bytes ever created, bytes in use, objects, objects ever created."""
        if self._store is None:
            self._store = subprocess.Popen(
                [sys.executable, "-c", STORE, self.ray_address],
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        assert self._store.stdin is not None and self._store.stdout is not None
        print("now", file=self._store.stdin, flush=True)
        line = next(line for line in self._store.stdout if line.startswith("STORE"))
        return json.loads(line[6:])

    def close(self) -> None:
        """End everything."""
        self._stopped.set()
        if self._store is not None and self._store.stdin is not None and self._store.stdout is not None:
            self._store.stdin.close()
            self._store.wait(20)
            self._store.stdout.close()
        super().close()

    def _raylet(self) -> psutil.Process | None:
        for process in psutil.process_iter():
            try:
                environment = Path(f"/proc/{process.pid}/environ").read_bytes()
                burst = b"RAY_CLOUD_INSTANCE_ID=fab-" in environment
                if process.name() == "raylet" and burst and f"{self.directory}/".encode() in environment:
                    return process
            except (OSError, psutil.Error):
                continue
        return None

    def _watch(self) -> None:
        """Every process below the raylet, with its command line and environment as the kernel has them."""
        while not self._stopped.wait(0.02):
            try:
                below = self.raylet.children(recursive=True)
            except psutil.Error:
                return
            for process in below:
                try:
                    content = Path(f"/proc/{process.pid}/cmdline").read_bytes()
                    content += b"\n" + Path(f"/proc/{process.pid}/environ").read_bytes()
                except OSError:
                    continue
                self.seen[process.pid] = content.replace(b"\0", b" ").decode(errors="replace")
