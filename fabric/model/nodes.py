"""Sites, node types, offers and nodes as the brain sees them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from fabric.model.money import Tariff
from fabric.model.resources import Resources

NO_LABELS: Mapping[str, str] = {}


class SiteKind(StrEnum):
    """What kind of place a site is."""

    ONPREM = "onprem"
    SANDBOX = "sandbox"
    AWS = "aws"
    GCP = "gcp"
    AZURE = "azure"
    OTHER = "other"


class Market(StrEnum):
    """How an instance is bought. ``owned`` is for on-prem machines: they have a cost but are never bought."""

    OWNED = "owned"
    ON_DEMAND = "on-demand"
    SPOT = "spot"


@dataclass(frozen=True, slots=True)
class NodeType:
    """One machine shape in one site, as the planner packs against it.

    Attributes:
        name: unique over the whole fabric: ``<site>.<key>``, for example ``aws-fra.g6-12x``; the Ray node type.
        site: the site it belongs to.
        resources: what a node of this type offers to Ray.
        labels: Ray labels every node of this type carries.
        minimum: nodes kept even without demand.
        maximum: nodes of this type that may exist at once.
        launchable: False for on-prem types: they are listed and used, never launched or ended.
        idle_timeout_s: own idle time-out; None uses the snapshot's.
        priority: tie-break between otherwise equal types; higher first (Ray's node-type priority).
        availability: 1.0 when launches have been succeeding, toward 0.0 after refusals (tie-break).
        recovering: the same, rising back to 1.0 with time (Ray's recoverable availability; an earlier tie-break).
    """

    name: str
    site: str
    resources: Resources
    labels: Mapping[str, str] = field(default_factory=lambda: NO_LABELS)
    minimum: int = 0
    maximum: int = 0
    launchable: bool = True
    idle_timeout_s: float | None = None
    priority: int = 0
    availability: float = 1.0
    config_hash: str = ""
    recovering: float = 1.0


@dataclass(frozen=True, slots=True)
class Offer:
    """A node type as it can be bought now.

    Attributes:
        offer_id: ``<node type>/<zone>/<market>``; refusals are remembered under it.
        node_type: the node type it buys.
        site: where.
        zone: zone inside the site, ``""`` where the site has none.
        market: spot or on-demand.
        tariff: what it costs.
        boot_seconds: expected time from launch call to joined node.
    """

    offer_id: str
    node_type: str
    site: str
    zone: str
    market: Market
    tariff: Tariff
    boot_seconds: float = 120.0


class NodePhase(StrEnum):
    """Where a node stands between wish and end. ``plan / requested / observed`` are folds of these."""

    PLANNED = "planned"  # decided, no cloud call made yet
    REQUESTED = "requested"  # the cloud has been asked
    BOOTING = "booting"  # the cloud made an instance, no Ray node yet
    RUNNING = "running"  # a Ray node has joined
    DRAINING = "draining"  # Ray has been asked to move work away
    ENDING = "ending"  # the cloud has been asked to end it
    DEAD = "dead"  # Ray lost it; for an on-prem node a fact to show, never a purchase


@dataclass(frozen=True, slots=True)
class Node:
    """One node of the cluster, present or expected.

    Attributes:
        node_id: the instance manager's id (Ray autoscaler v2), unique among live nodes.
        node_type: name of its node type.
        phase: where it stands.
        total: resources it has (from Ray once it runs, else from the node type).
        free: resources not in use.
        labels: its Ray labels.
        marks: anti-affinity marks already placed on it, as ``(name, value)``.
        ray_node_id: Ray's hex node id, ``""`` before it joined.
        instance_id: the provider's id, ``""`` while unknown.
        token: our launch token, ``""`` for on-prem nodes and strangers.
        idle_s: seconds Ray has seen it idle; 0 while busy or not yet running.
        since: Unix seconds when it entered its phase; None if unknown.
        joined_at: Unix seconds when it became a Ray node; None before.
        launched_at: Unix seconds when it was asked for; None if unknown.
        is_head: the Ray head.
    """

    node_id: str
    node_type: str
    phase: NodePhase
    total: Resources
    free: Resources
    labels: Mapping[str, str] = field(default_factory=lambda: NO_LABELS)
    marks: tuple[tuple[str, str], ...] = ()
    ray_node_id: str = ""
    instance_id: str = ""
    token: str = ""
    offer_id: str = ""
    idle_s: float = 0.0
    since: float | None = None
    joined_at: float | None = None
    is_head: bool = False
    config_hash: str = ""
    launched_at: float | None = None
