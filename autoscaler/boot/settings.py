"""The agent's settings, as the boot script puts them into the environment."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# The last is the sandbox's mark, by which it ends a raylet whose machine was killed above it.
_SAID_TO_USERS = ("FABRIC_SITE", "FABRIC_NODE_TYPE", "FABRIC_TOKEN", "FABRIC_SANDBOX_INSTANCE")


class SettingsError(Exception):
    """A setting is missing or malformed; says which and what it should be."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the agent was told; see ``BootSpec`` for the meaning of each.

    ``ticket`` is ``""`` for an agent that is restarted with the credential of an earlier join.
    """

    token: str
    site: str
    node_type: str
    gateway: str
    work_dir: Path
    resources: Mapping[str, float]
    ticket: str = field(default="", repr=False)
    fingerprint: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    lease_s: float = 900.0
    boot_deadline_s: float = 480.0
    metadata_url: str = ""
    end_command: str = ""
    node_address: str = ""
    object_store_bytes: int | None = None
    temp_dir: str = ""

    @property
    def session_root(self) -> Path:
        """Ray's directory for this node alone, short because sockets live in it.

        Raylets that start on one machine at the same moment must not share one: they would bind the same sockets.
        """
        name = hashlib.sha256(self.token.encode()).hexdigest()[:10]
        return Path(self.temp_dir or f"/tmp/fabric-{name}")  # noqa: S108 - made private by the agent

    @property
    def guard_socket(self) -> Path:
        """Where Ray's scripts ask the guard; in a folder of its own, which nobody else may enter."""
        return self.session_root / "guard" / "s"

    @property
    def rented(self) -> bool:
        """Whether this machine can be ended, and so has to be when nobody looks after it."""
        return bool(self.end_command)


def take_settings(environ: MutableMapping[str, str]) -> Settings:
    """Read the settings and remove them from ``environ``, so that no process started later inherits the ticket.

    What says where a process runs stays: ``FABRIC_SITE``, ``FABRIC_NODE_TYPE`` and ``FABRIC_TOKEN``.

    Raises:
        SettingsError: one is missing or malformed.
    """
    told = {name: environ[name] for name in list(environ) if name.startswith("FABRIC_")}
    for name in told:
        if name not in _SAID_TO_USERS:
            del environ[name]
    return Settings(
        token=_required(told, "FABRIC_TOKEN"),
        site=_required(told, "FABRIC_SITE"),
        node_type=_required(told, "FABRIC_NODE_TYPE"),
        gateway=_required(told, "FABRIC_GATEWAY"),
        work_dir=Path(_required(told, "FABRIC_WORK_DIR")),
        resources={name: float(value) for name, value in _object(told, "FABRIC_RESOURCES", (int, float)).items()},
        ticket=told.get("FABRIC_TICKET", ""),
        fingerprint=told.get("FABRIC_GATEWAY_FINGERPRINT", ""),
        labels=_object(told, "FABRIC_LABELS", (str,)),
        lease_s=_seconds(told, "FABRIC_LEASE_S", 900.0),
        boot_deadline_s=_seconds(told, "FABRIC_BOOT_DEADLINE_S", 480.0),
        metadata_url=told.get("FABRIC_METADATA_URL", ""),
        end_command=told.get("FABRIC_END_COMMAND", ""),
        node_address=told.get("FABRIC_NODE_ADDRESS", ""),
        object_store_bytes=_bytes(told, "FABRIC_OBJECT_STORE_BYTES"),
        temp_dir=told.get("FABRIC_TEMP_DIR", ""),
    )


def _required(told: Mapping[str, str], name: str) -> str:
    value = told.get(name, "")
    if not value:
        raise SettingsError(f"{name} is not set; the agent is started by the boot script, which sets it")
    return value


def _object(told: Mapping[str, str], name: str, kinds: tuple[type, ...]) -> dict[str, Any]:
    try:
        value = json.loads(told.get(name) or "{}")
    except ValueError as error:
        raise SettingsError(f"{name} is not JSON: {error}") from None
    if not isinstance(value, dict) or not all(isinstance(item, kinds) for item in value.values()):
        raise SettingsError(f"{name} is not a JSON object of {' or '.join(kind.__name__ for kind in kinds)}")
    return value


def _seconds(told: Mapping[str, str], name: str, default: float) -> float:
    text = told.get(name) or str(default)
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e9:
        raise SettingsError(f"{name} is {text!r}; it has to be a number of seconds")
    return value


def _bytes(told: Mapping[str, str], name: str) -> int | None:
    text = told.get(name, "")
    if text and not text.isdecimal():
        raise SettingsError(f"{name} is {text!r}; it has to be a number of bytes")
    return int(text) if text else None
