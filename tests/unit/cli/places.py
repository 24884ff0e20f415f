"""A fabric to look at: its configuration, a journal with a story in it, and the real controller on a listed cluster."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from autoscaler.ray.autoscaler import RayNode
from autoscaler.shell.brain import Brain
from fabric.config.resolve import node_types
from fabric.config.schema import Config
from fabric.journal.base import Draft
from fabric.journal.sqlite import SqliteJournal
from fabric.model.events import Event
from fabric.model.nodes import Node, NodePhase
from fabric.model.resources import Resources
from tests.chaos.rig import HOME, ListedCluster, Rig
from tests.sandboxes import unused_port

CONFIG = """
fabric: {{name: testing}}
defaults: {{data_class: open}}
data_classes: {{open: {{sites: any}}}}
listen: {{gateway: "127.0.0.1:{gateway}", controller: "127.0.0.1:{controller}", reaper: "127.0.0.1:{reaper}"}}
ray: {{address: 127.0.0.1, port: {ray}, dashboard: "127.0.0.1:{dashboard}"}}
sites:
  home:
    kind: onprem
    node_types:
      box: {{nodes: [a, b], gpus: 1, cpus: 1}}
  sky:
    kind: sandbox
    endpoint: 127.0.0.1:{sandbox}
    node_types:
      g1: {{gpus: 1, cpus: 1, max: 3, price: {{on-demand: 3.60 USD/h, minimum: 60s}}}}
burst:
  baseline: [{{gpus: 2, for: 0s}}, {{gpus: 50, for: 5m}}]
  hold: 1h
budgets: [{{scope: fabric, per: day, limit: 150 USD}}]
"""
LAUNCH = {
    "site": "sky",
    "node_type": "sky.g1",
    "offer": "sky.g1//on-demand",
    "zone": "",
    "market": "on-demand",
    "per_hour": 3_600_000,
    "minimum_seconds": 60,
    "ticket_sha256": "",
    "ticket_expires_at": 0.0,
    "join_by": 0.0,
    "request_id": "1",
    "labels": {},
}
COST_OF_A_MINUTE = 60_000
NAMES = ("gateway", "controller", "reaper", "ray", "dashboard", "sandbox")


@dataclass(frozen=True)
class Place:
    """A configuration, its journal, and the command line that is given them."""

    path: Path
    controller: int

    @property
    def journal(self) -> Path:
        return self.path.parent / "state" / "journal.db"

    def fabric(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "fabric.cli", "--config", str(self.path), *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env={**os.environ, "COLUMNS": "160", "PYTHONPATH": str(Path(__file__).parents[3])},
        )

    def status(self) -> dict[str, Any]:
        return json.loads(self.fabric("status", "--json").stdout)


def place_in(directory: Path) -> Place:
    ports = {name: unused_port() for name in NAMES}
    path = directory / "fabric.yaml"
    path.write_text(CONFIG.format(**ports))
    return Place(path, ports["controller"])


def write_story(path: Path) -> None:
    """One machine that ended after a minute, one that runs, one that was asked for; home/a up and home/b dead."""
    now_ms = time.time_ns() // 1_000_000
    journal = SqliteJournal(path, "controller")
    journal.append(
        [
            Draft(Event.ONPREM_NODE_SEEN, {"node": "onprem/home/a", "node_type": "home.box"}),
            Draft(Event.ONPREM_NODE_DEAD, {"node": "onprem/home/b", "node_type": "home.box", "since": 1.0}),
            *(
                Draft(Event.LAUNCH_INTENDED, {**LAUNCH, "token": token})
                for token in ("fab-gone", "fab-here", "fab-new")
            ),
            *(accepted(token, now_ms - 90_000) for token in ("fab-gone", "fab-here")),
            Draft(Event.NODE_JOINED, {"token": "fab-gone", "lease_until": 0.0}),
            Draft(Event.NODE_JOINED, {"token": "fab-here", "lease_until": 0.0}),
            Draft(Event.TERMINATE_INTENDED, {"token": "fab-gone", "cause": "idle", "by": "controller"}),
            Draft(
                Event.INSTANCE_ENDED,
                {"token": "fab-gone", "launched_at_ms": now_ms - 90_000, "ended_at_ms": now_ms - 30_000},
            ),
        ]
    )
    journal.close()


def accepted(token: str, launched_at_ms: int) -> Draft:
    facts = {"token": token, "instance": f"i-{token}", "site": "sky", "launched_at_ms": launched_at_ms}
    return Draft(Event.LAUNCH_ACCEPTED, facts)


class ListedClusterWithADeadNode(ListedCluster):
    """home/a is up and busy, home/b was up and has died."""

    def __init__(self, fleet: Any, brain: Brain, config: Config, wanted: Path) -> None:
        super().__init__(fleet, brain, config, wanted)
        dead = RayNode("1" * 8, "onprem/home/b", "home.box", False, 0.0)
        total = node_types(config)["home.box"].resources
        busy = Node(HOME, "home.box", NodePhase.RUNNING, total, Resources(), instance_id=HOME, ray_node_id="0" * 8)
        self._observed = lambda nodes: fleet.observed([*nodes, dead])
        self._brain: Any = lambda seen: brain(replace(seen, nodes=(*seen.nodes, busy)))


class RigWithADeadNode(Rig):
    def _connect(self) -> None:
        wanted = self._file.path.with_name("wanted")
        self._autoscaler: Any = ListedClusterWithADeadNode(self._fleet, self._brain, self._file.current, wanted)


@contextmanager
def controller_of(place: Place) -> Iterator[None]:
    """The real controller runs; its cluster is a list, 5 GPUs are wanted, and its cloud does not answer."""
    place.path.with_name("wanted").write_text("5")
    controller = RigWithADeadNode(place.path, None, lambda _: SqliteJournal(place.journal, "controller"))
    thread = threading.Thread(target=controller.run)
    thread.start()
    try:
        yield
    finally:
        controller.stop()
        thread.join(30)
        assert not thread.is_alive()
