"""What ``fabric.yaml`` says, in the brain's own words: home nodes and burst rules."""

from __future__ import annotations

from dataclasses import dataclass

from autoscaler.core.snapshot import BurstRules, Threshold
from fabric.config.schema import Config
from fabric.config.sites import OnPremSite

HOME_PREFIX = "onprem/"


@dataclass(frozen=True, slots=True)
class HomeNode:
    """One machine of your own, as the configuration names it.

    Attributes:
        node_id: Ray's cloud instance id, ``onprem/<site>/<name>``; the same for ever, also after a reboot.
        site, node_type, name: where and what it is.
        local: started on this very machine by ``fabric up``.
    """

    node_id: str
    site: str
    node_type: str
    name: str
    local: bool


def home_node_id(site: str, name: str) -> str:
    """Ray's cloud instance id of an on-prem machine."""
    return f"{HOME_PREFIX}{site}/{name}"


def home_nodes(config: Config) -> tuple[HomeNode, ...]:
    """Every on-prem machine the configuration names, in its order."""
    return tuple(
        HomeNode(home_node_id(site_name, name), site_name, f"{site_name}.{key}", name, block.local)
        for site_name, site in config.sites.items()
        if isinstance(site, OnPremSite)
        for key, block in site.node_types.items()
        for name in block.nodes
    )


def burst_rules(config: Config) -> BurstRules:
    """The ``burst:`` block as the brain reads it."""
    burst = config.burst
    return BurstRules(
        baseline=tuple(Threshold(for_s=block.for_, gpus=block.gpus, cpus=block.cpus) for block in burst.baseline),
        close_for_s=burst.close_for,
        hold_s=burst.hold,
        idle_s=burst.idle,
        join_deadline_s=burst.join_deadline,
        pending_idle_s=burst.pending_idle,
        maximum_nodes=burst.max_nodes,
    )
