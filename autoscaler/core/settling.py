"""What was free a moment ago counts as free: Ray's report of demand lags behind its report of free resources.

Ray's head pulls what waits from each node once a second (``gcs_pull_resource_loads_period_milliseconds``), while free
resources reach it within a tenth of that. Just after work was placed it therefore seems to wait still, beside nodes
that have no room left, and would be bought for although it runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from fabric.model.nodes import Node, NodePhase
from fabric.model.resources import Resources

LAG_S = 1.5


@dataclass(frozen=True, slots=True)
class Sighting:
    """What each running node had free at one time (Unix seconds), by node id."""

    at: float
    free: Mapping[str, Resources]


History = tuple[Sighting, ...]


def settled(nodes: Iterable[Node], history: History, now: float) -> tuple[tuple[Node, ...], History]:
    """Give each running node the most it had free during the last ``LAG_S``, and the history for the next time.

    A sighting holds until the next one, so the newest of those older than ``LAG_S`` still counts.
    """
    nodes = tuple(nodes)
    seen = Sighting(now, {node.node_id: node.free for node in nodes if node.phase is NodePhase.RUNNING})
    kept = [sighting for sighting in history if sighting.at <= now]
    while len(kept) > 1 and kept[1].at <= now - LAG_S:
        kept.pop(0)
    lately = (*kept, seen)
    return tuple(_most_free(node, lately) for node in nodes), lately


def _most_free(node: Node, lately: History) -> Node:
    if node.phase is not NodePhase.RUNNING:
        return node
    most: dict[str, int] = {}
    for sighting in lately:
        for name, amount in sighting.free.get(node.node_id, Resources()).items:
            most[name] = max(most.get(name, 0), min(amount, node.total.get(name)))
    for name, amount in node.free.items:
        most[name] = max(most.get(name, 0), amount)
    return replace(node, free=Resources.from_units(most.items()))
