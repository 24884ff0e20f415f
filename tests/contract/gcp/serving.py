"""The test server as a process of its own, the site that points to it, and a service account it knows."""

from __future__ import annotations

import json
import signal
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from autoscaler.providers.gcp import GcpProvider
from fabric.config.load import load
from fabric.config.schema import Config
from fabric.config.sites import GcpSite
from tests.conftest import wait_until
from tests.contract.gcp.catalog import PROJECT, REGION, ZONES
from tests.sandboxes import unused_port

ROOT = Path(__file__).resolve().parents[3]
SITE = "gcp-ams"
YAML = """
sites:
  home:
    kind: onprem
    node_types: {{box: {{nodes: [n1], cpus: 1}}}}
  {site}:
    kind: gcp
    region: {region}
    project: {project}
    image: {image}
{more}
    node_types:
      l4x1: {{instance_type: g2-standard-4, gpus: 1, gpu: L4, cpus: 4, market: [spot, on-demand], zones: [{zone}],
              max: 200, price: {{spot: 0.28 USD/h, on-demand: 0.71 USD/h}}}}
      t4x2: {{instance_type: n1-standard-4, accelerator: nvidia-tesla-t4, accelerators: 2, gpus: 2, gpu: T4, cpus: 4,
              zones: [{zone}, {other}], max: 4, price: {{on-demand: 0.94 USD/h}}}}
      small: {{instance_type: e2-standard-2, gpus: 0, cpus: 2, zones: [{zone}], max: 100,
              price: {{on-demand: 0.07 USD/h}}}}
burst:
  baseline: [{{gpus: 1, for: 1s}}]
"""


def site(more: dict[str, Any], image: str = "ubuntu") -> GcpSite:
    """The site as ``fabric.yaml`` has it, with more keys; JSON is YAML."""
    lines = "\n".join(f"    {key}: {json.dumps(value)}" for key, value in more.items())
    text = YAML.format(
        site=SITE, region=REGION, project=PROJECT, image=image, zone=ZONES[0], other=ZONES[1], more=lines
    )
    config = load(text, "fabric.yaml")
    assert isinstance(config, Config), str(config)
    found = config.sites[SITE]
    assert isinstance(found, GcpSite)
    return found


class GcpServer:
    """One test server.

    Args:
        folder: for its state and its log.
        options: more of its command line.
        scheme: of its address.
        ca: what signs it; None: nothing of our own.
    """

    def __init__(self, folder: Path, *options: str, scheme: str = "http", ca: Path | None = None) -> None:
        self.folder = folder
        self.port = unused_port()
        self.url = f"{scheme}://127.0.0.1:{self.port}"
        self.account = service_account(folder, self.url)
        self._options = ["--accounts", str(folder / "account.pub"), *options]
        self._process: subprocess.Popen[bytes] | None = None
        trusted = True if ca is None else ssl.create_default_context(cafile=str(ca))
        self._http = httpx.Client(base_url=self.url, timeout=10, trust_env=False, verify=trusted)

    def start(self) -> GcpServer:
        """Start it, with what an earlier one left in its file."""
        command = [sys.executable, "-m", "tests.contract.gcp.server", "--port", str(self.port)]
        command += ["--state", str(self.folder / "state.json"), *self._options]
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        wait_until(self._answers, what=f"the test server (see {self.folder / 'server.log'})")
        return self

    def kill(self) -> None:
        """``kill -9``."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        """End it; it has nothing to complain of."""
        complaints = self.ask("complaints")
        self.kill()
        self._http.close()
        assert not complaints, complaints

    def ask(self, what: str, **body: Any) -> Any:
        """One of the server's ``/control`` calls."""
        return self._http.post(f"/control/{what}", json=body).raise_for_status().json()

    def fault(self, kind: str, **more: Any) -> None:
        """Something goes wrong from now on."""
        self.ask("fault", kind=kind, **more)

    def calls(self, method: str) -> list[dict[str, Any]]:
        """Every call of a method so far, as it came."""
        return [call for call in self.ask("calls") if call["method"] == method]

    def site(self, image: str = "ubuntu", **more: Any) -> GcpSite:
        """A site that points to this server, and signs in with a service account of its own."""
        return site({"endpoint": self.url, "credentials": str(self.account), **more}, image)

    def provider(self, owner: str, **more: Any) -> GcpProvider:
        """A provider for this server."""
        return GcpProvider(SITE, more.pop("site", None) or self.site(), owner, **more)

    def _answers(self) -> bool:
        assert self._process is not None and self._process.poll() is None, (self.folder / "server.log").read_text()
        try:
            return self._http.post("/control/complaints").is_success
        except httpx.TransportError:
            return False


def service_account(folder: Path, url: str) -> Path:
    """A service account's key in Google's own format, whose tokens come from ``url``."""
    # A small key: it is checked anew by every provider that a test makes.
    key = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    (folder / "account.pub").write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM, form))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = folder / "account.json"
    file.write_text(
        json.dumps(
            {
                "type": "service_account",
                "project_id": PROJECT,
                "private_key_id": "1",
                "private_key": private.decode(),
                "client_email": f"fabric@{PROJECT}.iam.gserviceaccount.com",
                "client_id": "1",
                "token_uri": f"{url}/token",
            }
        )
    )
    return file
