"""One tick's decision, as a pure and total function: the same in production, in ``fabric why`` and in every test.

Read ``decide`` from top to bottom; each step has its module.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from autoscaler.core import baseline, drain
from autoscaler.core.offers import Allowance, Quote, quotes_by_type
from autoscaler.core.planner.plan import Plan, Task, make_plan
from autoscaler.core.policies.base import Policy, Waiting, Worth
from autoscaler.core.report import Findings, launches_of, refusals_of, spend_per_hour
from autoscaler.core.snapshot import Snapshot
from fabric.model.decisions import Decision, QueueDepth
from fabric.model.demand import Demand, Shape
from fabric.model.nodes import Node, NodePhase, NodeType
from fabric.model.resources import UNITS


def decide(snapshot: Snapshot, policy: Policy, now: float) -> Decision:
    """Decide what to buy and what to give back.

    Args:
        snapshot: the world; all that the decision depends on besides ``now``.
        policy: which waiting work is worth buying for.
        now: Unix seconds.
    """
    leaving = drain.leaving(snapshot, now)
    gone = {node.node_id for node in leaving}

    # 1. Sovereignty: where may the work go at all? Everything below sees only those places.
    allowed = [kind for kind in snapshot.node_types.values() if _may_leave_to(snapshot, kind)]
    usable = _by_type(node for node in snapshot.nodes if _usable(snapshot, node) and node.node_id not in gone)

    # 2. Ghost demand: what fits on nodes that stand or are coming is no demand. Home is filled first.
    quotes = quotes_by_type(snapshot.offers, snapshot.refused, snapshot.rules.hold_s, now)
    allowance = _allowance(snapshot, quotes)
    ghost_task = Task(
        node_types=snapshot.node_types,
        nodes=usable,
        minimums=_missing_minimums(snapshot, gone),
        constraints=snapshot.constraints,
        gangs=snapshot.gangs,
        demands=snapshot.demands,
        conserve_gpus=snapshot.rules.conserve_gpus,
    )
    ghost = make_plan(ghost_task, allowance)

    # 3. Queue depth: what is left, counted where somebody could be paid to run it.
    findings = Findings.of(snapshot, ghost, allowed)
    depth = _queue_depth(snapshot, findings)

    # 4. Baseline: is the queue deep enough, for long enough?
    state = baseline.advance(snapshot.baseline, snapshot.rules.baseline, snapshot.rules.close_for_s, depth, now)
    is_open = state.open_since is not None and not snapshot.stopping

    # 5. Policy: which of the waiting work is worth buying for? Then buy, within maxima and budgets.
    waiting = Waiting(findings.demands, findings.gangs, bool(findings.constraints), depth, is_open, now)
    worth = policy.worth_buying(waiting, snapshot) if is_open else Worth()
    plan = _buy(ghost_task, ghost, worth, [kind.name for kind in allowed], allowance) if worth else ghost

    # 6. Drain: what nobody needs is given back, least disruptive first.
    needed = {usable[position].node_id for position in plan.needed}
    spare, unneeded_since = drain.unneeded(snapshot, needed, gone, now)
    drains = drain.least_disruptive_first([*leaving, *spare])

    launches = launches_of(snapshot, plan, quotes, allowed, depth, state)
    refused = refusals_of(snapshot, findings, plan, worth, is_open)
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


def _by_type(nodes: Iterable[Node]) -> list[Node]:
    """Nodes of one type together, types in the order in which they appear: Ray's order between equals."""
    groups: dict[str, list[Node]] = {}
    for node in nodes:
        groups.setdefault(node.node_type, []).append(node)
    return [node for group in groups.values() for node in group]


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
    return Allowance(rooms, total, quotes if snapshot.offers or snapshot.priced else None, snapshot.budgets)


def _missing_minimums(snapshot: Snapshot, gone: set[str]) -> dict[str, int]:
    standing: dict[str, int] = {}
    for node in snapshot.nodes:
        if node.phase in drain.STANDING and node.node_id not in gone:
            standing[node.node_type] = standing.get(node.node_type, 0) + 1
    return {
        name: kind.minimum - standing.get(name, 0)
        for name, kind in snapshot.node_types.items()
        if kind.launchable and kind.minimum > standing.get(name, 0)
    }


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


def _buy(task: Task, ghost: Plan, worth: Worth, buyable: Sequence[str], allowance: Allowance) -> Plan:
    """Plan again, with buying, for what is placed anyway and what is worth buying for."""
    waits = set(ghost.left_gangs) - set(worth.gangs)
    gangs = [(position, gang) for position, gang in enumerate(task.gangs) if position not in waits]
    demands = [
        Demand(demand.shape, demand.count - ghost.left.get(index, 0) + worth.demands.get(index, 0))
        for index, demand in enumerate(task.demands)
    ]
    plan = make_plan(
        replace(
            task,
            buyable=buyable,
            constraints=() if ghost.left_constraints and not worth.constraints else task.constraints,
            gangs=[gang for _, gang in gangs],
            demands=demands,
        ),
        allowance,
    )
    plan.left_gangs = sorted({gangs[position][0] for position in plan.left_gangs} | waits)
    for index, left in ghost.left.items():
        still = left - worth.demands.get(index, 0)
        if still:
            plan.left[index] = plan.left.get(index, 0) + still
    if ghost.left_constraints and not worth.constraints:
        plan.left_constraints = ghost.left_constraints
    return plan
