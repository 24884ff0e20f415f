"""From a plan to the decision's words: launches with offers, what was not bought and why, what it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from autoscaler.core.offers import Allowance, Quote
from autoscaler.core.planner.plan import Plan, Purchase, Task, make_plan
from autoscaler.core.planner.space import could_hold
from autoscaler.core.policies.base import Worth
from autoscaler.core.snapshot import Snapshot
from fabric.model.decisions import BaselineState, Drain, Fact, Launch, QueueDepth, Reason, ReasonCode, Refusal
from fabric.model.demand import Demand, Gang, Shape
from fabric.model.money import MicroUSD
from fabric.model.nodes import NodePhase, NodeType

# Reasons for which nothing that exists or may be bought will ever hold the work: Ray calls it infeasible.
HOPELESS = frozenset({ReasonCode.INFEASIBLE, ReasonCode.MAXIMUM_NODES})


@dataclass(frozen=True, slots=True)
class Findings:
    """Work that found no place and may be bought for, by position in the snapshot.

    Attributes:
        demands, constraints: requests left, of those that some node type off-prem could hold.
        gangs: gangs of which every bundle could be held by one.
        holders: by shape, the node types off-prem to which it may go and which could hold it.
    """

    demands: Mapping[int, int]
    gangs: tuple[int, ...]
    constraints: Mapping[int, int]
    holders: Mapping[Shape, tuple[str, ...]]

    @staticmethod
    def of(snapshot: Snapshot, ghost: Plan, allowed: Sequence[NodeType]) -> Findings:
        """Look at what a plan without buying left over."""
        shapes = {snapshot.demands[index].shape for index in ghost.left}
        shapes.update(snapshot.constraints[index].shape for index in ghost.left_constraints)
        shapes.update(shape for position in ghost.left_gangs for shape in snapshot.gangs[position].bundles)
        holders = {shape: tuple(kind.name for kind in allowed if could_hold(kind, [(shape, 1)])) for shape in shapes}
        return Findings(
            demands={i: n for i, n in ghost.left.items() if holders[snapshot.demands[i].shape]},
            gangs=tuple(
                position
                for position in ghost.left_gangs
                if all(holders[shape] for shape in snapshot.gangs[position].bundles)
            ),
            constraints={i: n for i, n in ghost.left_constraints.items() if holders[snapshot.constraints[i].shape]},
            holders=holders,
        )


@dataclass(slots=True)
class Refused:
    """What was not done, and the part of it that is infeasible; fields as in ``Decision``."""

    refusals: tuple[Refusal, ...] = ()
    infeasible_demands: tuple[tuple[int, int], ...] = ()
    infeasible_gangs: tuple[str, ...] = ()
    infeasible_constraints: bool = False


@dataclass(slots=True)
class _Order:
    """All nodes of one type that the plan buys."""

    count: int = 0
    quotes: list[Quote] = field(default_factory=list[Quote])
    causes: dict[ReasonCode, int] = field(default_factory=dict[ReasonCode, int])
    loads: list[tuple[tuple[Shape, int], ...]] = field(default_factory=list[tuple[tuple[Shape, int], ...]])


def launches_of(
    snapshot: Snapshot,
    plan: Plan,
    quotes: Mapping[str, Sequence[Quote]],
    allowed: Sequence[NodeType],
    depth: QueueDepth,
    state: BaselineState,
) -> tuple[Launch, ...]:
    """One launch per node type, with the offers to try in order and the reasons."""
    orders: dict[str, _Order] = {}
    for purchase in plan.purchases:
        if purchase.count > purchase.credited:
            _add(orders.setdefault(purchase.node_type, _Order()), purchase)
    return tuple(
        Launch(
            node_type=name,
            count=order.count,
            offers=_offers_to_try(name, order, plan.allowance, quotes, allowed),
            reasons=_reasons(snapshot, name, order, depth, state),
        )
        for name, order in orders.items()
    )


def refusals_of(
    snapshot: Snapshot,
    findings: Findings,
    plan: Plan,
    worth: Worth,
    is_open: bool,
    as_asked: Mapping[Shape, Shape] = MappingProxyType({}),
) -> Refused:
    """Why each piece of work that found no place is not bought for, and other facts worth saying.

    Args:
        snapshot: the world.
        findings: what found no place without buying.
        plan: what found none with it.
        worth: what the policy would have bought for.
        is_open: whether the baseline lets anything be bought.
        as_asked: shapes that were held to the default's sites, to what was asked for.
    """
    why = _Why(snapshot, findings, plan, is_open, as_asked)
    refused = Refused(refusals=(*_facts(snapshot), *why.queue()))
    for index, left in plan.left.items():
        demand = snapshot.demands[index]
        codes = why.codes([demand.shape], wanted=index in worth.demands)
        if _hopeless(codes) and not why.fits_at_home(demand.shape):
            refused.infeasible_demands += ((index, left),)
        if ReasonCode.BELOW_BASELINE not in codes:
            reasons = _explain(codes, {"requests": left, "resources": _words(demand.shape)})
            refused.refusals += (Refusal(f"{left} x {describe(demand.shape)}", reasons),)
    for position in plan.left_gangs:
        gang = snapshot.gangs[position]
        codes = why.gang_codes(gang, wanted=position in worth.gangs)
        if _hopeless(codes):
            refused.infeasible_gangs += (gang.gang_id,)
        if ReasonCode.BELOW_BASELINE not in codes:
            facts: dict[str, Fact] = {"bundles": len(gang.bundles), "strategy": gang.strategy.value}
            refused.refusals += (Refusal(f"gang {gang.gang_id}", _explain(codes, facts)),)
    if plan.left_constraints:
        shapes = [snapshot.constraints[index].shape for index in plan.left_constraints]
        codes = why.codes(shapes, wanted=worth.constraints)
        refused.infeasible_constraints = _hopeless(codes)
        if ReasonCode.BELOW_BASELINE not in codes:
            facts = {"requests": sum(plan.left_constraints.values())}
            refused.refusals += (Refusal("request_resources", _explain(codes, facts)),)
    return refused


def spend_per_hour(snapshot: Snapshot, launches: Sequence[Launch], drains: Sequence[Drain]) -> MicroUSD:
    """Micro-USD per hour of all burst nodes once this decision is carried out, as far as prices are known."""
    prices = {offer.offer_id: offer.tariff.per_hour for offer in snapshot.offers}
    ended = {drain.node_id for drain in drains}
    kept = (node for node in snapshot.nodes if node.node_id not in ended and node.phase is not NodePhase.DEAD)
    return sum(prices.get(node.offer_id, 0) for node in kept) + sum(
        prices.get(launch.offers[0], 0) * launch.count for launch in launches if launch.offers
    )


def describe(shape: Shape) -> str:
    """A shape for people: ``{CPU: 1, GPU: 0.5}``."""
    return "{" + ", ".join(word.replace("=", ": ", 1) for word in _words(shape)) + "}"


class _Why:
    """Reasons for work that found no place, worked out once per shape."""

    def __init__(
        self, snapshot: Snapshot, findings: Findings, plan: Plan, is_open: bool, as_asked: Mapping[Shape, Shape]
    ) -> None:
        self._snapshot, self._findings, self._plan = snapshot, findings, plan
        self._as_asked = as_asked
        self._is_open = is_open
        self._home = [kind for kind in snapshot.node_types.values() if not kind.launchable]
        self._away = [kind for kind in snapshot.node_types.values() if kind.launchable]

    def queue(self) -> tuple[Refusal, ...]:
        """What is true of the queue as a whole."""
        findings = self._findings
        if not (self._snapshot.demands or self._snapshot.gangs or self._snapshot.constraints):
            return ()
        if self._plan.nothing_left and not self._plan.cost()[2]:
            return (Refusal("queue", (Reason(ReasonCode.FITS_AT_HOME),)),)
        if self._is_open or self._snapshot.stopping:
            return ()
        if findings.demands or findings.gangs or findings.constraints:
            return (Refusal("queue", (Reason(ReasonCode.BELOW_BASELINE, _baseline_facts(self._snapshot)),)),)
        return ()

    def codes(self, shapes: Sequence[Shape], *, wanted: bool) -> tuple[ReasonCode, ...]:
        """Why requests of these shapes, which go together, are not bought for."""
        holders = [self._holders(shape) for shape in shapes]
        if not all(holders):
            return self._nowhere([shape for shape, names in zip(shapes, holders, strict=True) if not names])
        if self._snapshot.stopping:
            return (ReasonCode.DRAINING_FABRIC,)
        if not self._is_open or not wanted:
            return (ReasonCode.BELOW_BASELINE,)
        names = dict.fromkeys(name for group in holders for name in group)
        return tuple(dict.fromkeys(self._plan.allowance.why_not(name) for name in names))

    def gang_codes(self, gang: Gang, *, wanted: bool) -> tuple[ReasonCode, ...]:
        """Why a gang is not bought for; one that would fit an empty home waits for that."""
        codes = self.codes(gang.bundles, wanted=wanted)
        if not _hopeless(codes) or not self._fits_empty_home(gang):
            return codes
        return (ReasonCode.FITS_AT_HOME,)

    def fits_at_home(self, shape: Shape) -> bool:
        """Whether an empty on-prem node could hold one such request."""
        return any(could_hold(kind, [(shape, 1)]) for kind in self._home)

    def _holders(self, shape: Shape) -> tuple[str, ...]:
        known = self._findings.holders.get(shape)
        if known is not None:
            return known
        allowed = self._snapshot.may_leave_to
        return tuple(
            kind.name
            for kind in self._away
            if (allowed is None or kind.site in allowed) and could_hold(kind, [(shape, 1)])
        )

    def _nowhere(self, shapes: Sequence[Shape]) -> tuple[ReasonCode, ...]:
        """Why there is no place off-prem for these shapes: it is forbidden, or nothing is large enough."""
        asked = [self._as_asked.get(shape, shape) for shape in shapes]
        forbidden = all(any(could_hold(kind, [(shape, 1)]) for kind in self._away) for shape in asked)
        at_home = all(self.fits_at_home(shape) for shape in shapes)
        if at_home:
            return (ReasonCode.STAYS_HOME,) if forbidden else (ReasonCode.FITS_AT_HOME,)
        return (ReasonCode.STAYS_HOME, ReasonCode.INFEASIBLE) if forbidden else (ReasonCode.INFEASIBLE,)

    def _fits_empty_home(self, gang: Gang) -> bool:
        home = {kind.name for kind in self._home}
        nodes = [n for n in self._snapshot.nodes if n.node_type in home and n.phase is not NodePhase.DEAD]
        if not nodes:
            return False
        bundles = [Demand(shape, 1) for shape in gang.bundles]
        task = Task(node_types=self._snapshot.node_types, nodes=nodes, constraints=bundles)
        return not make_plan(task, Allowance({}, 0, None, ())).left_constraints


def _add(order: _Order, purchase: Purchase) -> None:
    order.count += purchase.count - purchase.credited
    if purchase.quote is not None and purchase.quote not in order.quotes:
        order.quotes.append(purchase.quote)
    order.causes[purchase.cause] = order.causes.get(purchase.cause, 0) + purchase.count - purchase.credited
    order.loads.append(tuple((item.shape, count) for item, count in purchase.load))


def _offers_to_try(
    name: str,
    order: _Order,
    allowance: Allowance,
    quotes: Mapping[str, Sequence[Quote]],
    allowed: Sequence[NodeType],
) -> tuple[str, ...]:
    if not order.quotes:
        return ()
    others: list[Quote] = list(quotes.get(name, ()))
    if ReasonCode.MINIMUM_NODES not in order.causes:  # the minimum is of this very type
        for kind in allowed:
            if kind.name != name and all(could_hold(kind, load) for load in order.loads):
                others.extend(quotes.get(kind.name, ()))
    others.sort(key=lambda quote: (quote.price, quote.offer.offer_id))
    dearest = max(order.quotes, key=lambda quote: quote.commitment)
    chain = allowance.extend(others, dearest, order.count)
    planned = [quote.offer.offer_id for quote in order.quotes]
    return (*planned, *(offer_id for offer_id in chain if offer_id not in planned))


def _reasons(
    snapshot: Snapshot, name: str, order: _Order, depth: QueueDepth, state: BaselineState
) -> tuple[Reason, ...]:
    reasons: list[Reason] = []
    for cause, count in order.causes.items():
        facts: dict[str, Fact] = {"nodes": count}
        if cause is ReasonCode.MINIMUM_NODES:
            facts["minimum"] = snapshot.node_types[name].minimum
        elif cause is ReasonCode.BASELINE_EXCEEDED:
            facts.update(_threshold_facts(snapshot, depth, state))
        reasons.append(Reason(cause, facts))
    for quote in order.quotes[:1]:
        offer = quote.offer
        cheapest: dict[str, Fact] = {"offer": offer.offer_id, "per_hour_micro_usd": offer.tariff.per_hour}
        reasons.append(Reason(ReasonCode.CHEAPEST_OFFER, cheapest))
        refused = {refusal.offer_id for refusal in snapshot.refused}
        passed = tuple(o.offer_id for o in snapshot.offers if o.node_type == name and o.offer_id in refused)
        if passed and offer.offer_id not in passed:
            reasons.append(Reason(ReasonCode.FAILED_OVER, {"refused": passed, "instead": offer.offer_id}))
    return tuple(reasons)


def _threshold_facts(snapshot: Snapshot, depth: QueueDepth, state: BaselineState) -> dict[str, Fact]:
    facts: dict[str, Fact] = {"gpus": depth.gpus, "cpus": depth.cpus, "requests": depth.requests}
    index = state.open_threshold
    if index is not None and index < len(snapshot.rules.baseline):
        threshold = snapshot.rules.baseline[index]
        facts |= {
            "threshold_gpus": threshold.gpus,
            "threshold_cpus": threshold.cpus,
            "threshold_for_s": threshold.for_s,
        }
    return facts


def _baseline_facts(snapshot: Snapshot) -> dict[str, Fact]:
    """The baseline, but not the depth: a receipt must not change with every task that comes and goes."""
    return {
        "thresholds": tuple(
            " and ".join(
                [f"{amount:g} {unit}" for amount, unit in ((t.gpus, "GPUs"), (t.cpus, "CPUs")) if amount]
                or ["anything"]
            )
            + f" for {t.for_s:g} s"
            for t in snapshot.rules.baseline
        )
    }


def _facts(snapshot: Snapshot) -> tuple[Refusal, ...]:
    home = {name for name, kind in snapshot.node_types.items() if not kind.launchable}
    return tuple(
        Refusal(node.node_id, (Reason(ReasonCode.ONPREM_NODE_DEAD, {"node_type": node.node_type}),))
        for node in snapshot.nodes
        if node.phase is NodePhase.DEAD and node.node_type in home
    )


def _hopeless(codes: Sequence[ReasonCode]) -> bool:
    return ReasonCode.INFEASIBLE in codes or (bool(codes) and all(code in HOPELESS for code in codes))


def _explain(codes: Sequence[ReasonCode], facts: Mapping[str, Fact]) -> tuple[Reason, ...]:
    return tuple(Reason(code, facts) for code in codes)


def _words(shape: Shape) -> tuple[str, ...]:
    return tuple(f"{name}={value:g}" for name, value in shape.resources.to_dict().items())
