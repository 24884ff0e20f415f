"""Which nodes to give back, least disruptive first. On-prem nodes and the head are never among them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

from autoscaler.core.offers import scopes_of
from autoscaler.core.snapshot import Snapshot
from fabric.model.decisions import Drain, DrainMethod, Fact, Reason, ReasonCode
from fabric.model.nodes import Node, NodePhase

# Nodes that exist and are not on their way out.
STANDING = frozenset({NodePhase.PLANNED, NodePhase.REQUESTED, NodePhase.BOOTING, NodePhase.RUNNING})
COMING = frozenset({NodePhase.PLANNED, NodePhase.REQUESTED, NodePhase.BOOTING})
# A launch call that is under way cannot be taken back; it is cancelled once the cloud has answered.
CANCELLABLE = (NodePhase.PLANNED, NodePhase.BOOTING)

_ORDER = {method: position for position, method in enumerate(DrainMethod)}


def leaving(snapshot: Snapshot, now: float) -> list[Drain]:
    """Nodes that go whatever the work is: their capacity must not be planned with."""
    if snapshot.stopping:
        return [_stopping(node) for node in snapshot.nodes if may_end(snapshot, node)]
    drains = [*_past_join_deadline(snapshot, now), *_lost(snapshot), *_outdated(snapshot), *_over_budget(snapshot, now)]
    drains = list({drain.node_id: drain for drain in reversed(drains)}.values())[::-1]
    gone = {drain.node_id for drain in drains}
    over_type = _over_type_maximum(snapshot, gone)
    gone |= {drain.node_id for drain in over_type}
    return [*drains, *over_type, *_over_total_maximum(snapshot, gone)]


def unneeded(snapshot: Snapshot, needed: Set[str], gone: Set[str], now: float) -> tuple[list[Drain], dict[str, float]]:
    """Launches to cancel and idle nodes to give back, and since when each unneeded launch has been so.

    Args:
        snapshot: the world.
        needed: ids of nodes that the plan puts work on.
        gone: ids of nodes that leave anyway.
        now: Unix seconds.
    """
    if snapshot.stopping:
        return [], {}
    idle_launches = _unneeded_since(snapshot, needed, gone, now)
    spare = _spare_over_minimum(snapshot, gone)
    drains: list[Drain] = []
    candidates = (node for node in snapshot.nodes if node.phase in STANDING and node.node_id not in gone)
    for node in sorted(candidates, key=_order_of_leaving(idle_launches, now)):
        if node.node_id in needed or not may_end(snapshot, node):
            continue
        drain = _cancel(snapshot, node, idle_launches, now) or _idle(snapshot, node, now)
        if drain is None:
            continue
        if node.node_type in spare:
            if spare[node.node_type] <= 0:
                continue
            spare[node.node_type] -= 1
        drains.append(drain)
    ended = {drain.node_id for drain in drains}
    return drains, {node_id: since for node_id, since in idle_launches.items() if node_id not in ended}


def least_disruptive_first(drains: Iterable[Drain]) -> tuple[Drain, ...]:
    """All drains in the order in which they should be carried out."""
    return tuple(sorted(drains, key=lambda drain: _ORDER[drain.method]))


def may_end(snapshot: Snapshot, node: Node) -> bool:
    """Whether a node may be ended at all: not the head, not one of a type that is never launched."""
    kind = snapshot.node_types.get(node.node_type)
    return not node.is_head and (kind is None or kind.launchable) and node.phase is not NodePhase.ENDING


@dataclass(frozen=True, slots=True)
class _Excess:
    group: Sequence[Node]
    surplus: int
    facts: Mapping[str, Fact]


def _stopping(node: Node) -> Drain:
    method = DrainMethod.CANCEL if node.phase in COMING else DrainMethod.IDLE
    return Drain(node.node_id, method, (Reason(ReasonCode.DRAINING_FABRIC, {"node_type": node.node_type}),))


def _past_join_deadline(snapshot: Snapshot, now: float) -> Iterable[Drain]:
    deadline = snapshot.rules.join_deadline_s
    if deadline is None:
        return
    for node in _endable(snapshot, CANCELLABLE):
        launched = node.launched_at if node.launched_at is not None else node.since
        if launched is not None and now - launched > deadline:
            facts: dict[str, Fact] = {"waited_s": round(now - launched, 1), "deadline_s": deadline}
            yield Drain(node.node_id, DrainMethod.JOIN_DEADLINE, (Reason(ReasonCode.JOIN_DEADLINE, facts),))


def _lost(snapshot: Snapshot) -> Iterable[Drain]:
    for node in _endable(snapshot, (NodePhase.DEAD,)):
        yield Drain(node.node_id, DrainMethod.LOST, (Reason(ReasonCode.NODE_LOST, {"node_type": node.node_type}),))


def _outdated(snapshot: Snapshot) -> Iterable[Drain]:
    if not snapshot.rules.terminate_outdated:
        return
    for node in _endable(snapshot, STANDING):
        kind = snapshot.node_types.get(node.node_type)
        if kind is None or _changed(node, kind.config_hash):
            facts: dict[str, Fact] = {"node_type": node.node_type, "known": kind is not None}
            yield Drain(node.node_id, DrainMethod.OUTDATED, (Reason(ReasonCode.OUTDATED, facts),))


def _changed(node: Node, config_hash: str) -> bool:
    """Whether a node was made from another configuration; one not yet running may not have been told its hash."""
    if not config_hash or config_hash == node.config_hash:
        return False
    return bool(node.config_hash) or node.phase is NodePhase.RUNNING


def _over_budget(snapshot: Snapshot, now: float) -> Iterable[Drain]:
    scopes = {budget.scope for budget in snapshot.budgets if budget.drain}
    if not scopes:
        return
    for node in _endable(snapshot, STANDING):
        kind = snapshot.node_types.get(node.node_type)
        hit = sorted(scopes.intersection(scopes_of("" if kind is None else kind.site)))
        if hit and not _held(snapshot, node, now):
            reason = Reason(ReasonCode.OVER_BUDGET, {"scope": hit[0]})
            yield Drain(node.node_id, DrainMethod.OVER_BUDGET, (reason,))


def _over_type_maximum(snapshot: Snapshot, gone: Set[str]) -> list[Drain]:
    groups: dict[str, list[Node]] = {}
    for node in snapshot.nodes:
        if node.phase in STANDING and node.node_id not in gone:
            groups.setdefault(node.node_type, []).append(node)
    drains: list[Drain] = []
    for name, group in groups.items():
        kind = snapshot.node_types.get(name)
        if kind is not None and kind.launchable:
            facts: dict[str, Fact] = {"node_type": name, "maximum": kind.maximum, "nodes": len(group)}
            drains += _shed(snapshot, _Excess(group, len(group) - kind.maximum, facts))
    return drains


def _over_total_maximum(snapshot: Snapshot, gone: Set[str]) -> list[Drain]:
    maximum = snapshot.rules.maximum_nodes
    if not maximum:  # Ray: no number, and zero, mean that nothing is ended for it
        return []
    group = [node for node in snapshot.nodes if node.phase in STANDING and node.node_id not in gone]
    facts: dict[str, Fact] = {"maximum": maximum, "nodes": len(group)}
    return _shed(snapshot, _Excess(group, len(group) - maximum, facts))


def _shed(snapshot: Snapshot, excess: _Excess) -> list[Drain]:
    if excess.surplus <= 0:
        return []
    group = sorted(excess.group, key=_order_of_leaving({}, 0.0))
    chosen = [node for node in group if may_end(snapshot, node)][: excess.surplus]
    reason = Reason(ReasonCode.OVER_MAXIMUM, excess.facts)
    return [Drain(node.node_id, DrainMethod.OVER_MAXIMUM, (reason,)) for node in chosen]


def _unneeded_since(snapshot: Snapshot, needed: Set[str], gone: Set[str], now: float) -> dict[str, float]:
    """Since when each launch that nobody needs has been so; the longest times go to those least far along.

    Launches of one type are interchangeable, so times are kept per type: which of them the plan happens to
    leave empty may change from tick to tick, how many it leaves empty does not.
    """
    coming: dict[str, list[Node]] = {}
    for node in snapshot.nodes:
        if node.phase in COMING and node.node_id not in gone and may_end(snapshot, node):
            coming.setdefault(node.node_type, []).append(node)
    since: dict[str, float] = {}
    for group in coming.values():
        times = sorted(snapshot.unneeded_since[n.node_id] for n in group if n.node_id in snapshot.unneeded_since)
        empty = [node for node in group if node.node_id not in needed]
        empty.sort(key=lambda node: CANCELLABLE.index(node.phase) if node.phase in CANCELLABLE else len(CANCELLABLE))
        for position, node in enumerate(empty):
            since[node.node_id] = min(times[position], now) if position < len(times) else now
    return since


def _spare_over_minimum(snapshot: Snapshot, gone: Set[str]) -> dict[str, int]:
    spare = {name: -kind.minimum for name, kind in snapshot.node_types.items()}
    for node in snapshot.nodes:
        if node.phase in STANDING and node.node_id not in gone and node.node_type in spare:
            spare[node.node_type] += 1
    return spare


def _cancel(snapshot: Snapshot, node: Node, since: Mapping[str, float], now: float) -> Drain | None:
    patience = snapshot.rules.pending_idle_s
    if node.phase not in CANCELLABLE or patience is None or node.node_id not in since:
        return None
    waited = now - since[node.node_id]
    if waited <= patience:
        return None
    facts: dict[str, Fact] = {"unneeded_s": round(waited, 1), "patience_s": patience}
    return Drain(node.node_id, DrainMethod.CANCEL, (Reason(ReasonCode.NOT_NEEDED_ANY_MORE, facts),))


def _idle(snapshot: Snapshot, node: Node, now: float) -> Drain | None:
    if node.phase is not NodePhase.RUNNING:
        return None
    kind = snapshot.node_types.get(node.node_type)
    timeout = snapshot.rules.idle_s
    if kind is not None and kind.idle_timeout_s is not None:
        timeout = kind.idle_timeout_s
    if timeout is None or node.idle_s <= timeout or _held(snapshot, node, now):
        return None
    facts: dict[str, Fact] = {"idle_s": round(node.idle_s, 1), "timeout_s": timeout, "hold_s": snapshot.rules.hold_s}
    return Drain(node.node_id, DrainMethod.IDLE, (Reason(ReasonCode.IDLE, facts),))


def _held(snapshot: Snapshot, node: Node, now: float) -> bool:
    """Whether a node has not yet been kept for the hold time, which its launch committed the money for."""
    return node.joined_at is not None and now - node.joined_at < snapshot.rules.hold_s


def _endable(snapshot: Snapshot, phases: Iterable[NodePhase]) -> Iterable[Node]:
    wanted = frozenset(phases)
    return (node for node in snapshot.nodes if node.phase in wanted and may_end(snapshot, node))


def _order_of_leaving(idle_launches: Mapping[str, float], now: float) -> Callable[[Node], tuple[bool, float, float]]:
    """Ray's order of termination: not yet running first, then idle longest, then least used."""

    def key(node: Node) -> tuple[bool, float, float]:
        idle = now - idle_launches[node.node_id] if node.node_id in idle_launches else node.idle_s
        free = dict(node.free.items)
        used = [(total - free.get(name, 0)) / total for name, total in node.total.items if total > 0]
        return (node.phase not in COMING, -idle, sum(used) / len(used) if used else 0.0)

    return key
