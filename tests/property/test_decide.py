"""Safety properties of the decision, on any world that hypothesis can make up."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from autoscaler.core.decide import decide
from autoscaler.core.policies import policy_named
from autoscaler.core.snapshot import BurstRules, Snapshot, Threshold
from fabric.model.decisions import BaselineState, Decision, DrainMethod
from fabric.model.demand import Demand, Shape
from fabric.model.nodes import Node, NodePhase, NodeType
from fabric.model.resources import Resources
from tests.strategies import NOW, applied, committed, node_types, nodes_of, snapshots

many = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow]
)


def tick(snapshot: Snapshot, now: float = NOW) -> Decision:
    """One decision by the threshold policy."""
    return decide(snapshot, policy_named("threshold"), now)


def bought(decision: Decision) -> int:
    """Nodes that a decision launches."""
    return sum(launch.count for launch in decision.launches)


@many
@given(snapshots(), st.floats(NOW - 100, NOW + 100))
def test_every_world_gets_a_decision_and_the_same_one_twice(snapshot: Snapshot, now: float) -> None:
    assert tick(snapshot, now) == tick(snapshot, now)


@many
@given(snapshots())
def test_nothing_on_prem_and_no_head_is_ever_launched_or_ended(snapshot: Snapshot) -> None:
    decision = tick(snapshot)
    nodes = {node.node_id: node for node in snapshot.nodes}
    for launch in decision.launches:
        assert snapshot.node_types[launch.node_type].launchable
    for drain in decision.drains:
        node = nodes[drain.node_id]
        kind = snapshot.node_types.get(node.node_type)
        assert not node.is_head
        assert kind is None or kind.launchable


@many
@given(snapshots())
def test_no_more_nodes_than_each_type_and_the_whole_may_have(snapshot: Snapshot) -> None:
    decision = tick(snapshot)
    alive = Counter(node.node_type for node in snapshot.nodes if node.phase is not NodePhase.DEAD)
    for launch in decision.launches:
        assert launch.count + alive[launch.node_type] <= snapshot.node_types[launch.node_type].maximum
    if decision.launches and snapshot.rules.maximum_nodes is not None:
        assert bought(decision) + alive.total() <= snapshot.rules.maximum_nodes


@many
@given(snapshots())
def test_work_never_causes_a_launch_where_it_may_not_go(snapshot: Snapshot) -> None:
    snapshot = replace(
        snapshot, node_types={name: replace(kind, minimum=0) for name, kind in snapshot.node_types.items()}
    )
    allowed = snapshot.may_leave_to
    for launch in tick(snapshot).launches:
        assert allowed is None or snapshot.node_types[launch.node_type].site in allowed
        for offer_id in launch.offers:
            assert allowed is None or offer_id.split(".")[0] in allowed


@many
@given(snapshots())
def test_launches_fit_into_every_budget_whichever_of_their_offers_is_taken(snapshot: Snapshot) -> None:
    decision = tick(snapshot)
    sites = {offer.offer_id: offer.site for offer in snapshot.offers}
    for budget in snapshot.budgets:
        spent = committed(snapshot, decision, budget.scope)
        assert spent <= max(0, budget.left)
        if budget.no_new_launches or budget.drain:
            used = {sites[offer_id] for launch in decision.launches for offer_id in launch.offers}
            assert not used if budget.scope == "fabric" else budget.scope.removeprefix("site/") not in used


@many
@given(snapshots())
def test_an_offer_that_refused_is_not_tried_before_its_time(snapshot: Snapshot) -> None:
    resting = {refusal.offer_id for refusal in snapshot.refused if refusal.until > NOW}
    for launch in tick(snapshot).launches:
        assert not resting & set(launch.offers)
        assert launch.offers or not snapshot.offers


@many
@given(snapshots())
def test_a_launch_that_is_pending_is_not_bought_again(snapshot: Snapshot) -> None:
    """With work left over, another order may find room for more of it; with none left, nothing is bought again."""
    used = tuple(n for n in snapshot.nodes if n.phase is NodePhase.RUNNING and n.free != n.total)
    generous = {name: replace(kind, maximum=kind.maximum + 20) for name, kind in snapshot.node_types.items()}
    snapshot = replace(snapshot, node_types=generous, nodes=used, rules=BurstRules(), budgets=(), stopping=False)
    first = tick(snapshot)
    if all(refusal.subject == "queue" for refusal in first.refusals):
        assert bought(tick(applied(snapshot, first))) == 0


@many
@given(snapshots())
def test_buying_for_the_same_work_comes_to_rest(snapshot: Snapshot) -> None:
    for _ in range(3):
        snapshot = applied(snapshot, tick(snapshot))
    assert bought(tick(snapshot)) == 0


@many
@given(snapshots(), st.integers(0, 1), st.sampled_from(["gpus", "cpus", "for_s"]), st.sampled_from([1.0, 50.0]))
def test_raising_a_threshold_never_buys_more(snapshot: Snapshot, index: int, field: str, more: float) -> None:
    baseline = snapshot.rules.baseline
    assume(index < len(baseline))
    raised = replace(baseline[index], **{field: getattr(baseline[index], field) + more})
    stricter = replace(
        snapshot, rules=replace(snapshot.rules, baseline=(*baseline[:index], raised, *baseline[index + 1 :]))
    )
    assert bought(tick(stricter)) <= bought(tick(snapshot))


@many
@given(snapshots())
def test_a_gang_is_placed_whole_or_nothing_is_bought_for_it(snapshot: Snapshot) -> None:
    lone = replace(
        snapshot,
        demands=(),
        constraints=(),
        gangs=snapshot.gangs[:1],
        nodes=(),
        node_types={name: replace(kind, minimum=0) for name, kind in snapshot.node_types.items()},
    )
    assume(lone.gangs)
    decision = tick(lone)
    launched = [snapshot.node_types[launch.node_type] for launch in decision.launches for _ in range(launch.count)]
    if not launched:
        return
    wanted = sum(bundle.resources.get("CPU") for bundle in lone.gangs[0].bundles)
    assert sum(kind.resources.get("CPU") for kind in launched) >= wanted
    if lone.gangs[0].bundles[0].anti_affinity:
        assert len(launched) >= len(lone.gangs[0].bundles)
    assert decision.infeasible_gangs == ()


@many
@given(snapshots())
def test_a_dead_on_prem_node_buys_nothing_by_itself(snapshot: Snapshot) -> None:
    idle = replace(snapshot, demands=(), gangs=(), constraints=())
    dead = replace(
        idle,
        nodes=tuple(
            replace(node, phase=NodePhase.DEAD)
            if node.node_type in snapshot.node_types and not snapshot.node_types[node.node_type].launchable
            else node
            for node in idle.nodes
        ),
    )
    minimums = {name for name, kind in snapshot.node_types.items() if kind.minimum}
    assert all(launch.node_type in minimums for launch in tick(dead).launches)


@many
@given(snapshots())
def test_no_node_is_drained_twice_and_methods_come_least_disruptive_first(snapshot: Snapshot) -> None:
    drains = tick(snapshot).drains
    assert len({drain.node_id for drain in drains}) == len(drains)
    order = [list(DrainMethod).index(drain.method) for drain in drains]
    assert order == sorted(order)
    assert all(drain.reasons for drain in drains)


@many
@given(snapshots())
def test_a_node_is_not_given_back_as_idle_before_its_hold_time_or_below_its_minimum(snapshot: Snapshot) -> None:
    assume(not snapshot.stopping)
    decision = tick(snapshot)
    nodes = {node.node_id: node for node in snapshot.nodes}
    ended: Counter[str] = Counter()
    for drain in decision.drains:
        node = nodes[drain.node_id]
        ended[node.node_type] += 1
        if drain.method is DrainMethod.IDLE:
            assert node.joined_at is None or NOW - node.joined_at >= snapshot.rules.hold_s
    standing = Counter(
        node.node_type
        for node in snapshot.nodes
        if node.phase in (NodePhase.PLANNED, NodePhase.REQUESTED, NodePhase.BOOTING, NodePhase.RUNNING)
    )
    for name, kind in snapshot.node_types.items():
        idled = sum(
            1
            for drain in decision.drains
            if drain.method in (DrainMethod.IDLE, DrainMethod.CANCEL) and nodes[drain.node_id].node_type == name
        )
        if idled:
            assert standing[name] - ended[name] >= kind.minimum


@many
@given(snapshots())
def test_a_fabric_that_stops_buys_nothing_and_gives_everything_back(snapshot: Snapshot) -> None:
    decision = tick(replace(snapshot, stopping=True))
    assert decision.launches == ()
    given_back = {drain.node_id for drain in decision.drains}
    for node in snapshot.nodes:
        kind = snapshot.node_types.get(node.node_type)
        ours = not node.is_head and (kind is None or kind.launchable) and node.phase is not NodePhase.ENDING
        assert (node.node_id in given_back) is ours


@many
@given(node_types(), st.data())
def test_work_that_fits_idle_home_nodes_buys_nothing(kinds: dict[str, NodeType], data: st.DataObject) -> None:
    home = [kind for kind in kinds.values() if not kind.launchable]
    assume(home)
    nodes = tuple(
        Node(f"h{n}", kind.name, NodePhase.RUNNING, kind.resources, kind.resources, labels=kind.labels)
        for n, kind in enumerate(home)
    )
    cpus = sum(int(kind.resources.cpus) for kind in home)
    wanted = data.draw(st.integers(1, cpus))
    demands = (Demand(Shape(Resources.of({"CPU": 1})), wanted),)
    kinds = {name: replace(kind, minimum=0) for name, kind in kinds.items()}
    decision = tick(Snapshot(node_types=kinds, nodes=nodes, demands=demands))
    assert decision.launches == ()
    assert decision.depth.requests == 0


@many
@given(node_types(), st.data(), st.floats(0, 500))
def test_the_burst_opens_only_after_its_time_and_closes_only_after_its_time(
    kinds: dict[str, NodeType], data: st.DataObject, step: float
) -> None:
    snapshot = Snapshot(
        node_types=kinds,
        nodes=data.draw(nodes_of(kinds)),
        demands=(Demand(Shape(Resources.of({"GPU": 1})), 4),),
        rules=BurstRules(baseline=(Threshold(for_s=300.0, gpus=1.0),), close_for_s=120.0),
    )
    first = tick(snapshot)
    assert first.baseline.open_since is None
    later = tick(replace(snapshot, baseline=first.baseline), NOW + step)
    if first.depth.gpus >= 1:
        assert (later.baseline.open_since is not None) is (step >= 300.0)
    opened = BaselineState(above_since=(NOW - 300,), open_since=NOW - 100)
    quiet = replace(snapshot, demands=(), baseline=opened)
    hush = tick(quiet)
    assert hush.baseline.open_since == NOW - 100
    closed = tick(replace(quiet, baseline=hush.baseline), NOW + step)
    assert (closed.baseline.open_since is None) is (step >= 120.0)
