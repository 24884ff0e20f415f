"""Everything one decision may depend on. If it is not in here, the brain cannot know it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fabric.model.decisions import BaselineState
from fabric.model.demand import Demand, Gang
from fabric.model.money import BudgetRoom
from fabric.model.nodes import Node, NodeType, Offer


@dataclass(frozen=True, slots=True)
class Threshold:
    """The burst may open when the depth has been at least this for this long. 0 of a unit: not looked at."""

    for_s: float
    gpus: float = 0.0
    cpus: float = 0.0


@dataclass(frozen=True, slots=True)
class RefusedOffer:
    """A capacity refusal that still counts: the offer is not tried again before ``until`` (Unix seconds)."""

    offer_id: str
    until: float
    refusals: int


@dataclass(frozen=True, slots=True)
class BurstRules:
    """The ``burst:`` block of the configuration in plain numbers.

    Attributes:
        baseline: thresholds, any of which opens the burst. Empty: always open (Ray's own behaviour).
        close_for_s: hysteresis; an open burst closes only after the depth has been below every threshold for
            this long.
        hold_s: least time a node is kept once it has joined.
        idle_s: how long a burst node must be idle before it is given back; None: never.
        join_deadline_s: a node that has not joined this long after its launch is ended and counted as waste.
        pending_idle_s: a launch nobody needs any more is cancelled after this long; None: never.
        maximum_nodes: most nodes of all types together, head included; None: no limit.
        terminate_outdated: end nodes whose node type is gone or changed (Ray's launch-config check).
        conserve_gpus: keep GPU nodes for GPU work where prices do not decide (Ray's AUTOSCALER_CONSERVE_GPU_NODES).
    """

    baseline: tuple[Threshold, ...] = ()
    close_for_s: float = 0.0
    hold_s: float = 0.0
    idle_s: float | None = None
    join_deadline_s: float | None = None
    pending_idle_s: float | None = None
    maximum_nodes: int | None = None
    terminate_outdated: bool = False
    conserve_gpus: bool = True


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The world at one instant.

    Attributes:
        node_types: by name; on-prem ones have ``launchable=False``.
        nodes: every node that exists or has been asked for.
        demands: unplaced requests grouped by shape.
        gangs: unplaced placement groups.
        constraints: ``request_resources``: what the cluster must be able to hold whether used or not.
        offers: what can be bought, any order.
        may_leave_by_name: sites other than home that work may use which names its sites with a label selector.
        priced: machines are bought through offers only; without one, nothing is. False where there are no prices
            at all (Ray's own behaviour).
        refused: capacity refusals still in force.
        rules: the burst rules.
        baseline: state left by the previous tick.
        unneeded_since: node id of a not yet joined launch, to the Unix time since which nobody needs it.
        budgets: room in every budget that applies to new launches.
        may_leave_to: sites other than home that unclassified work may use; None: any site.
        stopping: the fabric is being taken down: nothing is bought, everything is given back.
    """

    node_types: Mapping[str, NodeType]
    nodes: tuple[Node, ...] = ()
    demands: tuple[Demand, ...] = ()
    gangs: tuple[Gang, ...] = ()
    constraints: tuple[Demand, ...] = ()
    offers: tuple[Offer, ...] = ()
    refused: tuple[RefusedOffer, ...] = ()
    rules: BurstRules = BurstRules()
    baseline: BaselineState = BaselineState()
    unneeded_since: Mapping[str, float] = field(default_factory=dict[str, float])
    budgets: tuple[BudgetRoom, ...] = ()
    may_leave_to: frozenset[str] | None = None
    may_leave_by_name: frozenset[str] = frozenset()
    priced: bool = False
    stopping: bool = False
