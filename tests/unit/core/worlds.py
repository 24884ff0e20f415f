"""Words for small worlds: a home, two clouds, work, prices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from autoscaler.core.decide import decide
from autoscaler.core.policies import policy_named
from autoscaler.core.snapshot import BurstRules, Snapshot
from fabric.model.decisions import Decision, DrainMethod, ReasonCode
from fabric.model.demand import Demand, Shape
from fabric.model.labels import Constraint, Operator, Selector
from fabric.model.money import USD, Tariff
from fabric.model.nodes import Market, Node, NodePhase, NodeType, Offer
from fabric.model.resources import Resources

NOW = 10_000.0
GPU_BOX = Resources.of({"CPU": 8, "GPU": 1})

HOME = NodeType("home.box", "home", GPU_BOX, maximum=2, launchable=False)
SKY = NodeType("sky.one", "sky", GPU_BOX, maximum=10)
SKY_EIGHT = NodeType("sky.eight", "sky", Resources.of({"CPU": 64, "GPU": 8}), maximum=4)
SEA = NodeType("sea.one", "sea", GPU_BOX, maximum=10)


def offer(kind: NodeType, dollars: float, market: Market = Market.ON_DEMAND, minimum_s: int = 60) -> Offer:
    """A node type at a price per hour."""
    tariff = Tariff(round(dollars * USD), minimum_s)
    return Offer(f"{kind.name}/a/{market}", kind.name, kind.site, "a", market, tariff, boot_seconds=60.0)


def node(name: str, kind: NodeType, phase: NodePhase = NodePhase.RUNNING, *, busy: bool = False, **more: Any) -> Node:
    """One node, all free or all busy."""
    free = Resources() if busy else kind.resources
    return Node(name, kind.name, phase, kind.resources, free, labels=kind.labels, **more)


def work(count: int, **quantities: float) -> Demand:
    """``count`` equal requests; one GPU each unless told."""
    return Demand(Shape(Resources.of(quantities or {"GPU": 1})), count)


def only(key: str, *values: str) -> Selector:
    """A selector for nodes whose label is one of these."""
    return Selector((Constraint(key, Operator.IN, values),))


def world(*kinds: NodeType, rules: BurstRules | None = None, **more: Any) -> Snapshot:
    """A snapshot; both home nodes are busy unless nodes are given."""
    kinds = kinds or (HOME, SKY)
    more.setdefault("nodes", (node("h0", HOME, busy=True), node("h1", HOME, busy=True)) if HOME in kinds else ())
    return Snapshot(node_types={kind.name: kind for kind in kinds}, rules=rules or BurstRules(), **more)


def tick(snapshot: Snapshot, now: float = NOW) -> Decision:
    """Decide by the threshold policy."""
    return decide(snapshot, policy_named("threshold"), now)


def launches(decision: Decision) -> dict[str, int]:
    """Nodes to launch, by type."""
    return {launch.node_type: launch.count for launch in decision.launches}


def ends(decision: Decision) -> dict[str, DrainMethod]:
    """How each node that leaves is given back."""
    return {drain.node_id: drain.method for drain in decision.drains}


def codes(decision: Decision, subject: str = "") -> set[ReasonCode]:
    """Why something was refused: everything, or one subject."""
    return {reason.code for refusal in decision.refusals if subject in refusal.subject for reason in refusal.reasons}


def with_types(snapshot: Snapshot, kinds: Sequence[NodeType]) -> Snapshot:
    """The same world with some node types changed."""
    return replace(snapshot, node_types={**snapshot.node_types, **{kind.name: kind for kind in kinds}})
