"""Planning one tick's work: without buying, to see what is left, and with buying, for what is worth it.

Greedy packing has a trap. It bought a node for some gang, and in the next tick, with that node in sight, it packs
in another order, puts other work there, and buys once more. So there are two ways to plan, and the better counts:

* *as it stands*: every node is packed into as it is, coming ones too. This is what Ray does.
* *as if anew*: nodes that are coming, or are there and unused, are taken out, the purchases for everything are
  worked out again, and those nodes are then counted against them by type. What was bought in the last tick
  is what comes out again, so nothing is left to pay.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from autoscaler.core.drain import COMING, STANDING
from autoscaler.core.offers import Allowance
from autoscaler.core.planner.plan import READINESS, Plan, Task, make_plan
from autoscaler.core.policies.base import Worth
from autoscaler.core.snapshot import Snapshot
from fabric.model.demand import Demand
from fabric.model.nodes import Node, NodePhase, NodeType


@dataclass(frozen=True, slots=True)
class Planning:
    """Both ways of planning.

    Attributes:
        standing: the work on every node as it is.
        anew: the same without the nodes that ``spares`` holds; None if there are none.
        spares: ids of coming and unused nodes by type, those to be used first first.
        buyable: node types that may be bought for this work.
        allowance: how much may be bought.
    """

    standing: Task
    anew: Task | None
    spares: Mapping[str, Sequence[str]]
    buyable: Sequence[str]
    allowance: Allowance

    def ghost(self) -> Plan:
        """Place the work without buying for it; what is left is the queue. Minimum nodes are bought all the same."""
        plan = make_plan(self.standing, self.allowance)
        if plan.nothing_left or self.anew is None:
            return plan
        again = self._counted(replace(self.anew, buyable=tuple(self.spares), paying=False))
        return again if _better(again, plan) else plan

    def buying(self, ghost: Plan, worth: Worth) -> Plan:
        """Plan again, with buying, for what is placed anyway and what is worth buying for."""
        plan = self._buying(self.standing, ghost, worth)
        if not plan.cost()[2] or self.anew is None:
            return plan
        again = self._buying(self.anew, ghost, worth)
        return again if _better(again, plan) else plan

    def _buying(self, task: Task, ghost: Plan, worth: Worth) -> Plan:
        waits = set(ghost.left_gangs) - set(worth.gangs)
        gangs = [(position, gang) for position, gang in enumerate(task.gangs) if position not in waits]
        skip_constraints = bool(ghost.left_constraints) and not worth.constraints
        task = replace(
            task,
            buyable=self.buyable,
            constraints=() if skip_constraints else task.constraints,
            gangs=[gang for _, gang in gangs],
            demands=[
                Demand(demand.shape, demand.count - ghost.left.get(index, 0) + worth.demands.get(index, 0))
                for index, demand in enumerate(task.demands)
            ],
        )
        plan = make_plan(task, self.allowance) if task.nodes is self.standing.nodes else self._counted(task)
        plan.left_gangs = sorted({gangs[position][0] for position in plan.left_gangs} | waits)
        for index, left in ghost.left.items():
            still = left - worth.demands.get(index, 0)
            if still:
                plan.left[index] = plan.left.get(index, 0) + still
        if skip_constraints:
            plan.left_constraints = ghost.left_constraints
        return plan

    def _counted(self, task: Task) -> Plan:
        """Plan with the spare nodes counted upon, and note which of them are needed."""
        plan = make_plan(task, self.allowance.crediting({name: len(ids) for name, ids in self.spares.items()}))
        used: dict[str, int] = {}
        for purchase in plan.purchases:
            used[purchase.node_type] = used.get(purchase.node_type, 0) + purchase.credited
        for name, count in used.items():
            plan.needed.update(self.spares.get(name, ())[:count])
        return plan


def planning(
    snapshot: Snapshot, usable: Sequence[Node], gone: set[str], allowed: Sequence[NodeType], allowance: Allowance
) -> Planning:
    """Set up the planning of one tick.

    Args:
        snapshot: the world.
        usable: nodes on which the work may be placed.
        gone: ids of nodes that leave.
        allowed: node types that may be bought for the work.
        allowance: how much may be bought.
    """
    standing = Task(
        node_types=snapshot.node_types,
        nodes=_by_type(usable),
        minimums=_missing_minimums(snapshot, gone),
        closed=frozenset(snapshot.node_types).difference(kind.name for kind in allowed),
        constraints=snapshot.constraints,
        gangs=snapshot.gangs,
        demands=snapshot.demands,
        conserve_gpus=snapshot.rules.conserve_gpus,
    )
    buyable = [kind.name for kind in allowed]
    spares: dict[str, list[Node]] = {}
    for node in usable:
        if node.node_type in buyable and _as_new(node, snapshot.node_types[node.node_type]):
            spares.setdefault(node.node_type, []).append(node)
    if not spares:
        return Planning(standing, None, {}, buyable, allowance)
    taken = {node.node_id for group in spares.values() for node in group}
    anew = replace(
        standing,
        nodes=[node for node in standing.nodes if node.node_id not in taken],
        minimums=_missing_minimums(snapshot, gone | taken),
    )
    ids = {
        name: [node.node_id for node in sorted(group, key=lambda node: READINESS[node.phase])]
        for name, group in spares.items()
    }
    return Planning(standing, anew, ids, buyable, allowance)


def _better(one: Plan, other: Plan) -> bool:
    """Whether a plan leaves no more work, costs no more and buys no more nodes than another, and one of them less."""
    costs = list(zip(one.cost(), other.cost(), strict=True))
    return all(mine <= theirs for mine, theirs in costs) and any(mine < theirs for mine, theirs in costs)


def _as_new(node: Node, kind: NodeType) -> bool:
    """Whether a node is, for the planner, the same as one of its type that is bought now."""
    return (
        (node.phase in COMING or node.phase is NodePhase.RUNNING)
        and node.free == node.total == kind.resources
        and not node.marks
        and all(node.labels.get(key) == value for key, value in kind.labels.items())
    )


def _by_type(nodes: Iterable[Node]) -> list[Node]:
    """Nodes of one type together, types in the order in which they appear: Ray's order between equals."""
    groups: dict[str, list[Node]] = {}
    for node in nodes:
        groups.setdefault(node.node_type, []).append(node)
    return [node for group in groups.values() for node in group]


def _missing_minimums(snapshot: Snapshot, gone: set[str]) -> dict[str, int]:
    standing: dict[str, int] = {}
    for node in snapshot.nodes:
        if node.phase in STANDING and node.node_id not in gone:
            standing[node.node_type] = standing.get(node.node_type, 0) + 1
    return {
        name: kind.minimum - standing.get(name, 0)
        for name, kind in snapshot.node_types.items()
        if kind.launchable and kind.minimum > standing.get(name, 0)
    }
