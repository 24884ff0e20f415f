"""One tick's decision, as a pure and total function: the same in production, in ``fabric why`` and in every test.

Read ``decide`` from top to bottom; each step has its module.
"""

from __future__ import annotations

from collections.abc import Sequence

from autoscaler.core import baseline, drain
from autoscaler.core.leaving import held_to_their_sites
from autoscaler.core.offers import Allowance, Quote, quotes_by_type
from autoscaler.core.planning import planning
from autoscaler.core.policies.base import Policy, Waiting, Worth
from autoscaler.core.report import Findings, launches_of, refusals_of, spend_per_hour
from autoscaler.core.snapshot import Snapshot
from fabric.model.decisions import Decision, QueueDepth
from fabric.model.demand import Shape
from fabric.model.nodes import Node, NodePhase, NodeType
from fabric.model.resources import UNITS


def decide(snapshot: Snapshot, policy: Policy, now: float) -> Decision:
    """Decide what to buy and what to give back.

    Args:
        snapshot: the world; all that the decision depends on besides ``now``.
        policy: which waiting work is worth buying for.
        now: Unix seconds.
    """
    snapshot, as_asked = held_to_their_sites(snapshot)
    leaving = drain.leaving(snapshot, now)
    gone = {node.node_id for node in leaving}

    # 1. Sovereignty: where may the work go at all? Everything below sees only those places.
    allowed = [kind for kind in snapshot.node_types.values() if _may_leave_to(snapshot, kind)]
    usable = [node for node in snapshot.nodes if _usable(snapshot, node) and node.node_id not in gone]

    # 2. Ghost demand: what fits on nodes that stand or are coming is no demand. Home is filled first.
    quotes = quotes_by_type(snapshot.offers, snapshot.refused, snapshot.rules.hold_s, now)
    allowance = _allowance(snapshot, quotes)
    plans = planning(snapshot, usable, gone, allowed, allowance)
    ghost = plans.ghost()

    # 3. Queue depth: what is left, counted where somebody could be paid to run it.
    findings = Findings.of(snapshot, ghost, allowed)
    depth = _queue_depth(snapshot, findings)

    # 4. Baseline: is the queue deep enough, for long enough?
    state = baseline.advance(snapshot.baseline, snapshot.rules.baseline, snapshot.rules.close_for_s, depth, now)
    is_open = state.open_since is not None and not snapshot.stopping

    # 5. Policy: which of the waiting work is worth buying for? Then buy, within maxima and budgets.
    waiting = Waiting(findings.demands, findings.gangs, bool(findings.constraints), depth, is_open, now)
    worth = policy.worth_buying(waiting, snapshot) if is_open else Worth()
    plan = plans.buying(ghost, worth) if worth else ghost

    # 6. Drain: what nobody needs is given back, least disruptive first.
    spare, unneeded_since = drain.unneeded(snapshot, plan.needed, gone, now)
    drains = drain.least_disruptive_first([*leaving, *spare])

    launches = launches_of(snapshot, plan, quotes, allowed, depth, state)
    refused = refusals_of(snapshot, findings, plan, worth, is_open, as_asked)
    return Decision(
        at=now,
        launches=launches,
        drains=drains,
        refusals=refused.refusals,
        depth=depth,
        baseline=state,
        infeasible_demands=refused.infeasible_demands,
        infeasible_gangs=refused.infeasible_gangs,
        infeasible_constraints=refused.infeasible_constraints,
        spend_per_hour=spend_per_hour(snapshot, launches, drains),
        unneeded_since=unneeded_since,
    )


def _may_leave_to(snapshot: Snapshot, kind: NodeType) -> bool:
    """Whether a node type is off-prem, and on a site to which work may go. Home is not left, so not here."""
    return kind.launchable and (snapshot.may_leave_to is None or kind.site in snapshot.may_leave_to)


def _usable(snapshot: Snapshot, node: Node) -> bool:
    """Whether a node stands or is coming at a place where this work may run."""
    if node.phase not in drain.STANDING:
        return False
    kind = snapshot.node_types.get(node.node_type)
    if kind is None:
        return snapshot.may_leave_to is None
    return not kind.launchable or _may_leave_to(snapshot, kind)


def _allowance(snapshot: Snapshot, quotes: dict[str, tuple[Quote, ...]]) -> Allowance:
    if snapshot.stopping:
        return Allowance({}, 0, None, ())
    alive = [node for node in snapshot.nodes if node.phase is not NodePhase.DEAD]
    counts: dict[str, int] = {}
    for node in alive:
        counts[node.node_type] = counts.get(node.node_type, 0) + 1
    rooms = {
        name: max(0, kind.maximum - counts.get(name, 0)) if kind.launchable else 0
        for name, kind in snapshot.node_types.items()
    }
    maximum = snapshot.rules.maximum_nodes
    total = None if maximum is None else max(0, maximum - len(alive))
    prices = quotes if snapshot.offers or snapshot.priced else None
    sites = {name: kind.site for name, kind in snapshot.node_types.items()}
    return Allowance(rooms, total, prices, snapshot.budgets, sites)


def _queue_depth(snapshot: Snapshot, findings: Findings) -> QueueDepth:
    """Waiting work as GPUs, CPUs and requests.

    What ``request_resources`` still lacks and what waits in the queue may be the same work, so the larger counts.
    """
    queue = [(snapshot.demands[index].shape, count) for index, count in findings.demands.items()]
    queue += [(shape, 1) for position in findings.gangs for shape in snapshot.gangs[position].bundles]
    asked = [(snapshot.constraints[index].shape, count) for index, count in findings.constraints.items()]
    return QueueDepth(
        gpus=max(_sum(queue, "GPU"), _sum(asked, "GPU")),
        cpus=max(_sum(queue, "CPU"), _sum(asked, "CPU")),
        requests=max(sum(count for _, count in queue), sum(count for _, count in asked)),
    )


def _sum(work: Sequence[tuple[Shape, int]], resource: str) -> float:
    return sum(shape.resources.get(resource) * count for shape, count in work) / UNITS
