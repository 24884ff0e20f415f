"""A place for the doctor to look at: a configuration in a directory of its own, and what the doctor says of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from fabric.cli.main import cli
from fabric.journal.sqlite import SqliteJournal

CONFIG = """
listen: {{gateway: "{host}:{gateway}", controller: "127.0.0.1:{controller}", reaper: "127.0.0.1:{reaper}"}}
ray: {{address: {host}, port: {ray}, dashboard: "127.0.0.1:{dashboard}"{more_ray}}}
sites:
  home: {{kind: onprem, node_types: {{gpu: {{nodes: [a], gpus: 1, cpus: 1}}}}}}
  sky:
    kind: sandbox
    endpoint: 127.0.0.1:{sandbox}
    network: {{mode: {network}}}
    node_types:
      g1: {{gpus: 1, cpus: 1, max: 2, price: {{on-demand: 1 USD/h}}}}
burst: {{baseline: [{{gpus: 1, for: 0s}}]}}
"""


@dataclass
class Place:
    """A configuration in a directory of its own, on ports that were free."""

    root: Path
    ports: dict[str, int]
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def config(self) -> Path:
        return self.root / "fabric.yaml"

    @property
    def state(self) -> Path:
        return self.root / "state"

    def write(self, network: str = "host", host: str = "127.0.0.1", more_ray: str = "") -> None:
        self.config.write_text(CONFIG.format(network=network, host=host, more_ray=more_ray, **self.ports))

    def journal(self) -> SqliteJournal:
        self.state.mkdir(mode=0o700, exist_ok=True)
        return SqliteJournal(self.state / "journal.db", "test")

    def findings(self, exit_code: int) -> list[dict[str, Any]]:
        """What the doctor says here; the exit code is what the test expects, and says whether anything fails."""
        done = CliRunner().invoke(cli, ["doctor", "--json", "-c", str(self.config)], env=self.environment)
        findings: list[dict[str, Any]] = json.loads(done.stdout)
        assert done.exit_code == exit_code, done.output
        assert exit_code == any(finding["state"] == "fail" for finding in findings)
        return findings

    def failures(self, name: str) -> list[dict[str, Any]]:
        """What of this name fails, all of it with a remedy."""
        found = [item for item in self.findings(1) if item["name"] == name and item["state"] == "fail"]
        assert all(item["remedy"] for item in found)
        return found


def place_in(directory: Path, free_port: Callable[[], int]) -> Place:
    """A good configuration there."""
    names = ("gateway", "controller", "reaper", "ray", "dashboard", "sandbox")
    found = Place(directory, {name: free_port() for name in names})
    # The shell of whoever runs the tests may point at a cluster of its own.
    found.environment = {"RAY_AUTH_TOKEN": "", "RAY_AUTH_TOKEN_PATH": ""}
    found.write()
    return found


def state_of(findings: list[dict[str, Any]], name: str) -> set[str]:
    return {finding["state"] for finding in findings if finding["name"] == name}
