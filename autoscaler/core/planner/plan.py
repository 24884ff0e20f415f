"""Place the work on what stands, then buy for the rest: minimum, constraints, gangs, single requests, as Ray does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from autoscaler.core.offers import Allowance, Lot, Quote
from autoscaler.core.planner.bins import Bin, Fill, Pool, Score, gpu_column, ray_score
from autoscaler.core.planner.pack import Step, pack
from autoscaler.core.planner.shop import Basket, shop
from autoscaler.core.planner.space import Item, Space
from fabric.model.decisions import ReasonCode
from fabric.model.demand import Demand, Gang
from fabric.model.money import MicroUSD
from fabric.model.nodes import Node, NodePhase, NodeType
from fabric.model.resources import Resources

# Interchangeable nodes are used in this order, so that what is least far along stays unneeded and can be cancelled.
READINESS = {NodePhase.RUNNING: 0, NodePhase.BOOTING: 1, NodePhase.REQUESTED: 2, NodePhase.PLANNED: 3}


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be planned.

    Attributes:
        node_types: every node type by name.
        nodes: capacity that stands or is coming, and may hold this work.
        buyable: names of the types that may be bought for it.
        paying: whether they may be paid for; otherwise only credited nodes are had, except for minimums.
        minimums: nodes to add, by type, whatever the demand.
        closed: types on which, although there are minimum nodes of them, this work may not be placed.
        constraints, gangs, demands: the work.
        conserve_gpus: keep GPU nodes for GPU work where prices do not decide.
    """

    node_types: Mapping[str, NodeType]
    nodes: Sequence[Node]
    buyable: Sequence[str] = ()
    paying: bool = True
    minimums: Mapping[str, int] = field(default_factory=dict[str, int])
    closed: frozenset[str] = frozenset()
    constraints: Sequence[Demand] = ()
    gangs: Sequence[Gang] = ()
    demands: Sequence[Demand] = ()
    conserve_gpus: bool = True


@dataclass(slots=True)
class Purchase:
    """Nodes of one type that the plan buys.

    Attributes:
        node_type: which.
        count: how many.
        credited: how many of them are there already, and only counted upon.
        quote: the offer they were priced with; None where nothing has a price.
        cause: why.
        load: the shapes each of them is bought for, with counts.
    """

    node_type: str
    count: int
    credited: int
    quote: Quote | None
    cause: ReasonCode
    load: tuple[tuple[Item, int], ...] = ()


@dataclass(slots=True)
class Plan:
    """Where the work goes.

    Attributes:
        purchases: what to buy, in the order it was found to be needed.
        needed: ids of nodes that hold some of the work.
        left: requests that found no place, by position in ``Task.demands``, hardest first.
        left_gangs: positions of gangs that could not be placed whole.
        left_constraints: what of the constraints found no place; nothing is bought for any of them then.
        allowance: what may still be bought after all purchases.
    """

    allowance: Allowance

    purchases: list[Purchase] = field(default_factory=list[Purchase])
    needed: set[str] = field(default_factory=set[str])
    left: dict[int, int] = field(default_factory=dict[int, int])
    left_gangs: list[int] = field(default_factory=list[int])
    left_constraints: dict[int, int] = field(default_factory=dict[int, int])

    @property
    def nothing_left(self) -> bool:
        """Whether all of the work has its place."""
        return not (self.left or self.left_gangs or self.left_constraints)

    def cost(self) -> tuple[int, MicroUSD, int]:
        """Pieces of work left over, then price, then nodes to pay for: less is better."""
        paid = [(purchase.count - purchase.credited, purchase.quote) for purchase in self.purchases]
        return (
            sum(self.left.values()) + len(self.left_gangs) + sum(self.left_constraints.values()),
            sum(count * quote.price for count, quote in paid if quote is not None),
            sum(count for count, _ in paid),
        )


def make_plan(task: Task, allowance: Allowance) -> Plan:
    """Plan ``task`` within ``allowance``, which is not changed."""
    return _Planner(task, allowance.copy()).run()


class _Planner:
    def __init__(self, task: Task, allowance: Allowance) -> None:
        self._task, self._allowance = task, allowance
        self._space = Space(_bags(task))
        self._gpus = gpu_column(self._space, task.conserve_gpus)
        self._label_keys = _label_keys(task)
        self._plan = Plan(allowance)

    def run(self) -> Plan:
        bought = self._buy_minimums()
        if not self._task.paying:
            self._allowance = self._allowance.without_buying()
        if self._task.constraints:
            bought += self._hold_constraints(bought)
        pool = Pool(self._space, [*self._standing(of_total=False), *bought])
        for position, gang in enumerate(self._task.gangs):
            if not self._place_gang(pool, gang):
                self._plan.left_gangs.append(position)
        self._place_demands(pool)
        self._plan.allowance = self._allowance
        return self._plan

    def _buy_minimums(self) -> list[Bin]:
        bought: list[Bin] = []
        for name, wanted in self._task.minimums.items():
            lot = self._allowance.take(name, wanted)
            if lot.count:
                self._buy(name, lot, ReasonCode.MINIMUM_NODES)
                if name not in self._task.closed:
                    bought.append(self._fresh(name, lot.count))
        return bought

    def _hold_constraints(self, bought: Sequence[Bin]) -> list[Bin]:
        """``request_resources`` asks what the cluster could hold if it were empty: pack against totals, all or none."""
        items = self._space.items(self._task.constraints)
        remaining = [item.count for item in items]
        pool = Pool(self._space, [*self._standing(of_total=True), *(_copy(bin_) for bin_ in bought)])
        steps = pack(pool.bins, items, remaining, pool.fitting(items), self._score)
        basket = self._shop(items, remaining)
        if any(basket.remaining):
            self._plan.left_constraints = self._task_left(items, remaining)
            return []
        self._note_needed(pool, steps)
        self._accept(basket, items, ReasonCode.RESOURCES_REQUESTED)
        return [self._fresh(name, lot.count) for name, lot, _ in basket.lots]

    def _place_gang(self, pool: Pool, gang: Gang) -> bool:
        items = self._space.items(_grouped(gang))
        remaining = [item.count for item in items]
        steps = pack(pool.bins, items, remaining, pool.fitting(items), self._score)
        basket = self._shop(items, remaining)
        if any(basket.remaining):
            return False
        self._note_needed(pool, steps)
        self._accept(basket, items, ReasonCode.BASELINE_EXCEEDED)
        self._add_filled(pool, basket)
        return True

    def _place_demands(self, pool: Pool) -> None:
        items = self._space.items(self._task.demands)
        remaining = [item.count for item in items]
        steps = pack(pool.bins, items, remaining, pool.fitting(items), self._score)
        self._note_needed(pool, steps)
        basket = self._shop(items, remaining)
        self._accept(basket, items, ReasonCode.BASELINE_EXCEEDED)
        self._plan.left = self._task_left(items, basket.remaining)

    def _shop(self, items: Sequence[Item], remaining: Sequence[int]) -> Basket:
        if not any(remaining) or not self._task.buyable:
            return Basket(list(remaining), [], self._allowance)
        shelf = [self._fresh(name, self._allowance.room(name)) for name in self._task.buyable]
        shelf = [bin_ for bin_ in shelf if bin_.room > 0]
        return shop(self._space, shelf, items, remaining, self._allowance, self._score)

    def _accept(self, basket: Basket, items: Sequence[Item], cause: ReasonCode) -> None:
        self._allowance = basket.allowance
        for name, lot, filled in basket.lots:
            self._buy(name, lot, cause, tuple((items[position], taken) for position, taken in filled.takes))

    def _buy(self, name: str, lot: Lot, cause: ReasonCode, load: tuple[tuple[Item, int], ...] = ()) -> None:
        self._plan.purchases.append(Purchase(name, lot.count, lot.credited, lot.quote, cause, load))

    def _add_filled(self, pool: Pool, basket: Basket) -> None:
        for name, lot, filled in basket.lots:
            row = len(pool.bins)
            pool.add(self._fresh(name, lot.count))
            pool.use(row, lot.count, filled)

    def _note_needed(self, pool: Pool, steps: Sequence[Step]) -> None:
        for step in steps:
            for position in pool.use(step.row, step.nodes, step.filled):
                self._plan.needed.add(self._task.nodes[position].node_id)

    def _standing(self, *, of_total: bool) -> list[Bin]:
        groups: dict[tuple[object, ...], list[int]] = {}
        for position, node in enumerate(self._task.nodes):
            key = (
                node.node_type,
                node.total,
                node.total if of_total else node.free,
                self._seen_labels(node.labels),
                node.marks,
            )
            groups.setdefault(key, []).append(position)
        return [self._standing_group(members, of_total) for members in groups.values()]

    def _standing_group(self, members: list[int], of_total: bool) -> Bin:
        nodes = self._task.nodes
        first = nodes[members[0]]
        kind = self._task.node_types.get(first.node_type)
        return Bin(
            node_type=first.node_type,
            free=self._space.free(first.total if of_total else first.free),
            total=self._space.total(first.total),
            members=sorted(members, key=lambda position: READINESS.get(nodes[position].phase, 9)),
            room=len(members),
            tier=1.0 if kind is not None and not kind.launchable else 0.0,
            tail=_tail(kind),
            labels=dict(self._seen_labels(first.labels)),
            marks=frozenset(first.marks),
        )

    def _fresh(self, name: str, room: int) -> Bin:
        kind = self._task.node_types[name]
        return Bin(
            node_type=name,
            free=self._space.free(kind.resources),
            total=self._space.total(kind.resources),
            members=[],
            room=room,
            tail=_tail(kind),
            labels=dict(self._seen_labels(kind.labels)),
        )

    def _seen_labels(self, labels: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
        """The labels that anything in this task looks at. Ray gives each node a label with its own id."""
        return tuple((key, labels[key]) for key in self._label_keys if key in labels)

    def _score(self, bin_: Bin, filled: Fill) -> Score:
        return ray_score(bin_, filled, self._gpus)

    @staticmethod
    def _task_left(items: Sequence[Item], remaining: Sequence[int]) -> dict[int, int]:
        return {item.source: left for item, left in zip(items, remaining, strict=True) if left > 0}


def _grouped(gang: Gang) -> list[Demand]:
    counts: dict[object, int] = {}
    for shape in gang.bundles:
        counts[shape] = counts.get(shape, 0) + 1
    return [Demand(shape, counts[shape]) for shape in dict.fromkeys(gang.bundles)]


def _bags(task: Task) -> set[Resources]:
    found = {demand.shape.resources for demand in (*task.constraints, *task.demands)}
    found.update(shape.resources for gang in task.gangs for shape in gang.bundles)
    found.update(kind.resources for kind in task.node_types.values())
    for node in task.nodes:
        found.add(node.total)
        found.add(node.free)
    return found


def _label_keys(task: Task) -> tuple[str, ...]:
    shapes = [demand.shape for demand in (*task.constraints, *task.demands)]
    shapes.extend(shape for gang in task.gangs for shape in gang.bundles)
    keys = {c.key for shape in shapes for selector in shape.selectors for c in selector.constraints}
    keys.update(mark.name for shape in shapes for mark in shape.anti_affinity)
    return tuple(sorted(keys))


def _tail(kind: NodeType | None) -> tuple[float, float, float]:
    return (1.0, 0.0, 1.0) if kind is None else (kind.recovering, float(kind.priority), kind.availability)


def _copy(bin_: Bin) -> Bin:
    return Bin(
        node_type=bin_.node_type,
        free=bin_.free.copy(),
        total=bin_.total,
        members=list(bin_.members),
        room=bin_.room,
        tier=bin_.tier,
        tail=bin_.tail,
        labels=bin_.labels,
        marks=bin_.marks,
    )
