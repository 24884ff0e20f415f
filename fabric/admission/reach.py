"""Which sites a kind of job may use, whether it could ever fit there, and what that costs. Looked up once a kind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from fabric.admission.asks import ASSUMED_RUNTIME_S, Ask, Kind
from fabric.admission.space import SAFE, Amounts, Space, Where, slots, take_away, worker_nodes
from fabric.admission.spend import run_cost
from fabric.admission.values import Away, Capacity, ClassRules, DatasetRules, QueueRules
from fabric.model.labels import LABEL_MARKET, LABEL_NODE_TYPE, LABEL_SITE, Constraint, Operator, Selector
from fabric.model.money import MicroUSD
from fabric.model.nodes import NodeType, Offer
from fabric.model.resources import Resources

_GB = 1000**3
_NOWHERE = ClassRules()


@dataclass(frozen=True, slots=True)
class Reach:
    """What one kind of job could ever have.

    Attributes:
        sites: that its class allows, in order.
        where: which nodes of them.
        could_fit: sites on whose nodes, present or to be bought, it fits when they are empty.
        egress: by site, what fetching its data there costs.
        aways: machines that could be bought for it, cheapest first.
    """

    sites: tuple[str, ...]
    where: Where
    could_fit: frozenset[str]
    egress: Mapping[str, MicroUSD]
    aways: tuple[Away, ...]


class Reaches:
    """Reaches of kinds, each worked out once for a decision."""

    def __init__(self, space: Space, capacity: Capacity, rules: QueueRules) -> None:
        self._space = space
        self._capacity = capacity
        self._rules = rules
        self._known: dict[tuple[str, Ask, tuple[str, ...], float], Reach] = {}
        self._largest: dict[tuple[Ask, Where], frozenset[str]] = {}
        self._types: dict[str, list[NodeType]] = {}
        for node_type in capacity.node_types.values():
            self._types.setdefault(node_type.site, []).append(node_type)

    def of(self, kind: Kind) -> Reach:
        """The reach of a kind."""
        key = (kind.data_class, kind.ask, kind.datasets, kind.rung)
        reach = self._known.get(key)
        if reach is None:
            reach = self._known[key] = self._reach(kind)
        return reach

    def _reach(self, kind: Kind) -> Reach:
        allowed = self._rules.classes.get(kind.data_class, _NOWHERE)
        where = Where(Selector(), allowed.spot)
        sites = tuple(sorted(allowed.sites))
        egress = {site: egress_cost(self._rules.datasets, kind.datasets, site) for site in sites}
        return Reach(sites, where, self._could_fit(kind.ask, where) & allowed.sites, egress, self._aways(kind, where))

    def _could_fit(self, ask: Ask, where: Where) -> frozenset[str]:
        known = self._largest.get((ask, where))
        if known is None:
            named = {*self._space.sites, *self._types}
            known = frozenset(site for site in named if self._fits_empty(site, ask, where))
            self._largest[ask, where] = known
        return known

    def _fits_empty(self, site: str, ask: Ask, where: Where) -> bool:
        """Whether a site with every node it may have, all of them empty, holds the whole of ``ask``."""
        meant = worker_nodes(ask, where)
        beside = Where(ask.driver_selector, where.spot)
        room = 0
        # What the driver takes from the workers where it takes least; None while it fits nowhere.
        lost: int | None = None if ask.driver else 0
        for total, count, labels, market in self._machines(site):
            spot_is_fine = where.spot or market is None or market in SAFE
            takes = spot_is_fine and meant.selector.matches(labels)
            each = slots(total, ask.bundle) if takes else 0
            room += count * each
            if count and ask.driver and spot_is_fine and beside.selector.matches(labels) and slots(total, ask.driver):
                left = dict(total)
                take_away(left, ask.driver, 1)
                loss = each - slots(left, ask.bundle) if takes else 0
                lost = loss if lost is None else min(lost, loss)
        return lost is not None and room - lost >= ask.workers

    def _machines(self, site: str) -> Iterator[tuple[Amounts, int, Mapping[str, str], str | None]]:
        """What a site has and may still get: amounts, how many, labels, and the market where there is no choice."""
        present: dict[str, int] = {}
        for index in self._space.sites.get(site, ()):
            room = self._space.rooms[index]
            node_type = room.labels.get(LABEL_NODE_TYPE, "")
            present[node_type] = present.get(node_type, 0) + 1
            yield dict(room.total.items), 1, room.labels, room.market
        for node_type in self._types.get(site, ()):
            more = max(0, node_type.maximum - present.get(node_type.name, 0))
            yield dict(node_type.resources.items), more, node_type.labels, node_type.labels.get(LABEL_MARKET)

    def _aways(self, kind: Kind, where: Where) -> tuple[Away, ...]:
        allowed = self._rules.classes.get(kind.data_class, _NOWHERE).sites - self._rules.home
        found: list[Away] = []
        for offer in self._capacity.offers:
            node_type = self._capacity.node_types.get(offer.node_type)
            if offer.site in allowed and node_type is not None and (where.spot or offer.market in SAFE):
                away = self._away(kind, where, offer, node_type)
                if away is not None:
                    found.append(away)
        return tuple(sorted(found, key=lambda away: (_price_of(away), away.offer)))

    def _away(self, kind: Kind, where: Where, offer: Offer, node_type: NodeType) -> Away | None:
        ask = kind.ask
        machine = dict(node_type.resources.items)
        each = slots(machine, ask.bundle) if _type_suits(node_type, worker_nodes(ask, where)) else 0
        if not ask.workers or not each or (ask.driver and not slots(machine, ask.driver)):
            return None
        nodes = -(-ask.workers // each)
        if ask.driver:
            left = dict(machine)
            take_away(left, ask.bundle, ask.workers - (nodes - 1) * each)
            nodes += 0 if slots(left, ask.driver) else 1
        if nodes > node_type.maximum:
            return None
        per_hour = ask_price(ask, node_type.resources, offer.tariff.per_hour)
        egress = egress_cost(self._rules.datasets, kind.datasets, offer.site)
        cost = None if kind.rung == float("inf") else run_cost(per_hour, kind.rung, egress)
        when, boot_s = self._rules.baseline, offer.boot_seconds
        return Away(offer.site, node_type.name, offer.offer_id, nodes, per_hour, egress, cost, boot_s, when)


def _price_of(away: Away) -> MicroUSD:
    return run_cost(away.per_hour, ASSUMED_RUNTIME_S, away.egress) if away.cost is None else away.cost


def _type_suits(node_type: NodeType, where: Where) -> bool:
    market = node_type.labels.get(LABEL_MARKET)
    return (where.spot or market is None or market in SAFE) and where.selector.matches(node_type.labels)


def ask_price(ask: Ask, machine: Resources, per_hour: MicroUSD) -> MicroUSD:
    """What the share of ``ask`` in machines of one shape costs by the hour."""
    parts = [(ask.bundle, ask.workers), (ask.driver, 1)]
    return sum(
        max((-(-per_hour * units * times // max(1, machine.get(name))) for name, units in part.items), default=0)
        for part, times in parts
    )


def egress_cost(datasets: Mapping[str, DatasetRules], names: Sequence[str], site: str) -> MicroUSD:
    """Micro-USD for fetching data sets to ``site``, once; data that is there, or that nobody prices, is free."""
    known = [datasets[name] for name in names if name in datasets]
    return sum(-(-data.size_bytes * data.egress_per_gb // _GB) for data in known if data.site != site)


def selector_of(sites: Sequence[str], *, spot: bool) -> Selector:
    """Nodes of these sites and, where spot is ruled out, only such as the cloud cannot take back."""
    constraints = [Constraint(LABEL_SITE, Operator.IN, tuple(sorted(sites)))]
    if not spot:
        constraints.append(Constraint(LABEL_MARKET, Operator.IN, tuple(sorted(market.value for market in SAFE))))
    return Selector(tuple(constraints))


def ray_selector(selector: Selector) -> dict[str, str]:
    """The same in Ray's syntax."""
    return {each.key: f"in({','.join(each.values)})" for each in selector.constraints}
