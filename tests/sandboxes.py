"""A sandbox cloud for tests: a real server process of its own, and a hand on its faults, meter and life."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import httpx

from autoscaler.providers.sandbox import SandboxProvider
from autoscaler.sandbox.machine import MARK
from tests.conftest import wait_until

SITE = "sand"
CONFIG = """
listen: {{gateway: "{host}:8400"}}
ray: {{address: "{host}"}}
sites:
  home:
    kind: onprem
    node_types:
      box: {{nodes: [n1], cpus: 1}}
  sand:
    kind: sandbox
    endpoint: 127.0.0.1:{port}
    network: {network}
    node_types:
      quick: {{gpus: 1, cpus: 2, zones: [a, b], market: [on-demand, spot], boot: 0s, max: 100,
               price: {{on-demand: 3.61 USD/h, spot: 1.27 USD/h, minimum: 2s}}}}
      slow: {{cpus: 1, boot: 5m, max: 100, price: {{on-demand: 0.35 USD/h, minimum: 60s}}}}
burst:
  baseline: [{{gpus: 1, for: 1s}}]
"""


def unused_port() -> int:
    """A loopback port nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class SandboxServer:
    """One sandbox server, in namespaces if it has a subnet.

    ``stop`` switches the cloud off, ``kill`` is ``kill -9`` of the server alone.
    """

    def __init__(self, directory: Path, port: int, subnet: str = "") -> None:
        self.config = directory / "fabric.yaml"
        self.state = directory / "state" / "sandbox" / SITE
        self.url = f"http://127.0.0.1:{port}"
        self.log = directory / "server.log"
        self.open()
        self._process: subprocess.Popen[bytes] | None = None
        network = f"{{mode: namespaces, subnet: {subnet}}}" if subnet else "{mode: host}"
        host = str(IPv4Network(subnet)[1]) if subnet else "127.0.0.1"
        self.config.write_text(CONFIG.format(port=port, network=network, host=host))

    def open(self) -> None:
        """Open a connection, also again after ``stop``."""
        self.http = httpx.Client(base_url=self.url, timeout=10, trust_env=False)

    def command(self, *more: str) -> list[str]:
        """The command line of the server."""
        return [sys.executable, "-m", "autoscaler.sandbox.main", "--config", str(self.config), *more]

    def launch(self, token: str, user_data: str, node_type: str = "quick", **more: Any) -> dict[str, Any]:
        """Launch an instance; its view."""
        request = {"token": token, "node_type": node_type, "zone": "a", "market": "on-demand", **more}
        reply = self.http.post("/v1/instances", json={"user_data": user_data, **request})
        assert reply.status_code == 202, reply.text
        return reply.json()

    def show(self, token: str) -> dict[str, Any]:
        """An instance as the cloud shows it."""
        return self.get(f"/v1/instances/{token}")

    def wait_for(self, token: str, state: str, timeout: float = 20.0) -> dict[str, Any]:
        """The instance once it is in ``state``."""
        wait_until(lambda: self.show(token)["state"] == state, timeout, f"{token} {state}")
        return self.show(token)

    def terminate(self, token: str) -> dict[str, Any]:
        """End an instance and wait for it."""
        self.http.delete(f"/v1/instances/{self.show(token)['id']}")
        return self.wait_for(token, "ended")

    def processes(self, instance_id: str = "") -> list[int]:
        """Processes of one machine, or of all of this server's, by the mark in their environment."""
        wanted = f"{MARK}={instance_id}".encode()
        work = str(self.state).encode()
        found = []
        for environ in Path("/proc").glob("[0-9]*/environ"):
            try:
                content = environ.read_bytes()
                cwd = str((environ.parent / "cwd").readlink()).encode()
            except OSError:
                continue
            if wanted in content and (work in content or cwd.startswith(work)):
                found.append(int(environ.parent.name))
        return found

    def pid(self, token: str) -> int:
        """The process of a machine that runs or ran."""
        machine = self.state / "machines" / self.show(token)["id"] / "machine.json"
        return int(json.loads(machine.read_text())["pid"])

    def start(self) -> SandboxServer:
        """Start the server and wait until it answers."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self.command(), stdout=log, stderr=log)
        wait_until(self._answers, what=f"an answer of the sandbox server ({self.log})")
        return self

    def kill(self) -> None:
        """``kill -9``: the machines go on."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        """Switch the cloud off; the server's exit code."""
        self.http.close()
        if self._process is None or self._process.poll() is not None:
            return subprocess.run(self.command("--end-all"), check=False).returncode
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(timeout=30)

    def provider(self, owner: str, page_size: int = 200) -> SandboxProvider:
        """A client that sees what ``owner`` has."""
        return SandboxProvider(SITE, self.url, owner, node_types=("quick", "slow"), page_size=page_size)

    def script(self, kind: str, **fault: Any) -> dict[str, Any]:
        """Script a fault."""
        reply = self.http.post("/v1/faults", json={"kind": kind, **fault})
        assert reply.status_code == 201, reply.text
        return reply.json()

    def clear_faults(self) -> None:
        """Clear every fault."""
        assert self.http.delete("/v1/faults").status_code == 204

    def get(self, path: str) -> Any:
        """The JSON body at ``path``."""
        reply = self.http.get(path)
        assert reply.status_code == 200, reply.text
        return reply.json()

    def console(self, token: str) -> str:
        """What a machine's user data printed."""
        return self.http.get(f"/v1/instances/{token}/console").text

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log.read_text()
        try:
            return self.http.get("/healthz").status_code == 200
        except httpx.TransportError:
            return False
