"""The boot script: one POSIX sh program for every site, handed to the machine as user data.

It holds no secret but the one-time ticket. It finds a Python, says in a sentence what is wrong with it (and
tells the gateway, so that the sentence is in the journal), and starts the node agent with its settings in the
environment. Where the machine can be ended, it ends when the agent does, however the agent came to its end.

Exit codes (``EXIT_CODES``) are the agent's own, or those of the checks before it.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

USER_DATA_LIMIT = 16 * 1024

EXIT_CODES: Mapping[int, str] = {
    0: "the node was asked to stop and did",
    1: "the agent failed in a way it does not know; its log has the traceback",
    2: "a setting in the environment is missing or malformed",
    10: "no python3 was found",
    11: "Python has another minor version than the cluster",
    12: "Ray is not installed for that Python",
    13: "Ray has another version than the cluster",
    14: "the fabric package is not installed for that Python",
    20: "the gateway refused the join",
    21: "the boot deadline passed before the raylet was up",
    22: "the lease lapsed",
    23: "the gateway said that this machine has to end",
    24: "the raylet ended by itself",
    25: "the guard could not be put before the workers, so there is no raylet",
}

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*")


@dataclass(frozen=True, slots=True)
class BootSpec:
    """What one machine needs to know to become a node.

    Attributes:
        token: the launch token; Ray's cloud instance id as well.
        site, node_type: where and what it is; ``node_type`` is the Ray node type, ``<site>.<key>``.
        ticket: the one-time join ticket, the only secret in here.
        gateway: base URL of the gateway, ``http://127.0.0.1:8400`` or ``https://10.0.0.1:8400``.
        fingerprint: SHA-256 of the gateway's certificate in hex; ``""`` only with plain http on loopback.
        python: expected Python minor version, ``3.11``.
        ray: expected Ray version, ``2.60.0``.
        resources: what the node offers to Ray by name (``CPU``, ``GPU``, ``memory`` in bytes, custom ones).
        labels: Ray labels.
        lease_s: seconds the machine lives without hearing from the gateway.
        boot_deadline_s: seconds from the start of the script until the raylet must be up.
        metadata_url: what the machine can ask about itself; a spot notice appears at ``<metadata_url>/spot``.
            ``""`` for machines that are never reclaimed.
        end_command: shell command that ends the machine; ``""``: only stop its raylet (on-prem).
        work_dir: where the agent keeps its credential, nonce, token file and pid file.
        node_address: address the raylet binds to; ``""`` lets Ray find it.
        object_store_bytes: size of the object store; None lets Ray choose.
        temp_dir: root of Ray's session directory, this node's alone; ``""`` for a short one under ``/tmp``.
        interpreter: the Python to use; ``""`` looks in ``/opt/fabric/bin`` and on the path.

    What the machine's own environment says about itself wins over the spec: ``FABRIC_METADATA_URL``,
    ``FABRIC_END_COMMAND``, ``FABRIC_WORK_DIR``, ``FABRIC_NODE_ADDRESS``, ``FABRIC_TEMP_DIR`` and
    ``FABRIC_PYTHON``. The script is rendered before the machine exists; its image or provider may know better.
    """

    token: str
    site: str
    node_type: str
    ticket: str
    gateway: str
    python: str
    ray: str
    resources: Mapping[str, float]
    labels: Mapping[str, str] = field(default_factory=dict)
    fingerprint: str = ""
    lease_s: float = 900.0
    boot_deadline_s: float = 480.0
    metadata_url: str = ""
    end_command: str = ""
    work_dir: str = "/var/lib/fabric"
    node_address: str = ""
    object_store_bytes: int | None = None
    temp_dir: str = ""
    interpreter: str = ""

    def __post_init__(self) -> None:
        for name in ("token", "site", "node_type"):
            if not _NAME.fullmatch(getattr(self, name)):
                raise ValueError(f"{name} {getattr(self, name)!r} has characters that no name of ours has")
        if not self.gateway.startswith(("http://", "https://")):
            raise ValueError(f"gateway {self.gateway!r} is not an http or https URL")
        if self.gateway.startswith("https://") and not re.fullmatch(r"[0-9a-f]{64}", self.fingerprint):
            raise ValueError("an https gateway needs its certificate's SHA-256 fingerprint, 64 hex digits")
        if not re.fullmatch(r"\d+\.\d+", self.python):
            raise ValueError(f"python {self.python!r} is not a minor version such as 3.11")
        if self.lease_s <= 0 or self.boot_deadline_s <= 0:
            raise ValueError("lease and boot deadline must be longer than nothing")


def environment(spec: BootSpec) -> dict[str, str]:
    """The agent's settings as environment variables; the ticket is among them, so never log this."""
    return _told(spec) | _about_the_machine(spec)


def render(spec: BootSpec) -> str:
    """The boot script of one machine.

    Raises:
        ValueError: it would not fit into the 16 KiB that every cloud takes as user data.
    """
    told = "\n".join(f"export {name}={shlex.quote(value)}" for name, value in sorted(_told(spec).items()))
    machine = "\n".join(
        f'[ -n "${{{name}+set}}" ] || {name}={shlex.quote(value)}; export {name}'
        for name, value in sorted(_about_the_machine(spec).items())
    )
    text = Path(__file__).with_name("boot.sh").read_text(encoding="utf-8")
    preflight = Path(__file__).with_name("preflight.py").read_text(encoding="utf-8")
    text = text.replace("#@SETTINGS@", f"{told}\n{machine}").replace("#@PREFLIGHT@", preflight.rstrip())
    if len(text.encode()) > USER_DATA_LIMIT:
        raise ValueError(f"the boot script of {spec.token} is {len(text.encode())} bytes, the limit is 16384")
    return text


def _told(spec: BootSpec) -> dict[str, str]:
    return {
        "FABRIC_TOKEN": spec.token,
        "FABRIC_SITE": spec.site,
        "FABRIC_NODE_TYPE": spec.node_type,
        "FABRIC_TICKET": spec.ticket,
        "FABRIC_GATEWAY": spec.gateway,
        "FABRIC_GATEWAY_FINGERPRINT": spec.fingerprint,
        "FABRIC_PYTHON_VERSION": spec.python,
        "FABRIC_RAY_VERSION": spec.ray,
        "FABRIC_RESOURCES": json.dumps(dict(spec.resources), sort_keys=True),
        "FABRIC_LABELS": json.dumps(dict(spec.labels), sort_keys=True),
        "FABRIC_LEASE_S": f"{spec.lease_s:g}",
        "FABRIC_BOOT_DEADLINE_S": f"{spec.boot_deadline_s:g}",
        "FABRIC_OBJECT_STORE_BYTES": "" if spec.object_store_bytes is None else str(spec.object_store_bytes),
        "RAY_AUTH_MODE": "token",
    }


def _about_the_machine(spec: BootSpec) -> dict[str, str]:
    return {
        "FABRIC_METADATA_URL": spec.metadata_url,
        "FABRIC_END_COMMAND": spec.end_command,
        "FABRIC_WORK_DIR": spec.work_dir,
        "FABRIC_NODE_ADDRESS": spec.node_address,
        "FABRIC_TEMP_DIR": spec.temp_dir,
        "FABRIC_PYTHON": spec.interpreter,
    }
