"""The real controller without Ray: its own brain, buyer, sweeps and journal, on a cluster that is a list.

``python -m tests.chaos.rig --config fabric.yaml`` is ``python -m autoscaler.shell.main``, with one part exchanged:
where the controller would reconcile with a Ray head, this asks the same brain with the number of GPUs that the file
``wanted`` names as demand, and carries its decision out on the same fleet, by the rules of Ray's reconciler. Machines
run ``sleep`` and never join.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import autoscaler.shell.controller as controller_module
from autoscaler.core.snapshot import Snapshot
from autoscaler.providers.base import Instance, LaunchSpec, Provider, ProviderError
from autoscaler.providers.registry import provider_for
from autoscaler.ray.autoscaler import RayNode
from autoscaler.ray.provider import Fleet
from autoscaler.shell.brain import Brain
from autoscaler.shell.controller import Controller
from fabric.config.resolve import HEAD, node_types
from fabric.config.schema import Config
from fabric.journal.base import Journal
from fabric.journal.sqlite import SqliteJournal
from fabric.model.demand import Demand, Shape
from fabric.model.nodes import Node, NodePhase
from fabric.model.resources import GPU, Resources
from fabric.telemetry.emit import configure_logging

HOME = "onprem/home/a"


class Sleeping:
    """A provider whose machines only sleep."""

    def __init__(self, inner: Provider) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def launch(self, specs: Sequence[LaunchSpec]) -> Sequence[Instance | ProviderError]:
        return self._inner.launch([replace(spec, user_data="#!/bin/sh\nexec sleep 600\n") for spec in specs])


class ListedCluster:
    """Ray's reconciler, as far as a fleet sees it: requests wait for a machine of their type or for a failure."""

    def __init__(self, fleet: Any, brain: Brain, config: Config, wanted: Path) -> None:
        self._fleet: Fleet = fleet
        self._observed = fleet.observed
        self._brain = brain
        self._types = node_types(config)
        self._wanted = wanted
        self._known: set[str] = set()
        self._requested: Counter[str] = Counter()
        self._requests = 0

    def update_autoscaling_state(self) -> None:
        self._observed([RayNode("0" * 8, HOME, "home.box", True, 0.0)])
        listing = self._fleet.listing()
        machines = {node.node_id: node for node in listing.nodes if node.node_id not in (HEAD, HOME)}
        for token in machines.keys() - self._known:
            if self._requested[machines[token].node_type] > 0:
                self._requested[machines[token].node_type] -= 1
        for failure in listing.failures:
            self._requested[failure.node_type] = max(0, self._requested[failure.node_type] - failure.count)
        self._known = set(machines)
        nodes = [self._node(HEAD, HEAD, NodePhase.RUNNING, HEAD)]
        nodes += [self._node(token, node.node_type, NodePhase.BOOTING, token) for token, node in machines.items()]
        nodes += [
            self._node(f"{name}#{number}", name, NodePhase.REQUESTED, "")
            for name, count in self._requested.items()
            for number in range(count)
        ]
        gpus = int(self._wanted.read_text())
        demands = (Demand(Shape(Resources.of({GPU: 1})), gpus),) if gpus else ()
        decision = self._brain(Snapshot(self._types, tuple(nodes), demands))
        for launch in decision.launches:
            self._requests += 1
            self._requested[launch.node_type] += launch.count
            self._fleet.launch(launch.node_type, launch.count, f"{os.getpid()}-{self._requests}")
        for drain in decision.drains:
            if drain.node_id in machines:
                self._fleet.end(drain.node_id)

    def _node(self, node_id: str, node_type: str, phase: NodePhase, instance_id: str) -> Node:
        resources = self._types[node_type].resources
        return Node(node_id, node_type, phase, resources, resources, instance_id=instance_id, is_head=node_id == HEAD)


class Rig(Controller):
    """The controller with a listed cluster in the place of Ray."""

    def _connect(self) -> None:
        config = self._file.current
        wanted = self._file.path.with_name("wanted")
        self._autoscaler: Any = ListedCluster(self._fleet, self._brain, config, wanted)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", required=True, type=Path)
    options = parser.parse_args()
    configure_logging("controller")
    controller_module.provider_for = lambda name, site, owner: Sleeping(provider_for(name, site, owner))
    controller = Rig(options.config, None, _open_journal)
    signal.signal(signal.SIGTERM, lambda *_: controller.stop())
    controller.run()
    return 0


def _open_journal(config: Config) -> Journal:
    return SqliteJournal(config.fabric.journal.removeprefix("sqlite:"), "controller")


if __name__ == "__main__":
    sys.exit(main())
