"""The test server as a process of its own, the CA that signs it, and the site that points to it."""

from __future__ import annotations

import datetime
import ipaddress
import json
import signal
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from autoscaler.providers.azure import AzureProvider
from fabric.config.load import load
from fabric.config.schema import Config
from fabric.config.sites import AzureSite
from tests.conftest import wait_until
from tests.contract.azure.catalog import GROUP, REGION, SUBNET, SUBSCRIPTION
from tests.contract.azure.entra import CLIENT, TENANT
from tests.sandboxes import unused_port

ROOT = Path(__file__).resolve().parents[3]
SITE = "azure-ams"
SECRET = "not-a-secret"
YAML = """
sites:
  home:
    kind: onprem
    node_types: {{box: {{nodes: [n1], cpus: 1}}}}
  {site}:
    kind: azure
    region: {region}
    subscription: {subscription}
    resource_group: {group}
    image: {image}
{more}
    node_types:
      a100x1: {{instance_type: Standard_NC24ads_A100_v4, gpus: 1, gpu: A100-80GB, cpus: 24, zones: ["1", "2"],
                market: [spot, on-demand], max: 200, price: {{spot: 0.95 USD/h, on-demand: 3.67 USD/h}}}}
      t4x1: {{instance_type: Standard_NC8as_T4_v3, gpus: 1, gpu: T4, cpus: 8, zones: ["3"], max: 4,
              price: {{on-demand: 0.75 USD/h}}}}
      small: {{instance_type: Standard_D2s_v5, gpus: 0, cpus: 2, zones: ["1"], max: 100,
               price: {{on-demand: 0.09 USD/h}}}}
burst:
  baseline: [{{gpus: 1, for: 1s}}]
"""


def site(more: dict[str, Any], image: str = "ubuntu") -> AzureSite:
    """The site as ``fabric.yaml`` has it, with more keys; JSON is YAML."""
    more = {"network": {"subnet": SUBNET}, **more}
    lines = "\n".join(f"    {key}: {json.dumps(value)}" for key, value in more.items())
    where = {"subscription": SUBSCRIPTION, "group": GROUP, "region": REGION}
    config = load(YAML.format(site=SITE, image=image, more=lines, **where), "fabric.yaml")
    assert isinstance(config, Config), str(config)
    found = config.sites[SITE]
    assert isinstance(found, AzureSite)
    return found


class AzureServer:
    """One test server; ``folder`` is for its certificate, its state and its log."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = unused_port()
        self.url = f"https://127.0.0.1:{self.port}"
        self.ca, self._key = certificate(folder)
        self.credentials = folder / "credentials.json"
        self.credentials.write_text(json.dumps({"clientId": CLIENT, "tenantId": TENANT, "clientSecret": SECRET}))
        self._process: subprocess.Popen[bytes] | None = None
        trusted = ssl.create_default_context(cafile=str(self.ca))
        self._http = httpx.Client(base_url=self.url, timeout=10, trust_env=False, verify=trusted)

    def start(self) -> AzureServer:
        """Start it, with what an earlier one left in its file."""
        command = [sys.executable, "-m", "tests.contract.azure.server", "--port", str(self.port), "--secret", SECRET]
        command += ["--state", str(self.folder / "state.json"), "--cert", str(self.ca), "--key", str(self._key)]
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

    def calls(self, route: str) -> list[dict[str, Any]]:
        """Every call of a route so far, as it came."""
        return [call for call in self.ask("calls") if call["route"] == route]

    def site(self, image: str = "ubuntu", **more: Any) -> AzureSite:
        """A site that points to this server, and signs in with its service principal."""
        here = {"endpoint": self.url, "authority": self.url, "ca": str(self.ca), "credentials": str(self.credentials)}
        return site({**here, **more}, image)

    def provider(self, owner: str, **more: Any) -> AzureProvider:
        """A provider for this server."""
        return AzureProvider(SITE, more.pop("site", None) or self.site(), owner, **{"poll_every_s": 0.05, **more})

    def of_owner(self, owner: str) -> list[str]:
        """Everything that carries an owner's tag: machines, disks, interfaces, addresses."""
        state = self.ask("state")
        return [
            f"{kind} {key}"
            for kind in ("machines", "disks", "nics", "addresses")
            for key, one in state[kind].items()
            if one["tags"].get("fabric-owner") == owner
        ]

    def _answers(self) -> bool:
        assert self._process is not None and self._process.poll() is None, (self.folder / "server.log").read_text()
        try:
            return self._http.post("/control/complaints").is_success
        except httpx.TransportError:
            return False


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for loopback that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "azure on loopback")])
    now = datetime.datetime.now(datetime.UTC)
    loopback = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(loopback, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    cert, secret = folder / "ca.pem", folder / "key.pem"
    cert.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8
    secret.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    return cert, secret
