"""Hypothesis strategies for the values the brain thinks in, small enough that everything meets everything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from hypothesis import strategies as st

from autoscaler.core.snapshot import BurstRules, RefusedOffer, Snapshot, Threshold
from fabric.model.decisions import BaselineState, Decision
from fabric.model.demand import AntiAffinity, Demand, Gang, Shape, Strategy
from fabric.model.labels import Constraint, Operator, Selector
from fabric.model.money import BudgetRoom, Tariff
from fabric.model.nodes import Market, Node, NodePhase, NodeType, Offer
from fabric.model.resources import Resources

NOW = 1_000_000.0
HOME = "home"
CLOUDS = ("cloud-a", "cloud-b")
IMPLICIT = "node:__internal_implicit_resource_x"

counts = st.integers(1, 6)


def resources(
    cpus: Sequence[float] = (0.5, 1, 2, 4), gpus: Sequence[float] = (0, 0, 0.5, 1, 2)
) -> st.SearchStrategy[Resources]:
    """Bags as tasks ask for them: always a CPU, sometimes GPUs, memory, a custom or an implicit resource."""
    return st.builds(
        lambda cpu, gpu, more: Resources.of({"CPU": cpu, "GPU": gpu, **more}),
        st.sampled_from(cpus),
        st.sampled_from(gpus),
        st.sampled_from([{}, {}, {}, {"memory": 100.0}, {"X": 1.0}, {IMPLICIT: 1.0}]),
    )


selectors = st.builds(
    lambda key, operator, values: Selector((Constraint(key, operator, tuple(sorted(set(values)))),)),
    st.sampled_from(["zone", "gpu"]),
    st.sampled_from(Operator),
    st.lists(st.sampled_from("abc"), min_size=1, max_size=2),
)


def shapes(apart: str = "") -> st.SearchStrategy[Shape]:
    """Shapes; ``apart`` names the placement group whose bundles must not share a node."""
    mark = (AntiAffinity(apart, "1"),) if apart else ()
    return st.builds(
        lambda bag, picky: Shape(bag, tuple(picky), mark),
        resources(),
        st.one_of(st.just([]), st.just([]), st.lists(selectors, min_size=1, max_size=2)),
    )


demands = st.builds(Demand, shapes(), st.integers(0, 12))


@st.composite
def gangs(draw: st.DrawFn, name: str) -> Gang:
    """One placement group of any strategy."""
    strategy = draw(st.sampled_from(Strategy))
    if strategy is Strategy.STRICT_PACK:
        return Gang(name, (draw(shapes()),), strategy)
    apart = name if strategy is Strategy.STRICT_SPREAD else ""
    bundle = draw(shapes(apart))
    others = draw(st.lists(shapes(apart), max_size=2))
    return Gang(name, (*[bundle] * draw(st.integers(1, 4)), *others), strategy)


@st.composite
def node_types(draw: st.DrawFn, *, priced: bool = False) -> dict[str, NodeType]:
    """Two or three types at home and in two clouds; without ``priced`` some have a minimum."""
    kinds: dict[str, NodeType] = {}
    for site in (HOME, *CLOUDS):
        for key in draw(st.lists(st.sampled_from(["small", "gpu", "big"]), max_size=2, unique=True)):
            bag = draw(resources(cpus=(1, 2, 4, 8, 16), gpus=(0, 1, 2, 8)))
            minimum = 0 if site == HOME or priced else draw(st.sampled_from([0, 0, 0, 1, 2]))
            name = f"{site}.{key}"
            kinds[name] = NodeType(
                name=name,
                site=site,
                resources=bag,
                labels={"zone": draw(st.sampled_from("abc"))},
                minimum=minimum,
                maximum=minimum + draw(st.integers(0, 6)),
                launchable=site != HOME,
                idle_timeout_s=draw(st.sampled_from([None, None, None, 10.0])),
                config_hash=draw(st.sampled_from(["", "", "1"])),
            )
    return kinds


@st.composite
def nodes_of(draw: st.DrawFn, kinds: Mapping[str, NodeType], limit: int = 6) -> tuple[Node, ...]:
    """Nodes of these types in any phase, some of a type that is gone, one of them perhaps the head."""
    found: list[Node] = []
    for number in range(draw(st.integers(0, limit if kinds else 0))):
        kind = kinds[draw(st.sampled_from(sorted(kinds)))]
        running = draw(st.booleans())
        phase = NodePhase.RUNNING if running else draw(st.sampled_from(NodePhase))
        if not kind.launchable and phase is not NodePhase.DEAD:
            phase = NodePhase.RUNNING
        fraction = draw(st.sampled_from([0, 1, 2])) if phase is NodePhase.RUNNING else 2
        free = Resources.from_units((name, value * fraction // 2) for name, value in kind.resources.items)
        found.append(
            Node(
                node_id=f"n{number}",
                node_type=kind.name if draw(st.integers(0, 9)) else "gone",
                phase=phase,
                total=kind.resources,
                free=free,
                labels=kind.labels,
                idle_s=draw(st.sampled_from([0.0, 5.0, 1000.0])) if fraction == 2 else 0.0,
                since=draw(st.sampled_from([None, NOW - 10, NOW - 5000])),
                joined_at=draw(st.sampled_from([None, NOW - 10, NOW - 5000])) if phase is NodePhase.RUNNING else None,
                launched_at=draw(st.sampled_from([None, NOW - 20, NOW - 6000])),
                is_head=number == 0 and draw(st.booleans()),
                config_hash=draw(st.sampled_from([kind.config_hash, kind.config_hash, "0"])),
            )
        )
    return tuple(found)


@st.composite
def offers_for(draw: st.DrawFn, kinds: Mapping[str, NodeType], *, complete: bool = False) -> tuple[Offer, ...]:
    """An offer or two for most types that can be bought; for each of them when ``complete``."""
    found: list[Offer] = []
    for kind in kinds.values():
        if not kind.launchable or (not complete and draw(st.integers(0, 4)) == 0):
            continue
        for market in draw(
            st.lists(st.sampled_from([Market.SPOT, Market.ON_DEMAND]), min_size=1, max_size=2, unique=True)
        ):
            tariff = Tariff(draw(st.integers(1, 40)) * 100_000, draw(st.sampled_from([0, 60, 3600])))
            found.append(Offer(f"{kind.name}/a/{market}", kind.name, kind.site, "a", market, tariff, 60.0))
    return tuple(found)


thresholds = st.builds(
    Threshold,
    for_s=st.sampled_from([0.0, 60.0, 300.0]),
    gpus=st.sampled_from([0.0, 0.5, 2.0, 8.0]),
    cpus=st.sampled_from([0.0, 0.0, 4.0, 16.0]),
)

rules = st.builds(
    BurstRules,
    baseline=st.lists(thresholds, max_size=2).map(tuple),
    close_for_s=st.sampled_from([0.0, 60.0]),
    hold_s=st.sampled_from([0.0, 600.0]),
    idle_s=st.sampled_from([None, 0.0, 120.0]),
    join_deadline_s=st.sampled_from([None, 480.0]),
    pending_idle_s=st.sampled_from([None, 0.0, 30.0]),
    maximum_nodes=st.one_of(st.none(), st.integers(0, 12)),
    terminate_outdated=st.booleans(),
    conserve_gpus=st.booleans(),
)


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    """Any world at all, consistent or not."""
    kinds = draw(node_types())
    nodes = draw(nodes_of(kinds))
    offers = draw(st.one_of(st.just(()), offers_for(kinds)))
    burst = draw(rules)
    since = st.one_of(st.none(), st.sampled_from([NOW - 1000, NOW - 30, NOW, NOW + 5]))
    groups = draw(st.integers(0, 2))
    return Snapshot(
        node_types=kinds,
        nodes=nodes,
        demands=tuple(draw(st.lists(demands, max_size=4))),
        gangs=tuple(draw(gangs(f"pg{number}")) for number in range(groups)),
        constraints=tuple(draw(st.lists(demands, max_size=2))),
        offers=offers,
        refused=tuple(
            RefusedOffer(offer.offer_id, draw(st.sampled_from([NOW - 50, NOW + 50])), draw(st.integers(1, 3)))
            for offer in offers
            if draw(st.integers(0, 3)) == 0
        ),
        rules=burst,
        baseline=BaselineState(
            above_since=tuple(draw(since) for _ in burst.baseline), open_since=draw(since), below_since=draw(since)
        ),
        unneeded_since={node.node_id: NOW - 100 for node in nodes if draw(st.booleans())},
        budgets=tuple(
            draw(
                st.lists(
                    st.builds(
                        BudgetRoom,
                        scope=st.sampled_from(["fabric", "site/cloud-a"]),
                        left=st.integers(-1_000_000, 20_000_000),
                        no_new_launches=st.integers(0, 4).map(lambda n: n == 0),
                        drain=st.integers(0, 4).map(lambda n: n == 0),
                    ),
                    max_size=2,
                    unique_by=lambda room: room.scope,
                )
            )
        ),
        may_leave_to=draw(st.sampled_from([None, None, frozenset(CLOUDS), frozenset({"cloud-a"}), frozenset()])),
        stopping=draw(st.integers(0, 9)) == 0,
    )


def applied(snapshot: Snapshot, decision: Decision) -> Snapshot:
    """The world right after a decision was taken up: launches are asked for and reserved, drained nodes are ending."""
    ended = {drain.node_id for drain in decision.drains}
    nodes = [replace(node, phase=NodePhase.ENDING) if node.node_id in ended else node for node in snapshot.nodes]
    for launch in decision.launches:
        kind = snapshot.node_types[launch.node_type]
        nodes += [
            Node(
                node_id=f"new-{len(nodes)}-{number}",
                node_type=launch.node_type,
                phase=NodePhase.REQUESTED,
                total=kind.resources,
                free=kind.resources,
                labels=kind.labels,
                offer_id=launch.offers[0] if launch.offers else "",
                launched_at=decision.at,
                since=decision.at,
                config_hash=kind.config_hash,
            )
            for number in range(launch.count)
        ]
    return replace(
        snapshot,
        nodes=tuple(nodes),
        baseline=decision.baseline,
        unneeded_since=dict(decision.unneeded_since),
        budgets=tuple(
            replace(room, left=room.left - committed(snapshot, decision, room.scope)) for room in snapshot.budgets
        ),
    )


def committed(snapshot: Snapshot, decision: Decision, scope: str) -> int:
    """Micro-USD that a decision's launches commit in one budget, should each take the dearest of its offers."""
    offers = {offer.offer_id: offer for offer in snapshot.offers}
    total = 0
    for launch in decision.launches:
        costs = [
            offer.tariff.cost(round((offer.boot_seconds + snapshot.rules.hold_s) * 1000))
            for offer in (offers[offer_id] for offer_id in launch.offers)
            if scope in ("fabric", f"site/{offer.site}")
        ]
        total += max(costs, default=0) * launch.count
    return total
