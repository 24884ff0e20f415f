"""The programs that make a fabric on one machine: what ``fabric up`` has supervisord run."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fabric.cli.run_dir import PROGRAM_MARK, RUN_MARK, RunDir
from fabric.config.schema import Config
from fabric.config.sites import OnPremNodeType, OnPremSite, SandboxSite

HEAD = "ray-head"
GATEWAY = "gateway"
CONTROLLER = "controller"
REAPER = "reaper"


@dataclass(frozen=True, slots=True)
class Program:
    """One program under supervision.

    Attributes:
        name: also the name of its log.
        command: argument list.
        priority: start order, lower first; they stop in the opposite order.
        stop_s: seconds between asking it to stop and killing its process group.
        environment: added to what every program gets.
    """

    name: str
    command: tuple[str, ...]
    priority: int
    stop_s: int = 10
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LocalNode:
    """An on-prem node that runs on this very machine."""

    site: str
    node_type: str
    node: str

    @property
    def program(self) -> str:
        """Name of the program that runs it."""
        return f"node-{self.site}-{self.node}"

    @property
    def token(self) -> str:
        """Its Ray cloud instance id."""
        return f"onprem/{self.site}/{self.node}"


def local_nodes(config: Config) -> tuple[LocalNode, ...]:
    """The on-prem nodes that ``up`` starts itself (node types with ``local: true``)."""
    return tuple(
        LocalNode(site_name, key, node)
        for site_name, site in config.sites.items()
        if isinstance(site, OnPremSite)
        for key, node_type in site.node_types.items()
        if isinstance(node_type, OnPremNodeType) and node_type.local
        for node in node_type.nodes
    )


def sandbox_sites(config: Config) -> dict[str, SandboxSite]:
    """The sandbox clouds of the configuration, by site."""
    return {name: site for name, site in config.sites.items() if isinstance(site, SandboxSite)}


def programs(config: Config, config_path: Path) -> tuple[Program, ...]:
    """Every program, in start order."""
    where = ("--config", str(config_path))
    # The controller keeps a copy of the last good configuration; the others can start from it.
    judged = (*where, "--keep", str(Path(config.fabric.state) / "run" / "last-good.yaml"))
    return (
        Program(HEAD, (*_module("fabric.cli.run_head"), *where), priority=10),
        Program(GATEWAY, (*_module("fabric.gateway.main"), *judged), priority=20),
        *(
            Program(f"sandbox-{name}", (*_module("autoscaler.sandbox.main"), *judged, "--site", name), 20, stop_s=30)
            for name in sandbox_sites(config)
        ),
        Program(CONTROLLER, (*_module("autoscaler.shell.main"), *judged), priority=30, stop_s=15),
        Program(REAPER, (*_module("autoscaler.shell.reap_main"), *judged), priority=40),
        *(
            Program(
                node.program,
                (*_module("fabric.cli.run_node"), *where, "--site", node.site, "--node", node.node),
                priority=30,
                stop_s=20,
            )
            for node in local_nodes(config)
        ),
    )


def environment(run: RunDir, config: Config) -> dict[str, str]:
    """What every program gets: the marks by which it is found again, and how to talk to the cluster."""
    python_bin = str(Path(sys.executable).parent)
    shared = {
        RUN_MARK: str(run.root),
        "PATH": f"{python_bin}:{os.environ.get('PATH', os.defpath)}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token_path(Path(config.fabric.state))),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_enable_autoscaler_v2": "1",
        # Ray would hold a stop up for half a minute to drain a node; whoever stops one here has done that before.
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
        "PYTHONUNBUFFERED": "1",
    }
    if not _is_installed():
        shared["PYTHONPATH"] = str(Path(__file__).resolve().parents[2])
    return shared


def program_environment(program: Program) -> dict[str, str]:
    """What one program gets on top."""
    return {PROGRAM_MARK: program.name, **program.environment}


def token_path(state: Path) -> Path:
    """Where the token that every Ray process of the cluster shares is kept."""
    return state / "secrets" / "cluster.token"


def user_token_path(state: Path) -> Path:
    """Where the token of whoever started the fabric is kept, with which that person submits jobs."""
    return state / "secrets" / "user.token"


def _module(name: str) -> tuple[str, ...]:
    return (sys.executable, "-m", name)


def _is_installed() -> bool:
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        distribution("elastic-ai-fabric")
    except PackageNotFoundError:
        return False
    return True
